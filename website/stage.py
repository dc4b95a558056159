"""Lay out the pages of the site in a folder, for MkDocs to build.

    python -m website.stage build/docs

The pages of `docs/`, those outside of it, and one for each module, with links that hold there. What was in the folder
before is replaced.
"""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from website import modules
from website.links import Links

ROOT = Path(__file__).resolve().parents[1]
FROM_OUTSIDE = (
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "benchmarks/README.md",
    "benchmarks/*.png",
    "assets/*/README.md",
    "examples/*.py",
    "examples/*.ipynb",
)
"""Files outside of `docs/` that the site has too."""
MARK = ".staged"
"""An empty file in a folder that this program has made, and may replace."""
_FRONT = "---\nhide: [navigation, toc]\n---\n\n"
"""For the first page, which is shown without what is beside the others."""


def stage(root: Path, out: Path, repo_url: str = "") -> None:
    """Lay out the site's pages.

    Args:
        root: the repository.
        out: the folder for them, which may be there if this function made it.
        repo_url: the repository's address; empty if it has none.

    Raises:
        SystemExit: the folder is there, and this function did not make it.
    """
    if out.exists() and not (out / MARK).is_file():
        raise SystemExit(f"website.stage: {out} exists and was not made by this program: name another folder")
    shutil.rmtree(out, ignore_errors=True)
    made = modules.pages(root)
    links = Links(root, root / "docs", frozenset(made), repo_url)
    files = {links.uri(path): path for path in _files(root)}
    links = Links(root, root / "docs", frozenset([*made, *files]), repo_url)
    for uri, path in files.items():
        target = out / uri
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            text = links.rewrite(path.read_text(encoding="utf-8"), path)
            target.write_text(_FRONT * (uri == "index.md") + text, encoding="utf-8")
        else:
            shutil.copyfile(path, target)
    for uri, text in made.items():
        (out / uri).parent.mkdir(parents=True, exist_ok=True)
        (out / uri).write_text(text, encoding="utf-8")
    (out / MARK).touch()


def address(settings: str) -> str:
    """Return the repository's address in the text of mkdocs.yml; empty if it has none."""
    found = re.search(r'^repo_url: *"?([^"\s#]*)', settings, re.MULTILINE)
    return found[1] if found else ""


def _files(root: Path) -> Iterator[Path]:
    yield from (path for path in sorted((root / "docs").rglob("*")) if path.is_file())
    for pattern in FROM_OUTSIDE:
        yield from sorted(root.glob(pattern))


if __name__ == "__main__":
    stage(ROOT, Path(sys.argv[1]), address((ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
