"""Extras, the packages in them, and the versions that were tested together."""

import re
import sys
import tomllib
from collections.abc import Iterator

import pytest

from biped.base.errors import MachineError
from biped.base.packages import EXTRAS, extra_of, how_to_install, remedy, require
from tests.architecture import sources
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LISTED: dict[str, list[str]] = PROJECT["optional-dependencies"]
IMPORTED_BY = {
    "dynamixel-sdk": "dynamixel_sdk",
    "genesis-world": "genesis",
    "huggingface-hub": "huggingface_hub",
    "imageio-ffmpeg": "imageio_ffmpeg",
    "pillow": "PIL",
    "pyserial": "serial",
    "sb3-contrib": "sb3_contrib",
    "stable-baselines3": "stable_baselines3",
}
"""The names that packages are imported by, where they are others."""
NOT_IMPORTED = {"tqdm", "rich"}
"""Stable-Baselines3 imports them."""
BROUGHT_ALONG = {"annotated_types", "glfw", "pydantic_core", "sqlalchemy", "trimesh"}
"""Pydantic, MuJoCo, Viser and Optuna require them."""
NO_EXTRA = {"numpy", "rclpy", "sensor_msgs", "robot_descriptions"}
"""What is always there; ROS, which is not on the index; and what only its users install."""


def names(extra: str) -> Iterator[str]:
    for line in LISTED[extra]:
        if not line.startswith(PROJECT["name"]):
            yield re.split(r"[\[<>=]", line)[0].lower()


def pinned() -> dict[str, str]:
    lines = [line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1].isalnum()]
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in lines}


def test_the_table_of_extras_is_that_of_the_project() -> None:
    known: set[str] = set()
    for extra, packages in EXTRAS.items():
        listed = {IMPORTED_BY.get(name, name) for name in names(extra)} - NOT_IMPORTED
        assert set(packages.split()) - BROUGHT_ALONG == listed - known, extra
        known |= listed


def test_every_package_that_is_imported_is_in_an_extra() -> None:
    modules = sources()
    known = {*sys.stdlib_module_names, *NO_EXTRA, "biped", *(source.name for source in modules)}
    known |= {package for packages in EXTRAS.values() for package in packages.split()}
    imported = {item.name.split(".")[0]: source.name for source in modules for item in source.imports()}
    assert {package: module for package, module in imported.items() if package not in known} == {}


def test_what_trains_has_all_that_simulates_and_reports() -> None:
    assert LISTED["train"][0] == "biped-walking[sim,report]"
    assert set(names("sim")).isdisjoint({"genesis-world", "wandb", "tensorboard", "optuna", "imageio-ffmpeg"})


def test_every_package_of_an_extra_has_its_version() -> None:
    assert {name for extra in LISTED for name in names(extra)} - set(pinned()) == set()


def test_the_lock_has_the_versions_that_were_tested_together() -> None:
    """`make lock` makes it of constraints.txt; what it has besides is for other machines, such as CUDA."""
    file = ROOT / "uv.lock"
    if not file.exists():
        pytest.skip("make lock has not written it here")
    lock = tomllib.loads(file.read_text())
    locked = {package["name"]: package["version"] for package in lock["package"]}
    assert {name: locked.get(name) for name in pinned()} == pinned()


def test_a_package_is_named_with_the_extra_that_has_it() -> None:
    assert (extra_of("torch"), extra_of("serial.tools"), extra_of("genesis"), extra_of("none")) == (
        "sim",
        "robot",
        "train",
        "train",
    )
    assert how_to_install("mujoco") == "run ./install_genesis.sh, or pip install 'biped-walking[sim]'"
    require("numpy", "--film")
    with pytest.raises(MachineError, match=r"^--film needs the package no_such_one: run \./install_genesis\.sh"):
        require("no_such_one", "--film")


def test_what_is_there_and_cannot_be_imported_is_not_installed_anew() -> None:
    absent = ModuleNotFoundError("No module named 'genesis'", name="genesis")
    assert "pip install 'biped-walking[train]'" in remedy("genesis", absent)
    for broken in (ImportError("libGL.so.1"), ModuleNotFoundError("No module named 'vtk'", name="vtk")):
        assert remedy("genesis", broken) == "run ./install_genesis.sh --check"
