"""Where what comes with the project is found, from a checkout; tests/test_wheel.py has installed wheels."""

import tomllib
from pathlib import Path

import pytest

from biped.base.shipped import ASSETS, as_stored, found, located, own_name, version
from tests.conftest import ROOT

STRIDER = Path("assets/strider/robot.json")


def test_what_ships_is_found_from_every_folder_and_a_persons_own_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert found(STRIDER) == ROOT / STRIDER
    assert found(Path("assets/none.json")) == Path("assets/none.json")
    assert found(Path("strider/robot.json")) == Path("strider/robot.json")
    assert found(ROOT / STRIDER) == ROOT / STRIDER
    (tmp_path / STRIDER).parent.mkdir(parents=True)
    (tmp_path / STRIDER).touch()
    assert found(STRIDER) == STRIDER


def test_a_path_of_the_configuration_starts_at_the_root_and_is_stored_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (STRIDER, Path("assets/none.xml"), Path("README.md")):
        assert located(name) == ROOT / name
        assert as_stored(ROOT / name) == str(name)
    assert located(tmp_path / "mine.xml") == tmp_path / "mine.xml"
    assert as_stored(tmp_path / "mine.xml") == str((tmp_path / "mine.xml").resolve())
    assert ASSETS == ROOT / "assets"


def test_code_of_this_project_is_told_from_that_of_others() -> None:
    assert own_name(ROOT / "biped" / "mdp" / "gait.py") == Path("biped/mdp/gait.py")
    assert own_name(ROOT / ".venv" / "lib" / "python3.11" / "site-packages" / "torch" / "nn.py") is None
    assert own_name(Path(pytest.__file__)) is None


SOURCES = {
    "biped/base/command_line.py": "the doors",
    "biped/base/files.py": "its definition",
    "biped/base/shipped.py": "tells a checkout from a wheel",
    "biped/runs/launches.py": "the commit of a checkout",
    "biped/train/trial_process.py": "the door of trainings",
    "biped/view/film.py": "the path on which Python finds this project",
}
"""What looks for sources beside the package, in a checkout or in site-packages; why."""


def test_nothing_but_sources_is_looked_for_beside_the_package() -> None:
    """In a wheel, robots and policies are inside it: `ASSETS`, `found` and `located` know where."""
    files = (ROOT / "biped").rglob("*.py")
    assert {str(file.relative_to(ROOT)) for file in files if "REPOSITORY" in file.read_text()} == set(SOURCES)


def test_the_version_is_that_of_the_sources() -> None:
    assert version() == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
