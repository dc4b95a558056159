import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from website.stage import MARK, address, stage

_LINK = re.compile(r"\]\(([^)\s]+)\)")
SETTINGS = (ROOT / "mkdocs.yml").read_text()


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "docs"
    stage(ROOT, out)
    return out


def relative_links(page: Path) -> Iterator[str]:
    prose = re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL))
    yield from (link for link in _LINK.findall(prose) if not re.match(r"[a-z]+:|#", link))


def test_every_link_of_every_page_holds_on_the_site(staged: Path) -> None:
    pages = sorted(staged.rglob("*.md"))
    assert len(pages) > 150
    broken = [
        (str(page.relative_to(staged)), link)
        for page in pages
        for link in relative_links(page)
        if not (page.parent / link.partition("#")[0]).exists()
    ]
    assert broken == []


def test_pages_from_outside_of_docs_are_there_with_what_they_show(staged: Path) -> None:
    for name in ("CONTRIBUTING.md", "benchmarks/README.md", "benchmarks/learner_cpu.png", "examples/first_walk.ipynb"):
        assert (staged / name).is_file(), name
    assert (
        "(../experiments/exported_policies.md#why-pytorch-takes-so-long)"
        in (staged / "benchmarks" / "README.md").read_text()
    )


def test_every_page_is_in_the_navigation(staged: Path) -> None:
    """But for the modules', which are in the table of their room."""
    listed = set(re.findall(r"^ +- (?:[^:\n]+: )?([\w/.-]+\.md)$", SETTINGS, re.MULTILINE))
    pages = {str(page.relative_to(staged)) for page in staged.rglob("*.md")}
    assert listed <= pages
    assert {page for page in pages - listed if not re.fullmatch(r"biped/\w+/\w+\.md", page)} == set()
    assert {f"biped/{init.parent.name}/index.md" for init in (ROOT / "biped").glob("*/__init__.py")} <= listed


def test_a_folder_of_somebody_elses_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine.md").write_text("mine")
    with pytest.raises(SystemExit, match="not made by this program"):
        stage(ROOT, tmp_path)
    assert (tmp_path / "mine.md").read_text() == "mine"


def test_what_is_gone_from_the_repository_is_gone_from_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "docs"
    stage(ROOT, out)
    (out / "old.md").write_text("old")
    stage(ROOT, out)
    assert (out / MARK).is_file()
    assert not (out / "old.md").exists()


def test_the_repositorys_address_is_read_from_the_settings() -> None:
    assert address(SETTINGS.replace('repo_url: ""', 'repo_url: "https://x.org/biped"')) == "https://x.org/biped"
    assert address("repo_url: https://x.org/biped  # ours\n") == "https://x.org/biped"
    assert address('repo_url: ""  # none\n') == address("site_name: x\n") == ""
