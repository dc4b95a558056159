"""The wheel of this checkout, and environments that have it, without a network.

An extra's packages are links to those of this environment: all that the extra brings, and no other.
"""

import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from importlib.metadata import Distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from biped.base.shipped import PROJECT
from tests import processes
from tests.processes import ROOT

_BUILD = "import sys; from setuptools import build_meta as b; print(getattr(b, f'build_{sys.argv[1]}')(sys.argv[2]))"


def tracked() -> list[str]:
    """Return what git has, or would have, of this checkout; empty where it is no repository of git."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=False).stdout.split("\0")
    return [name for name in names if name and (ROOT / name).is_file()]


def copy_repository(folder: Path) -> bool:
    """Copy `tracked` to a folder; return False where there is nothing."""
    for name in (names := tracked()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    return bool(names)


def build(kind: str, source: Path, out: Path) -> Path:
    """Build the `sdist` or the `wheel` of a folder as pip would, by the backend that pyproject.toml names."""
    ended = processes.run([sys.executable, "-c", _BUILD, kind, str(out)], check=True, cwd=source)
    return out / ended.stdout.splitlines()[-1]


class Installed:
    """An environment with the wheel, and folders with what each extra brings."""

    def __init__(self, wheel: Path, folder: Path) -> None:
        """Make it."""
        self._folder, self.bin = folder, folder / "venv" / "bin"
        has_pip = importlib.util.find_spec("pip") is not None
        venv.create(folder / "venv", with_pip=not has_pip)
        python = str(self.bin / "python")
        pip = [sys.executable, "-m", "pip", "--python", python] if has_pip else [python, "-m", "pip"]
        processes.run([*pip, "install", "-q", "--no-deps", "--no-index", "--no-compile", str(wheel)], check=True)
        (self.site,) = (folder / "venv" / "lib").glob("python*/site-packages")
        (about,) = self.site.glob("biped_walking-*.dist-info")
        self._about = Distribution.at(about)

    def run(
        self, command: str, *words: str, extras: tuple[str, ...] = (), cwd: Path
    ) -> "subprocess.CompletedProcess[str]":
        """Type a command of the environment in a folder, where these extras are installed."""
        return processes.run([str(self.bin / command), *words], cwd=cwd, env=self.environment(extras))

    def environment(self, extras: tuple[str, ...]) -> dict[str, str]:
        """Return the variables of a shell in which the environment is active, where these extras are installed."""
        inherited = processes.environment()
        env = {name: value for name, value in inherited.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        env |= {"PYTHONPATH": str(self.packages(extras)), "PYTHONDONTWRITEBYTECODE": "1"}
        return env | {"PATH": f"{self.bin}:{env['PATH']}"}

    def packages(self, extras: tuple[str, ...]) -> Path:
        """Return a folder with what the project requires and what these extras bring."""
        folder = self._folder / "-".join(("with", *extras))
        if not folder.exists():
            folder.mkdir()
            for distribution in self._required(extras):
                for part in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
                    if not (folder / part).exists():  # some share a folder
                        (folder / part).symlink_to(Path(str(distribution.locate_file(part))))
        return folder

    def _required(self, extras: tuple[str, ...]) -> Iterator[Distribution]:
        """Yield the distributions, each once, in the versions of this environment."""
        seen: set[tuple[str, str]] = set()
        given: set[str] = set()
        open_ends = [(PROJECT, extra) for extra in ("", *extras)]
        while open_ends:
            name, extra = end = open_ends.pop()
            if end in seen:
                continue
            seen.add(end)
            try:
                about = self._about if name == PROJECT else importlib.metadata.distribution(name)
            except importlib.metadata.PackageNotFoundError:
                continue  # one of those that install_genesis.sh leaves out
            if about is not self._about and name not in given:
                given.add(name)
                yield about
            for line in about.requires or ():
                wanted = Requirement(line)
                if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                    open_ends += [(canonicalize_name(wanted.name), part) for part in ("", *wanted.extras)]
