"""What comes with the project, robots and policies, found in a checkout and in an installed wheel alike.

In a checkout it is in `assets/`. A wheel has the same files inside the package, as `biped/assets/`. Names such as
`assets/strider/robot.json`, which the documentation types and configurations hold, mean the same file in both.
"""

import contextlib
import importlib.metadata
import tomllib
from pathlib import Path

from biped.base.files import REPOSITORY

PROJECT = "biped-walking"
"""Name of this project where packages are installed from."""
_NAME, _PACKED = "assets", REPOSITORY / "biped" / "assets"
IS_INSTALLED = _PACKED.is_dir()
"""Whether this is an installed wheel; if not, it is a checkout, where an editable installation leads, too."""
ASSETS = _PACKED if IS_INSTALLED else REPOSITORY / _NAME
"""The folder of what comes with the project."""


def found(path: Path) -> Path:
    """Return a path that a person typed; where there is no such file, `assets/...` is what comes with the project."""
    return path if path.exists() else _packed(path) or path


def located(path: Path) -> Path:
    """Return where a path of the configuration leads.

    A relative one starts at the root of the checkout. An installed wheel has no such root: it starts at the current
    folder there, but for `assets/...`.
    """
    return _packed(path) or (Path.cwd() if IS_INSTALLED else REPOSITORY) / path


def as_stored(path: Path) -> str:
    """Return a path as the configuration stores it, so that `located` finds it: relative if it is the project's own."""
    with contextlib.suppress(RuntimeError):  # a link to itself; who opens it says so
        path = path.resolve()
    if path.is_relative_to(ASSETS):
        return str(_NAME / path.relative_to(ASSETS))
    return str(path.relative_to(REPOSITORY) if not IS_INSTALLED and path.is_relative_to(REPOSITORY) else path)


def own_name(file: Path) -> Path | None:
    """Return the path of a source file of this project from its root; None for other files."""
    if not file.is_relative_to(REPOSITORY):
        return None
    name = file.relative_to(REPOSITORY)
    is_ours = "site-packages" not in name.parts and (not IS_INSTALLED or name.parts[0].startswith("biped"))
    return name if is_ours else None


def version() -> str | None:
    """Return the version of these sources, None where it is unknown; pip's record of a checkout may be outdated."""
    try:
        if IS_INSTALLED:
            return importlib.metadata.version(PROJECT)
        return tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    except (OSError, ValueError, KeyError, importlib.metadata.PackageNotFoundError):
        return None


def _packed(path: Path) -> Path | None:
    """Return the existing file or folder of the project that a name such as assets/strider means."""
    if path.parts[:1] != (_NAME,):
        return None
    packed = ASSETS.joinpath(*path.parts[1:])
    return packed if packed.exists() else None
