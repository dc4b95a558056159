from pathlib import Path

import pytest

from tests.conftest import ROOT
from website.links import Links

PAGES = frozenset({"gait.md", "experiments/robots.md", "CONTRIBUTING.md", "biped/mdp/gait.md", "biped/mdp/index.md"})
DOCS = ROOT / "docs"


def rewritten(text: str, source: Path = DOCS / "gait.md", repo_url: str = "") -> str:
    return Links(ROOT, DOCS, PAGES, repo_url).rewrite(text, source)


@pytest.mark.parametrize(
    ("source", "link", "on_site"),
    [
        ("docs/gait.md", "experiments/robots.md#legs", "experiments/robots.md#legs"),
        ("docs/experiments/robots.md", "../gait.md", "../gait.md"),
        ("docs/gait.md", "../CONTRIBUTING.md#tests", "CONTRIBUTING.md#tests"),
        ("CONTRIBUTING.md", "docs/gait.md", "gait.md"),
        ("docs/gait.md", "../biped/mdp/gait.py", "biped/mdp/gait.md"),
        ("docs/experiments/robots.md", "../../biped/mdp", "../biped/mdp/index.md"),
        ("docs/gait.md", "https://x.org/a.md", "https://x.org/a.md"),
        ("docs/gait.md", "#legs", "#legs"),
    ],
)
def test_a_link_leads_to_the_same_page_from_its_place_on_the_site(source: str, link: str, on_site: str) -> None:
    assert rewritten(f"See [`it`]({link}).", ROOT / source) == f"See [`it`]({on_site})."


def test_a_file_without_a_page_is_at_the_repositorys_address_or_plain_text() -> None:
    text = "[the arrows](../tests/architecture.py), [`recipes`](../assets/recipes)"
    assert rewritten(text) == "the arrows, `recipes`"
    address = "https://x.org/biped"
    arrows, recipes = f"{address}/blob/main/tests/architecture.py", f"{address}/tree/main/assets/recipes"
    assert rewritten(text, repo_url=f"{address}/") == f"[the arrows]({arrows}), [`recipes`]({recipes})"


def test_a_link_that_leads_nowhere_stays_for_the_build_to_fail() -> None:
    text = "[a](nothing.md) ![b](../none.png) [c](../../outside.md)"
    assert rewritten(text) == text


def test_code_is_no_link_and_a_picture_may_be_one() -> None:
    code = "`[a](../biped/mdp/gait.py)`\n\n```python\nx[0](../biped/mdp/gait.py)\n```\n"
    assert rewritten(code) == code
    assert rewritten("[![walks](gait.md)](../biped/mdp)") == "[![walks](gait.md)](biped/mdp/index.md)"
