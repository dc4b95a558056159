"""What the installer asks of the system: programs of other machines are first on its path, and note their words."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PYTHON = """#!/bin/sh
case "$*" in
  *ctypes.CDLL*) exit 1 ;;
  *"import torch"*) echo "{torch}" ;;
  *) exec {python} "$@" ;;
esac
"""
"""The environment's Python: it finds no system library, and says which torch it has."""
PACKAGES = "libgl1 libx11-6 libegl1 libxrender1 libgl1-mesa-dri"


class Machine:
    """A machine with an environment to install into."""

    def __init__(self, folder: Path) -> None:
        self.programs, self.venv, self.log = folder / "programs", folder / "venv", folder / "log"
        (self.venv / "bin").mkdir(parents=True)
        self.programs.mkdir()
        self.has_torch("cpu 2.13.0+cpu")
        self.has_pip()
        self.has("apt-get")

    def has(self, name: str, does: str = "", folder: Path | None = None) -> None:
        """Have a program that writes its words down, then does something."""
        file = (folder or self.programs) / name
        file.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.log}\n{does}\n')
        file.chmod(0o755)

    def has_torch(self, said: str) -> None:
        """Have the environment's Python say which torch it has."""
        file = self.venv / "bin" / "python"
        file.write_text(PYTHON.format(torch=said, python=sys.executable))
        file.chmod(0o755)

    def has_pip(self, *planned: str, check: str = "") -> None:
        """Have a pip that would install these packages, of version 1, and finds faults in them."""
        report = json.dumps({"install": [{"metadata": {"name": name, "version": "1"}} for name in planned]})
        checked = f"echo '{check}'; exit {int(bool(check))}"
        does = f"case \"$*\" in *--dry-run*) echo '{report}' ;; check) {checked} ;; esac"
        self.has("pip", does, folder=self.venv / "bin")

    def install(self, **variables: str) -> tuple[int, str, list[str]]:
        """Install; return the exit code, what is said, and the words that programs were called with."""
        ended = subprocess.run(
            [str(ROOT / "install_genesis.sh"), "--venv", str(self.venv), "--cpu"],
            env={"PATH": f"{self.programs}:/usr/bin:/bin", **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return (
            ended.returncode,
            ended.stdout + ended.stderr,
            [line for line in lines if not line.startswith(("id ", "uname "))],
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_runner_who_may_become_root_installs_system_libraries(machine: Machine) -> None:
    machine.has("id", "echo 1001")
    machine.has("sudo", 'shift; exec "$@"')
    code, said, called = machine.install(CI="true")
    assert (code, f"installing system libraries: {PACKAGES.removesuffix(' libgl1-mesa-dri')}" in said) == (0, True)
    assert called[:5] == [
        "sudo -n true",
        "sudo -n apt-get -qq update",
        "apt-get -qq update",
        f"sudo -n apt-get -qq install -y {PACKAGES}",
        f"apt-get -qq install -y {PACKAGES}",
    ]


def test_root_in_a_container_needs_no_sudo(machine: Machine) -> None:
    machine.has("id", "echo 0")
    machine.has("sudo", "exit 1")
    code, _, called = machine.install(CI="true")
    assert code == 0
    assert called[:2] == ["apt-get -qq update", f"apt-get -qq install -y {PACKAGES}"]


@pytest.mark.parametrize(("user", "ci"), [("1001", "true"), ("1001", ""), ("0", "")])
def test_elsewhere_they_are_named_and_nothing_is_installed(machine: Machine, user: str, ci: str) -> None:
    """A person's machine, root's too, and a runner whose sudo asks for a password."""
    machine.has("id", f"echo {user}")
    machine.has("sudo", "exit 1")
    code, said, called = machine.install(CI=ci)
    assert code == 0
    assert f"system libraries are missing; Genesis needs them: sudo apt-get install {PACKAGES}" in said
    assert not [line for line in called if "apt-get" in line]


def test_macos_gets_its_one_build_of_torch_and_no_advice_on_debian(machine: Machine) -> None:
    machine.has("uname", "echo Darwin")
    machine.has_torch("")
    code, said, called = machine.install()
    assert code == 0
    assert called[0] == "pip install -q --no-deps torch==2.13.0"
    assert "apt-get" not in said + "".join(called)


def test_linux_gets_the_build_for_the_cpu(machine: Machine) -> None:
    machine.has_torch("")
    code, _, called = machine.install()
    assert code == 0
    assert called[0] == "pip install -q --no-deps torch==2.13.0+cpu"


def test_without_a_gpu_what_nothing_here_uses_is_left_out(machine: Machine) -> None:
    machine.has_pip("genesis-world", "VTK", "gs_madrona", "nvidia-nvjitlink-cu12", "vtkless", "biped-walking")
    code, _, called = machine.install()
    assert code == 0
    installed = [line.split("-e .")[1].split() for line in called if "--no-deps" in line]
    assert installed == [["genesis-world==1", "vtkless==1"]]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("", 0),
        ("genesis-world 1.4.5 requires vtk, which is not installed.", 0),
        ("genesis-world 1.4.5 requires vtk-data, which is not installed.", 1),
        ("genesis-world 1.4.5 has requirement vtk>9, but you have vtk 8.", 1),
        ("genesis-world 1 requires vtk, which is not installed.\nviser 1 requires numpy, which is not installed.", 1),
    ],
)
def test_what_else_is_missing_or_does_not_fit_is_an_error(machine: Machine, fault: str, code: int) -> None:
    machine.has_pip("vtk", check=fault)
    ended, said, _ = machine.install()
    assert ended == code
    assert ("the packages do not fit together" in said) == bool(code)
