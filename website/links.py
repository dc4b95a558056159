"""Links between pages, on the site as on GitHub.

A page of the repository links to files beside it, also outside of `docs/`. On the site a page keeps its path below
`docs/`, or below the repository, and a module's page stands where its file does. What has no page there leads to the
repository's address; as long as there is none, the text stays and the link goes.
"""

import posixpath
import re
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

_FENCE = r"^(?P<fence>`{3,}).*?^(?P=fence)`*$"
_LINK = r"(?P<picture>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\](?:\([^)]*\))?)*)\]\((?P<target>[^)\s]+)\)"
_PIECES = re.compile(rf"{_FENCE}|{_LINK}|`[^`\n]+`", re.MULTILINE | re.DOTALL)
"""Code, which stays as it is, and links, which may have code in their text."""
_ELSEWHERE = re.compile(r"[a-z]+:|#|//")


@dataclass(frozen=True)
class Links:
    """What a link of a page becomes on the site."""

    root: Path
    """The repository."""
    docs: Path
    """The folder whose files are at the site's root."""
    pages: Container[str]
    """Paths on the site of all that has a place there, as sources: `mdp/gait.md`."""
    repo_url: str = ""
    """The repository's address; empty as long as it has none."""

    def rewrite(self, text: str, source: Path) -> str:
        """Return a page's text with the links that its place on the site needs.

        Args:
            text: the page, as Markdown.
            source: its file in the repository.
        """
        return _PIECES.sub(lambda found: self._as_on_site(found, source), text)

    def uri(self, path: Path) -> str:
        """Return where on the site a file of the repository is, or would be."""
        path = path.relative_to(self.docs if path.is_relative_to(self.docs) else self.root)
        if path == Path("README.md"):
            return "index.md"
        names = path.with_suffix(".md").as_posix() if path.suffix == ".py" else f"{path.as_posix()}/index.md"
        return names if names in self.pages else path.as_posix()

    def _as_on_site(self, found: re.Match[str], source: Path) -> str:
        target = found["target"]
        if target is None or _ELSEWHERE.match(target):
            return found[0]
        name, _, anchor = target.partition("#")
        path = Path(posixpath.normpath(source.parent / name))
        text = self._text_as_on_site(found, source)
        if not path.is_relative_to(self.root):
            return found[0]  # MkDocs says that it leads nowhere
        uri = self.uri(path)
        if uri in self.pages:
            to = posixpath.relpath(uri, posixpath.dirname(self.uri(source)) or ".")
            return f"{found['picture']}[{text}]({to}{'#' + anchor if anchor and path.suffix != '.py' else ''})"
        if not path.exists():
            return found[0]
        if not self.repo_url:
            return text
        kind = "tree" if path.is_dir() else "blob"
        address = f"{self.repo_url.rstrip('/')}/{kind}/main/{path.relative_to(self.root).as_posix()}"
        return f"{found['picture']}[{text}]({address})"

    def _text_as_on_site(self, found: re.Match[str], source: Path) -> str:
        """Return a link's text; a picture may be in it."""
        return re.sub(_LINK, lambda inner: self._as_on_site(inner, source), found["text"])
