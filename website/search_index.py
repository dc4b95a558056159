"""Shorten the search index of a built site, which every page loads.

    python -m website.search_index site

Of the modules' pages, classes and functions are found, by their names and the first paragraph on each; their methods
and attributes are not. All other pages are found by every word.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from website.modules import FACES

_SIGNATURE = re.compile(r"^\s*<pre>.*?</pre>", re.DOTALL)
_TAG = re.compile(r"<[^>]+>")
_DEEPEST = {"biped/": 4, **{f"{name}/": 2 for name in FACES}}
"""Parts of the longest name that is found: biped, room, module, class or function; of a face, what it exports."""


def shortened(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the entries of a search index with less of what is on the modules' pages."""
    kept = []
    for entry in entries:
        page, _, anchor = entry["location"].partition("#")
        parts = next((parts for start, parts in _DEEPEST.items() if page.startswith(start)), None)
        if parts is None:
            kept.append(entry)
        elif anchor.count(".") < parts:
            kept.append({**entry, "text": _first_paragraph(entry["text"])})
    return kept


def _first_paragraph(text: str) -> str:
    first = _SIGNATURE.sub("", text).strip().partition("</p>")[0]
    return " ".join(_TAG.sub("", first).split())


def main(site: Path) -> None:
    """Shorten the index of a site, in place."""
    file = site / "search" / "search_index.json"
    index = json.loads(file.read_text(encoding="utf-8"))
    index["docs"] = shortened(index["docs"])
    file.write_text(json.dumps(index, separators=(",", ":")), encoding="utf-8")
    print(f"search index: {len(index['docs'])} entries, {file.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
