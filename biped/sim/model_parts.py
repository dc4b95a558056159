"""The files that a robot's model is made of."""

import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from biped.base.errors import MachineError, UsageError, first_line
from biped.robot.model import is_urdf
from biped.sim.mujoco_file import find_mesh

_FOLDERS = ("meshdir", "texturedir", "assetdir")
_FILES = ("file", "filename", "fileup", "filedown", "fileleft", "fileright", "filefront", "fileback")


def model_parts(file: Path, *, for_others: bool = True) -> list[Path]:
    """Return a model file and all files that it refers to and that are there, without repetition.

    Args:
        file: an MJCF or a URDF.
        for_others: whether another machine is to have them.

    Raises:
        UsageError: `for_others`, and it refers to a file by an absolute path, which no other machine has.
        MachineError: it cannot be read.
    """
    found = _of_urdf(file, for_others) if is_urdf(file) else _of_mjcf(file, _Folders(file.parent, for_others))
    return list(dict.fromkeys([_plain(file), *map(_plain, found)]))


def _of_urdf(file: Path, for_others: bool) -> Iterator[Path]:
    for name in _references(_parse(file)):
        if (mesh := find_mesh(_allowed(name, file, for_others), file)) is not None:
            yield mesh


class _Folders:
    """Where an MJCF and what it includes look for their files."""

    def __init__(self, top: Path, for_others: bool) -> None:
        self.top, self.for_others = top, for_others
        self.named: dict[str, str] = {}
        self.read: set[Path] = set()

    def find(self, name: str, file: Path) -> Path | None:
        names = (Path(name), *(Path(folder, name) for folder in self.named.values()))
        places = (parent / one for parent in (file.parent, self.top) for one in names)
        return next((place for place in places if place.is_file()), None)


def _of_mjcf(file: Path, folders: _Folders) -> Iterator[Path]:
    """Yield what an MJCF refers to, and what the files that it includes do."""
    folders.read.add(_plain(file))
    root = _parse(file)
    for compiler in root.iter("compiler"):
        for kind in _FOLDERS:
            if folder := compiler.get(kind):
                folders.named[kind] = _allowed(folder, file, folders.for_others)
    included = {include.get("file") for include in root.iter("include")}
    for name in _references(root):
        if (found := folders.find(_allowed(name, file, folders.for_others), file)) is not None:
            yield found
            if name in included and _plain(found) not in folders.read:
                yield from _of_mjcf(found, folders)


def _references(root: ET.Element) -> Iterator[str]:
    """Yield the names of files in a model."""
    for element in root.iter():
        yield from filter(None, map(element.get, _FILES))


def _allowed(name: str, file: Path, for_others: bool) -> str:
    if for_others and Path(name.removeprefix("file://")).is_absolute():
        raise UsageError(f"{file} refers to {name}, which no other machine has: make the path relative, or --no_robot")
    return name


def _parse(file: Path) -> ET.Element:
    try:
        return ET.parse(file).getroot()
    except (OSError, ET.ParseError) as error:
        raise MachineError(f"the robot's model {file} cannot be read ({first_line(error)})") from error


def _plain(file: Path) -> Path:
    """Return an absolute path without `..`; links stay, because names count here."""
    return Path(os.path.normpath(file.absolute()))
