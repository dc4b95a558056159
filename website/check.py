"""Check a built site: links that lead nowhere, pictures without words, pages that weigh too much.

    python -m website.check site

Exit codes: 0 fine, 1 something is wrong, a line each.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

HEAVIEST_BYTES = 1_000_000
"""Limit of a page with the styles, scripts and pictures that it loads."""
_LOADED = {"img": "src", "script": "src", "source": "srcset", "video": "poster"}
"""Elements that load a file by themselves, with the attribute that names it; of `link` some do."""
_LOADED_LINKS = {"stylesheet", "icon"}


@dataclass
class _Reader(HTMLParser):
    """What a page names."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    wordless: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect one element."""
        has = {name: value or "" for name, value in attrs}
        self.ids.update(has[name] for name in ("id", "name") if has.get(name))
        if tag == "a" and "href" in has:
            self.links.append(has["href"])
        if tag == "link" and _LOADED_LINKS & set(has.get("rel", "").split()):
            self.loaded.append(has["href"])
        if has.get(_LOADED.get(tag, "")):
            self.loaded.append(has[_LOADED[tag]])
        if tag == "img" and not has.get("alt"):
            self.wordless.append(has.get("src", ""))


@dataclass(frozen=True)
class BuiltPage:
    """One page of a site."""

    site: Path
    """The folder of the site."""
    path: Path
    """The page's file."""

    @cached_property
    def reader(self) -> _Reader:
        """What the page names."""
        reader = _Reader()
        reader.feed(self.path.read_text(encoding="utf-8"))
        return reader

    def target(self, link: str) -> tuple[Path, str] | None:
        """Return the file and the anchor that a link leads to; None if it leads out of the site."""
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            return None
        name = unquote(parts.path)
        base = self.site if name.startswith("/") else self.path.parent
        file = (base / name.lstrip("/")).resolve() if name else self.path
        return (file / "index.html" if file.is_dir() else file), unquote(parts.fragment)

    def weight_bytes(self) -> int:
        """Return what a browser loads for the page, each file once; the largest alternative of a picture counts."""
        files = {found[0] for link in self.reader.loaded if (found := self.target(link)) is not None}
        return self.path.stat().st_size + sum(file.stat().st_size for file in files if file.is_file())


def problems(site: Path, heaviest_bytes: int = HEAVIEST_BYTES) -> Iterator[str]:
    """Yield a line for everything that is wrong with a built site."""
    site = site.resolve()
    pages = {path: BuiltPage(site, path) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        name = path.relative_to(site)
        for link in (*page.reader.links, *page.reader.loaded):
            found = page.target(link)
            if found is None:
                continue
            file, anchor = found
            if not file.is_file() or not file.is_relative_to(site):
                yield f"{name}: {link} leads nowhere"
            elif anchor and file in pages and anchor not in pages[file].reader.ids:
                yield f"{name}: {link} has no such anchor"
        for picture in page.reader.wordless:
            yield f"{name}: the picture {picture} has no words"
        if (weight := page.weight_bytes()) > heaviest_bytes:
            yield f"{name}: weighs {weight / 1e6:.2f} MB with what it loads, of {heaviest_bytes / 1e6:.2f} MB"


def main(site: Path) -> int:
    """Print what is wrong with a site, and its heaviest page; return the exit code."""
    wrong = list(problems(site))
    pages = [BuiltPage(site.resolve(), path) for path in site.resolve().rglob("*.html")]
    if not pages:
        wrong.append(f"{site}: there is no page")
    else:
        heaviest = max(pages, key=BuiltPage.weight_bytes)
        name = heaviest.path.relative_to(heaviest.site)
        print(f"{len(pages)} pages, the heaviest {name}: {heaviest.weight_bytes() / 1e6:.2f} MB with what it loads")
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
