"""Measures the house: rooms, arrows between them, and how long files and functions are.

    python -m tests.architecture            of this checkout
    python -m tests.architecture ../before  of another one

`tests/test_architecture.py` judges what is measured here.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "biped"
COMMANDS = f"{PACKAGE}.commands"
"""The folder of small commands, which `biped.__main__` puts together."""

ROOMS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        room: frozenset(may_know.split())
        for room, may_know in {
            "base": "",
            "ppo": "",
            "config": "base",
            "robot": "base config",
            "runs": "base config",
            "sim": "base config robot",
            "mdp": "config robot",
            "env": "config robot mdp sim",
            "eval": "base config robot mdp env",
            "deploy": "base config mdp env ppo",
            "view": "base config robot mdp sim env eval runs",
            "train": "base config mdp env eval runs ppo",
        }.items()
    }
)
"""Each room under `biped/`, and the rooms that it may import."""


@dataclass(frozen=True)
class Import:
    """One module that another one imports."""

    name: str
    """The module, such as biped.mdp.gait."""
    line: int
    """Where."""


@dataclass(frozen=True)
class Source:
    """One module of the application."""

    name: str
    """Such as biped.mdp.gait."""
    tree: ast.Module
    """What is in it."""
    lines: int
    """How long it is."""

    @property
    def room(self) -> str | None:
        """The room that it is in; None for a door, and for what lies loose in the package."""
        parts = self.name.split(".")
        return parts[1] if parts[0] == PACKAGE and len(parts) > 2 and not self.is_door else None

    @property
    def is_door(self) -> bool:
        """It is at the root, or one of the package's own commands."""
        own = (f"{PACKAGE}.__main__", COMMANDS)
        return not self.name.startswith(f"{PACKAGE}.") or self.name.startswith(own)

    def imports(self) -> Iterator[Import]:
        """Yield every module that is imported, wherever the statement is, `importlib.import_module("...")` included."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (Import(alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name}:{node.lineno}: imports are absolute"
                assert node.module
                inner = [f"{node.module}.{alias.name}" for alias in node.names]
                yield from (Import(name if is_package(node.module) else node.module, node.lineno) for name in inner)
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    yield Import(first.value, node.lineno)

    def functions(self) -> Iterator[tuple[str, int]]:
        """Yield each function with its number of lines."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def is_package(name: str) -> bool:
    """Say whether a name is the package's own or a room's, whose members are modules."""
    parts = name.split(".")
    return parts[0] == PACKAGE and len(parts) <= 2


def sources(root: Path = ROOT) -> list[Source]:
    """Read the modules at the root and in the package."""
    found = []
    for path in sorted([*root.glob("*.py"), *(root / PACKAGE).rglob("*.py")]):
        parts = path.relative_to(root).with_suffix("").parts
        text = path.read_text(encoding="utf-8")
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Source(name, ast.parse(text), len(text.splitlines())))
    return found


def room_of(module: str) -> str | None:
    """Return the room that a module is in, None where it is none of ours."""
    parts = module.split(".")
    return parts[1] if parts[0] == PACKAGE and len(parts) > 1 else None


def arrows(modules: list[Source]) -> dict[tuple[str, str], list[str]]:
    """Return from which room to which there are imports, with the modules and lines that have them."""
    found: dict[tuple[str, str], list[str]] = {}
    for source in modules:
        for item in source.imports():
            to = room_of(item.name)
            if source.room is not None and to is not None and to != source.room:
                found.setdefault((source.room, to), []).append(f"{source.name}:{item.line} imports {item.name}")
    return found


def importers_of_doors(modules: list[Source]) -> list[str]:
    """Return which modules in the package import one at the root."""
    doors = {source.name for source in modules if source.is_door}
    return sorted({s.name for s in modules if not s.is_door and any(item.name in doors for item in s.imports())})


def loose(modules: list[Source]) -> list[str]:
    """Return the modules of the package that are in no room."""
    return [s.name for s in modules if not s.is_door and s.room is None and s.name.count(".") == 1 and not _is_init(s)]


def _is_init(source: Source) -> bool:
    return source.name.split(".")[-1] in ROOMS or source.name == PACKAGE


def main() -> None:
    """Print the figures."""
    modules = sources(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT)
    rooms = sorted({source.room for source in modules if source.room})
    functions = sorted(((n, s.name, f) for s in modules for f, n in s.functions()), reverse=True)
    longest = max(modules, key=lambda source: source.lines)
    median = sorted(source.lines for source in modules)[len(modules) // 2]
    print(f"modules: {len(modules)}, {sum(source.lines for source in modules):,} lines, median {median}")
    print(f"rooms: {len(rooms)}: {', '.join(rooms)}")
    print(f"loose modules: {len(loose(modules))}")
    print(f"arrows from room to room: {len(arrows(modules))}")
    print(f"modules of the package that import a door: {len(importers_of_doors(modules))}")
    print(f"longest file: {longest.name}, {longest.lines} lines")
    print(f"longest function: {functions[0][1]}.{functions[0][2]}, {functions[0][0]} lines")
    print(f"median function: {functions[len(functions) // 2][0]} lines")


if __name__ == "__main__":
    main()
