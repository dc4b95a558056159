"""The images, without Docker: their lines are read, and run in a fresh environment where they change no system."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import processes
from tests.conftest import ROOT

CHANGING = ("useradd", "chown", "chmod", "apt-get", "rm")
"""Programs that would change the machine of the test."""


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions: the word and the rest, comments and continuations left out."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines()) if word]


def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


def stages() -> dict[str, list[tuple[str, str]]]:
    """Return each stage's instructions, with those of the stage that it begins with."""
    found: dict[str, list[tuple[str, str]]] = {}
    for word, rest in instructions():
        if word == "FROM":
            before, _, name = rest.partition(" AS ")
            found[name] = list(found.get(before, []))
        else:
            found[list(found)[-1]].append((word, rest))
    return found


def test_the_images_have_the_libraries_that_the_installer_asks_for() -> None:
    text = (ROOT / "install_genesis.sh").read_text()
    named = re.search(r"^LIBRARIES='(.*)'$", text, re.MULTILINE)
    assert named is not None
    wanted = {pair.partition(":")[2] for pair in named[1].split()} | {"libgl1-mesa-dri"}
    (line,) = (rest for word, rest in instructions() if word == "RUN" and "apt-get" in rest)
    install = line.split("&&")[1]
    assert {word for word in shlex.split(install) if word.startswith("lib")} == wanted


@pytest.mark.parametrize("stage", ["cpu", "cuda"])
def test_an_image_runs_as_nobody_special_and_keeps_kernels_in_a_volume(stage: str) -> None:
    lines = stages()[stage]
    assert [rest for word, rest in lines if word == "USER"] == ["1000"]
    order = [word for word, _ in lines]
    assert order.index("USER") < order.index("COPY"), "nothing of the project belongs to root"
    assert "XDG_CACHE_HOME=/cache" in next(rest for word, rest in lines if word == "ENV")
    assert ("VOLUME", "/cache") in lines
    assert sum(word == "HEALTHCHECK" for word, _ in lines) == 1
    assert f"--{stage}" in next(rest for word, rest in reversed(lines) if word == "RUN")


def test_compose_asks_for_images_and_folders_that_there_are() -> None:
    services = compose()["services"]
    for service in services.values():
        assert service["build"]["target"] in stages()
        assert service["image"] == f"biped:{service['build']['target']}"
        mounted = [volume.split(":")[1] for volume in service["volumes"]]
        assert set(mounted) <= {"/biped/logs", "/cache"}
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert services["gpu"]["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    assert set(compose()["volumes"]) == {"kernels"}


def test_what_an_image_is_made_of_is_what_git_has() -> None:
    left_out = (ROOT / ".dockerignore").read_text().splitlines()
    for folder in (".git", ".venv", "logs/*", "dist", "site"):
        assert folder in left_out
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not tracked:
        pytest.skip("this is no git checkout")
    named = {line.rstrip("/*") for line in left_out if line and not line.startswith(("#", "*"))}
    assert {file for file in tracked if file.partition("/")[0] in named} <= {"logs/.gitkeep"}


def test_a_container_is_healthy_while_metrics_are_written(tmp_path: Path) -> None:
    (check,) = {rest.partition("CMD ")[2] for word, rest in instructions() if word == "HEALTHCHECK"}

    def is_healthy() -> bool:
        return subprocess.run(json.loads(check), cwd=tmp_path, check=False).returncode == 0

    run = tmp_path / "logs" / "walk"
    run.mkdir(parents=True)
    assert not is_healthy()
    (run / "metrics.jsonl").touch()
    assert is_healthy()
    os.utime(run / "metrics.jsonl", (0, 0))
    assert not is_healthy()


def test_hadolint_has_nothing_to_say() -> None:
    if (program := shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")) is None:
        pytest.skip("hadolint is not installed: make containers")
    ended = subprocess.run([program, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


@pytest.mark.slow
def test_every_run_line_of_the_image_for_cpus_does_what_it_says(tmp_path: Path) -> None:
    """A copy of the project stands for the image: programs that change the system only note their words."""
    programs, copy, noted = tmp_path / "programs", tmp_path / "biped", tmp_path / "noted"
    programs.mkdir()
    for name in (*CHANGING, "mkdir"):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {noted}\n')
        (programs / name).chmod(0o755)
    (programs / "python3.12").symlink_to(sys.executable)
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for file in files:
        (copy / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, copy / file)
    variables = {**processes.environment(), "PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH"):
        variables.pop(name, None)
    for line in (rest for word, rest in stages()["cpu"] if word == "RUN"):
        ended = subprocess.run(
            ["/bin/sh", "-ec", line], cwd=copy, env=variables, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, (line, ended.stderr)
    said = noted.read_text()
    for words in ("apt-get install -y --no-install-recommends libgl1", "useradd --create-home --uid 1000 biped"):
        assert words in said
    if shutil.which("apt-get") is not None:
        wanted = re.findall(r"\blib[a-z0-9-]+", next(line for line in said.splitlines() if "apt-get install" in line))
        assert subprocess.run(["apt-cache", "show", *wanted], capture_output=True, check=False).returncode == 0
    python = copy / ".venv" / "bin" / "python"
    command = [str(python), "biped_train.py", "--preset", "smoke", "--sim", "mujoco", "--total_timesteps", "512"]
    trained = subprocess.run(command, cwd=copy, env=variables, capture_output=True, text=True, check=False)
    assert trained.returncode == 0, trained.stderr
