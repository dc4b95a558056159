"""Pages of the modules: the public faces at the root, and every room of `biped/`.

What a page says is the module's docstrings; mkdocstrings reads them without importing anything.
"""

import ast
from collections.abc import Mapping
from pathlib import Path

FACES = ("biped_config", "biped_env", "wandb_callback")
"""Modules at the root that are meant for other people's code."""
_IN_FULL = ("biped_env", "wandb_callback")
"""Faces whose page describes what they have from the rooms; the other names where it is described."""

_PAGE = """\
# {name}

{above}

::: {name}
"""
_ALONE = "---\nhide: [navigation]\n---\n\n"
"""Front matter of modules in rooms, which are not in the navigation beside their page."""
_MEMBERS = """\
    options:
      members: [{members}]
"""
_FIRST = """\
# Python

Three modules are meant for your own code: [how to use them](running.md#from-your-own-code). Behind them are twelve
rooms: [what each is for](architecture.md#the-rooms). These pages are made of the docstrings.

## For your own code

| module | what it is |
|---|---|
{faces}

## Rooms

| room | what it is |
|---|---|
{rooms}
"""


def pages(root: Path) -> dict[str, str]:
    """Return the text of each page by its path on the site."""
    found = {f"{name}.md": _face(root, name) for name in FACES}
    for room, modules in _rooms(root).items():
        rows = "\n".join(_row(path.stem, path, f"{path.stem}.md") for path in modules)
        init = root / "biped" / room / "__init__.py"
        head = f"# biped.{room}\n\n{_docstring(init)}\n\n| module | what it is |\n|---|---|\n"
        found[f"biped/{room}/index.md"] = f"{head}{rows}\n"
        for path in modules:
            above = f"[Python](../../python.md) / [biped.{room}](index.md)"
            text = _PAGE.format(name=f"biped.{room}.{path.stem}", above=above)
            found[f"biped/{room}/{path.stem}.md"] = _ALONE + text
    faces = "\n".join(_row(name, root / f"{name}.py", f"{name}.md") for name in FACES)
    inits = {room: root / "biped" / room / "__init__.py" for room in _rooms(root)}
    rooms = "\n".join(_row(room, path, f"biped/{room}/index.md") for room, path in inits.items())
    found["python.md"] = _FIRST.format(faces=faces, rooms=rooms)
    return found


def _face(root: Path, name: str) -> str:
    """Return the page of a face, with all that it exports."""
    tree = ast.parse((root / f"{name}.py").read_text(encoding="utf-8"))
    exported = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    homes = {
        alias.name: node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    elsewhere = [] if name in _IN_FULL else [item for item in exported if item in homes]
    shown = [item for item in exported if item not in elsewhere]
    text = _PAGE.format(name=name, above="[Python](python.md)") + _MEMBERS.format(members=", ".join(shown))
    if not elsewhere:
        return text
    rows = "\n".join(_exported(item, homes[item]) for item in elsewhere)
    return f"{text}\n## From the rooms\n\n| name | defined in |\n|---|---|\n{rows}\n"


def _exported(name: str, home: str) -> str:
    page = f"{home.replace('.', '/')}.md"
    return f"| [`{name}`]({page}#{home}.{name}) | [`{home}`]({page}) |"


def _rooms(root: Path) -> Mapping[str, list[Path]]:
    """Return the modules of each room."""
    inits = sorted((root / "biped").glob("*/__init__.py"))
    return {init.parent.name: sorted(set(init.parent.glob("*.py")) - {init}) for init in inits}


def _row(name: str, path: Path, target: str) -> str:
    first = _docstring(path).partition("\n\n")[0].replace("\n", " ").replace("|", "\\|")
    return f"| [`{name}`]({target}) | {first} |"


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
