"""No command of the documentation changes the repository: they are typed in a copy, and git sees nothing."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from tests import processes
from tests.conftest import ROOT
from tests.test_docs import PAGES

SHIPPED = ROOT / "assets" / "policies"
NOT_TYPED = {
    "make install": "installs",
    "make docs": "installs",
    "python biped_train.py --preset cpu --sim mujoco --robot recipe:NAME": "needs somebody's model",
    "make gpu-report": "needs a GPU; see tests/test_gpu_report.py",
    "python biped_train.py --preset gpu-fast": "needs a GPU",
    "python biped_train.py --preset gpu -e": "needs a GPU",
    "make bench-learner": "installs, and takes half an hour",
    "make test": "is what you read",
    "make test-slow": "is what you read",
    "make faults": "is what you read",
    "make types-others": "reads only, as make check does",
    "make workflows": "needs npx and the network",
    "make wheel": "builds; see tests/test_wheel.py",
    "make nightly": "trains for minutes; see tests/test_nightly.py",
    "make check": "reads only, but for what the machine has, which the installer says",
    "make lock": "asks the index",
    "make containers": "installs",
    "python biped_eval.py --log_dir logs/pop": "needs a population; see tests/train/test_population.py",
    "python benchmarks/population.py": "trains for two hours; see test_benchmarks_write_among_the_logs",
    "python benchmarks/checkouts.py": "needs another checkout, and trains for minutes",
    "python benchmarks/seeds.py": "needs evaluated trainings; see tests/test_seeds.py",
    "python benchmarks/compare_seeds.py": "needs evaluated trainings; see tests/test_compare_seeds.py",
    "python benchmarks/style_seeds.py": "needs evaluated trainings; see tests/test_style_seeds.py",
    "python biped_eval.py -e two-": "needs a training under torchrun; see tests/train/test_launch.py",
    "python benchmarks/learner.py": "takes half an hour; see test_benchmarks_write_among_the_logs",
    "python biped_train.py --preset cpu --robot recipe:unitree_g1": "needs a model that is not in the repository",
    "python benchmarks/memory.py": "takes minutes, and writes by --out only",
    "python -m biped check-robot mine.json": "needs what identify writes",
    "python -m biped diagnose": "needs a robot's log; see tests/deploy/test_diagnosis.py",
    "python -m biped identify": "needs a robot's log; see tests/sim/test_identified.py",
    "python -m biped replay": "needs a robot's log; see tests/view/test_replay.py",
    "python biped_run.py": "keeps real time; see tests/test_biped_run.py",
    "python -m biped motion convert": "needs a published clip; see tests/test_motions.py",
    "python -m biped motion show": "serves a page until it is stopped; see tests/test_motions.py",
    "python -m biped push": "sends to a service, or asks for one; see tests/runs/test_hub.py",
    "python biped_eval.py --model hf": "asks a service; see tests/runs/test_hub.py",
    "python biped_export.py --model hf": "asks a service",
    "python biped_train.py --load_model hf": "asks a service; see tests/runs/test_hub.py",
    "python -m venv": "makes an environment outside of the repository",
}
"""Beginnings of commands that are left out, and why."""
SMALL = {
    "biped_train.py": "--preset smoke --sim mujoco --num_envs 16 --total_timesteps 1280 --new_run "
    "--set train.checkpoint_every_steps=256",
    "biped_eval.py": "--episodes 2 --set env.termination.episode_s=0.5 --video_robots 1 --video_seconds 0.2",
    "biped_sweep.py": "--preset smoke --total_timesteps 512 --set train.sim=mujoco train.draw_overview=false",
    "benchmarks/throughput.py": "--sizes 4",
    "benchmarks/engines.py": "--num_envs 4 --rounds 1",
    "benchmarks/export.py": "--rounds 1",
    "benchmarks/robust_seeds.py": "--episodes 2 --sim mujoco",
    "benchmarks/sinks.py": "--rollouts 1 --pairs 2",
    "benchmarks/style.py": "--rounds 1",
}
"""Flags that make a command short, and change no place of a result but its name."""
PLACEHOLDERS = {
    "NAME": "walk",
    "logs/NAME": "logs/walk",
    "FILE": "assets/strider/robot.json",
    "OUT.png": "logs/out.png",
    "my-robot/model.urdf": "my-robot/strider.xml",
}
LIVE = {"--viewer", "--web", "--keyboard"}


def is_live(words: Sequence[str]) -> bool:
    """Whether a command goes on until it is interrupted."""
    return bool(LIVE & set(words)) or tuple(words[1:4]) == ("-m", "biped", "demo")


def commands_of(text: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of every `python ...` and `make ...` of a page, in blocks and within lines.

    Variables of a loop, and numbers in braces, count as 1; brackets around what may be left out are dropped.
    """
    fenced = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(
        r"`((?:python|make) [^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    )
    for script in (*fenced, *inline):
        for line in script.replace("\\\n", " ").splitlines():
            line = re.sub(r'"?\$\{[^}]*\}"?', "", line)
            line = re.sub(r"[][]", "", line) if script in inline else line
            line = re.sub(r"\$\w+|\{1(,\d+)+\}", "1", line)
            lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
            lexer.whitespace_split = True
            words: list[str] = []
            for word in [*lexer, ";"]:
                if word.strip(";&|"):
                    words.append(PLACEHOLDERS.get(word, word))
                    continue
                begins = next((n for n, said in enumerate(words) if said in ("python", "make")), len(words))
                if len(words) > begins + 1:
                    yield tuple(words[begins:])
                words = []


PROGRAMS = {
    ("python", "-m", "biped"),
    ("python", "-m", "biped", "curves"),
    ("python", "-m", "biped", "check-robot"),
    ("python", "biped_sweep.py"),
}
"""Programs that a page names without their arguments."""
COMMANDS = list(dict.fromkeys(command for page in PAGES for command in commands_of(page.read_text())))
"""All of them, in the order of the pages."""
TYPED = [
    words
    for words in COMMANDS
    if not any(" ".join(words).startswith(left_out) for left_out in NOT_TYPED) and words not in PROGRAMS
]

FEW = {"--trials": "--trials 1", "--population": "--population 2 --generations 2", "--seeds": "--seeds 1"}
"""What is asked for in place of many trainings."""


def shortened(words: tuple[str, ...]) -> list[str]:
    """Return a command as it is typed here."""
    if "--compare" in words:
        return list(words)  # it reads the results that there are
    flags = shlex.split(SMALL.get(words[1], ""))
    if "--continue_training" in words:
        flags.remove("--new_run")
    for kind, fewer in FEW.items():
        flags += shlex.split(fewer) if kind in words else []
    if words[:2] == ("make", "train"):
        return [*words, f"ARGS=-e made {SMALL['biped_train.py']}"]
    if words[:2] == ("make", "demo"):
        return [*words, f"ARGS={SMALL['biped_eval.py']}"]
    if words[:2] == ("make", "bench"):
        return [*words, "ARGS=--sizes 4"]
    return [*words, *flags]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of what git has, or would have, of the repository, with everything committed."""
    folder = tmp_path / "repository"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=False).stdout.split("\0")
    if not any(names):
        pytest.skip("not a repository of git")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    # The reader's own robot, whose file is yet to be drafted.
    shutil.copytree(ROOT / "assets" / "strider", folder / "my-robot", ignore=shutil.ignore_patterns("robot.json"))
    git(folder, "init", "-q")
    (folder / ".git" / "info" / "exclude").write_text("/my-robot/robot.json\n")
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qm", "all")
    return folder


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a fresh shell: Genesis leaves variables of its own in this process."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("QD_", "GS_"))}
    return {**inherited, "PYTHONPATH": str(folder), "WANDB_MODE": "offline", "PYTHONDONTWRITEBYTECODE": "1"}


def make_runs(folder: Path, names: set[str]) -> None:
    """Make runs of the shipped policy, as if it had been trained there."""
    for name in names:
        run = folder / "logs" / name
        run.mkdir()
        shutil.copy(SHIPPED / "config.json", run)
        shutil.copy(SHIPPED / "eval.json", run)
        (run / "metrics.jsonl").write_text('{"step": 256, "gate/score": 0.5}\n')
        models = [f"biped_model_{number}_steps" for number in range(1, 6)]
        for model in (*models, "model_final", "best_model", "average_model"):
            shutil.copy(SHIPPED / "biped_walk.zip", run / f"{model}.zip")


TYPIST = """
import json, runpy, subprocess, sys, traceback

for words in json.load(open(sys.argv[1])):
    code, sys.argv = 0, words[1:]
    out = sys.stdout
    try:
        if ">" in words:
            sys.stdout = open(words[-1], "w")
            sys.argv = words[1:-2]
        if words[1] == "-m":
            sys.argv = sys.argv[1:]
            runpy.run_module(words[2], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(words[1], run_name="__main__")
    except SystemExit as ended:
        code = ended.code
    except Exception:
        traceback.print_exc()
        code = 99
    if sys.stdout is not out:
        sys.stdout.close()
        sys.stdout = out
    dirt = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    print("typed", json.dumps([words, code, dirt]), flush=True)
"""
OFTEN = ("-m", "biped_eval.py", "benchmarks/plot_training.py")


def form(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return a command without the names in it of runs, and of models but for the folder of all.

    What takes long of a single policy is one form, whichever the policy is.
    """
    if "--compare" not in words and (long := {"--report", "--robustness"} & set(words)):
        return (*words[:2], *sorted(long))
    short = {"-e": "a run", "average": "a run"}
    pairs = pairwise(("", *words))
    return tuple(word.split("/")[0] if before == "--model" else short.get(before, word) for before, word in pairs)


QUICK = list({form(w): w for w in TYPED if w[1] in OFTEN and not is_live(w)}.values())
"""Commands that need no training, one of each form. Exports take their time: tests/deploy/test_export.py has them."""


def test_commands_that_judge_and_draw_leave_the_repository_as_it_was(repository: Path, tmp_path: Path) -> None:
    """In one process, in MuJoCo, of runs that are copies of the shipped policy."""
    text = " ".join(word for words in QUICK for word in words)
    named = set(re.findall(r"logs/([\w-]+)/|-e ([\w-]+)|logs/([\w-]+)(?= |$)", text))
    names = {name for found in named for name in found if name} - {"out", "exported"}
    make_runs(repository, names | {"faster", "tough", "biped-walking-sb3-recurrentppo"})
    typed = [[*shortened(words), *(["--sim", "mujoco"] if words[1] == "biped_eval.py" else [])] for words in QUICK]
    (tmp_path / "typist.py").write_text(TYPIST)
    (tmp_path / "typed.json").write_text(json.dumps(typed))
    ended = subprocess.run(
        [sys.executable, str(tmp_path / "typist.py"), str(tmp_path / "typed.json")],
        cwd=repository,
        env=environment(repository),
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )
    became = [json.loads(line[6:]) for line in ended.stdout.splitlines() if line.startswith("typed ")]
    assert [words for words, _, _ in became] == typed, ended.stderr
    assert [(words, dirt) for words, _, dirt in became if dirt] == []
    assert [(words, code) for words, code, _ in became if code not in (0, None, 3)] == [], ended.stderr
    for name in ("eval.json", "biped_walk.zip"):
        assert (repository / "assets" / "policies" / name).read_bytes() == (SHIPPED / name).read_bytes()


@pytest.mark.slow
def test_no_command_of_the_documentation_changes_the_repository(repository: Path, tmp_path: Path) -> None:
    """Each in a process of its own, in the order of the pages, after small trainings of the runs that they name."""
    venv = tmp_path / "venv"  # for the Makefile: an environment that is complete
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    (venv / "bin" / "python").chmod(0o755)
    (venv / ".installed").touch()
    for name in ("walk", "walk-1", "mine", "faster", "tough", "biped-walking-sb3-recurrentppo"):
        code, err = run(shortened(("python", "biped_train.py", "-e", name)), repository, venv)
        assert code == 0, err
        shutil.copy(SHIPPED / "eval.json", repository / "logs" / name)
    finished = repository / "logs" / "finish-1"
    shutil.copytree(repository / "logs" / "walk", finished)
    shutil.copy(finished / "model_final.zip", finished / "average_model.zip")  # a page evaluates it before it is made
    assert git(repository, "status", "--porcelain") == ""
    wrong, walk = [], repository / "logs" / "walk"
    for words in TYPED:
        typed = shortened(words)
        if not (walk / "model_final.zip").is_file():  # a live training of this name was interrupted
            shutil.copytree(finished, walk, dirs_exist_ok=True)
        if "--compare" in words:
            evaluated(repository, words)
        code, err = run(typed, repository, venv)
        dirt = git(repository, "status", "--porcelain")
        allowed = {"biped_eval.py": (0, 3), "demo": (0, 2, 3), "report": (0, 2, 3)}.get(words[1], (0,))
        if is_live(words):
            allowed = (0, 1, 2, 130)  # until it is interrupted, or no screen, no terminal
        if dirt or (code not in allowed and words[:2] != ("make", "check")):
            wrong.append((typed, code, err, dirt))
    assert wrong == [], "\n".join(map(str, wrong))


def evaluated(folder: Path, names: Sequence[str]) -> None:
    """Leave the results that a comparison reads: trainings of the same name have set aside the runs that had them."""
    for name in names:
        if (folder / "logs" / name / "config.json").is_file():
            shutil.copy(SHIPPED / "eval.json", folder / "logs" / name)


def run(words: list[str], folder: Path, venv: Path) -> tuple[int, str]:
    """Type a command; Ctrl-C ends what would go on for ever."""
    with (folder.parent / "said").open("w+") as said:
        out = (folder / words[-1]).open("w") if ">" in words else subprocess.PIPE
        words = words[: words.index(">")] if ">" in words else words
        command = [sys.executable, *words[1:]] if words[0] == "python" else [*words, f"VENV={venv}"]
        with processes.start(command, cwd=folder, env=environment(folder), stdout=out, stderr=said) as process:
            for line in process.stdout or ():
                if line.startswith("open http"):
                    process.send_signal(signal.SIGINT)
        said.seek(0)
        return process.returncode, said.read()


def test_every_command_is_found_and_few_are_left_out() -> None:
    text = "```bash\nfor s in 1 2; do python biped_train.py -e a-$s; done\n"
    text += "python -m biped metrics > docs/metrics.md\n```\n"
    text += "Type `python biped_eval.py -e NAME [--sim mujoco]`, or `make demo`.\n```text\npython no.py\n```\n"
    assert list(commands_of(text)) == [
        ("python", "biped_train.py", "-e", "a-1"),
        ("python", "-m", "biped", "metrics", ">", "docs/metrics.md"),
        ("python", "biped_eval.py", "-e", "walk", "--sim", "mujoco"),
        ("make", "demo"),
    ]
    assert len(TYPED) > 60
    for left_out in NOT_TYPED:
        assert any(" ".join(words).startswith(left_out) for words in COMMANDS), left_out


def test_benchmarks_write_among_the_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.machine import record_file

    monkeypatch.chdir(tmp_path)
    assert record_file(None, "learner_cpu") == Path("logs/benchmarks/learner_cpu.json")
    assert Path("logs/benchmarks").is_dir()
    assert record_file(Path("x.json"), "learner_cpu") == Path("x.json")
