"""Populations of real trainings: killed and gone on with, shared by processes, and read back from every output."""

import itertools
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import biped_sweep
from biped.runs.checkpoint import read_checkpoint
from biped.runs.directory import RunDirectory
from biped.train.metrics import POPULATION_METRICS
from tests import processes
from tests.processes import PATIENCE_S, UNDRAWN, Process, start, until
from tests.wandb_runs import forget_account, records, rows

SMALL = ("--preset", "smoke", "--set", "train.sim=mujoco", *UNDRAWN)
FLAGS = ("--search", "ppo.learning_rate=0.0001:0.01:log", "--search", "ppo.n_epochs=1:4", "--seed", "3")


def words(logs: Path, *flags: str, size: int = 2, generations: int = 2, steps: int = 256) -> list[str]:
    """Return a population's flags; a rollout of the smoke preset has 256 steps."""
    sizes = [
        "--population",
        str(size),
        "--generations",
        str(generations),
        "--total_timesteps",
        str(generations * steps),
    ]
    return ["--study", "pop", *sizes, "--log_dir", str(logs), *FLAGS, *SMALL, *flags]


def begin(logs: Path, *flags: str, **sizes: int) -> list[str]:
    return [sys.executable, str(processes.ROOT / "biped_sweep.py"), *words(logs, *flags, **sizes)]


def ledger(logs: Path) -> dict[str, Any]:
    return json.loads((logs / "pop" / "population.json").read_text())


def fitness(logs: Path) -> list[list[float | None]]:
    return [[member["fitness"] for member in item["members"]] for item in ledger(logs)["generations"]]


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A population of two members and two generations, trained in one go, and shown in W&B offline."""
    logs = tmp_path_factory.mktemp("grown")
    with pytest.MonkeyPatch.context() as patch:
        forget_account(patch, logs)
        flags = ("--wandb", "--set", "wandb.mode=offline")
        ended = processes.run(begin(logs, *flags), env=processes.environment())
    assert ended.returncode == 0, ended.stderr
    assert "best of all" in ended.stdout
    return logs


def test_the_worst_begins_with_the_weights_of_the_best_and_other_settings(grown: Path) -> None:
    first, second = (generation["members"] for generation in ledger(grown)["generations"])
    taken = [place for place, member in enumerate(second) if member["parent"] != place]
    assert len(taken) == 1
    place = taken[0]
    parent = second[place]["parent"]
    assert first[place]["fitness"] == min(member["fitness"] for member in first)
    assert first[parent]["fitness"] == max(member["fitness"] for member in first)
    child, stem = (RunDirectory(grown / name) for name in (second[place]["run"], first[parent]["run"]))
    config, of_parent = child.read_config(), stem.read_config()
    assert config.ppo.learning_rate == second[place]["settings"]["ppo.learning_rate"]
    assert config.ppo.learning_rate != of_parent.ppo.learning_rate
    assert config.train.seed != of_parent.train.seed
    begun = read_checkpoint(child.checkpoints()[-1])
    assert begun.num_timesteps == 256
    weights = read_checkpoint(stem.checkpoint(256)).policy
    assert all(bool((begun.policy[name] == value).all()) for name, value in weights.items())
    assert not begun.live, "new episodes and new noise"
    assert child.checkpoints()[0] == child.checkpoint(512)


def test_the_others_go_on_with_their_runs(grown: Path) -> None:
    for place, member in enumerate(ledger(grown)["generations"][1]["members"]):
        run = RunDirectory(grown / member["run"])
        assert run.checkpoints()[0] == run.checkpoint(512)
        starts = run.read_launches()
        assert [start["resumed_after_step"] for start in starts] == (
            [None, 256] if member["parent"] == place else [256]
        )


def test_its_metrics_are_the_same_on_disk_in_tensorboard_and_in_wandb(grown: Path) -> None:
    run = RunDirectory(grown / "pop")
    on_disk = {name: (c.steps.tolist(), c.values.tolist()) for name, c in run.read_metrics().items()}
    assert set(on_disk) == set(POPULATION_METRICS)
    assert on_disk["training/generation"] == ([512, 1024], [1.0, 2.0])
    assert on_disk["fitness/max"][1] == [max(f for f in row if f is not None) for row in fitness(grown)]
    assert on_disk["fitness/best_ever"][1][-1] == max(on_disk["fitness/max"][1])
    assert on_disk["validation/fitness"][1] == [item["validation"] for item in ledger(grown)["generations"]]
    board = EventAccumulator(str(run.tensorboard)).Reload()
    for name, (steps, values) in on_disk.items():
        assert [event.step for event in board.Scalars(name)] == steps
        assert [event.value for event in board.Scalars(name)] == pytest.approx(values)
    assert "population/lineage" in board.Tags()["images"]
    in_wandb = [row["item"] for row in rows(records(run.path)) if "fitness/mean" in row["item"]]
    for name, (_, values) in on_disk.items():
        assert [row[name] for row in in_wandb] == pytest.approx(values)
    members = [json.loads((grown / f"pop-{n}" / "config.json").read_text())["wandb"] for n in range(2)]
    assert {member["group"] for member in members} == {"pop"}, "each member is a run of the same group"


def test_the_best_of_all_is_a_run_of_its_own(grown: Path) -> None:
    best = RunDirectory(grown / "pop" / "best")
    score = max(f for row in fitness(grown) for f in row if f is not None)
    generation = next(number for number, row in enumerate(fitness(grown)) if score in row)
    assert read_checkpoint(best.best_model).num_timesteps == 256 * (generation + 1)
    out = grown / "judged.json"
    flags = ["--log_dir", str(grown / "pop"), "-e", "best", "--sim", "mujoco", "--episodes", "8", "--seed", "10000"]
    command = [sys.executable, "biped_eval.py", *flags, "--out", str(out)]
    assert processes.run(command).returncode in (0, 3)
    assert json.loads(out.read_text())["score"] == pytest.approx(score)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_trials")
def test_a_finished_population_starts_nothing_and_more_generations_go_on(
    grown: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(grown.glob("pop*"))
    flags = ("--wandb", "--set", "wandb.mode=offline")
    assert biped_sweep.main(words(grown, *flags)) == 0
    assert "member" not in capsys.readouterr().out
    assert sorted(grown.glob("pop*")) == before
    assert len(RunDirectory(grown / "pop").read_metrics()["fitness/mean"].steps) == 2
    assert biped_sweep.main(words(grown, *flags, generations=3)) == 0
    assert RunDirectory(grown / "pop").read_metrics()["training/generation"].values.tolist() == [1.0, 2.0, 3.0]


STAGES = ("training", "judged", "validating", "second", "forked")


def wait_for(logs: Path, stage: str, process: Process) -> None:
    """Wait until a population has come to a stage."""
    pop = logs / "pop"
    reached = {
        "training": lambda: any((logs / f"pop-{n}" / "metrics.jsonl").exists() for n in range(2)),
        "judged": lambda: (pop / "population.json").exists() and any(f is not None for f in fitness(logs)[0]),
        "validating": lambda: (pop / "population.json").exists() and None not in fitness(logs)[0],
        "second": lambda: (pop / "population.json").exists() and len(fitness(logs)) == 2,
        "forked": lambda: any(logs.glob("pop-*-g2/config.json")),
    }
    until(reached[stage], process)


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        ("judged", signal.SIGKILL),
        *(
            pytest.param(stage, number, marks=pytest.mark.slow)
            for stage, number in itertools.product(STAGES, (signal.SIGKILL, signal.SIGINT))
        ),
    ],
)
def test_whenever_it_is_ended_the_same_command_goes_on_and_nothing_is_lost(
    stage: str, number: signal.Signals, tmp_path: Path
) -> None:
    with start(begin(tmp_path)) as first:
        wait_for(tmp_path, stage, first)
        os.kill(first.pid, number)
        first.wait(PATIENCE_S)
        assert first.returncode in (-number, 130)
        before = fitness(tmp_path)
        ended = processes.run(begin(tmp_path))  # a training of the first one may live on
    assert ended.returncode == 0, ended.stderr
    after = fitness(tmp_path)
    assert len(after) == 2
    assert all(value is not None for row in after for value in row)
    for row, kept in zip(before, after, strict=False):
        assert all(old in (None, new) for old, new in zip(row, kept, strict=True)), "what was judged is not done again"
    assert RunDirectory(tmp_path / "pop").read_metrics()["training/generation"].values.tolist() == [1.0, 2.0]
    assert all(
        RunDirectory(tmp_path / member["run"]).checkpoints()[0].name == "biped_model_512_steps.zip"
        for member in ledger(tmp_path)["generations"][1]["members"]
    )
    assert not list(tmp_path.glob("pop-*.1")), "nothing was trained twice"


@pytest.mark.parametrize("stage", [pytest.param("building", marks=pytest.mark.slow), "training"])
def test_a_training_whose_population_was_killed_is_waited_for_not_repeated(stage: str, tmp_path: Path) -> None:
    with start(begin(tmp_path, generations=1, steps=8192)) as first:
        until(lambda: psutil.Process(first.pid).children(), first)  # it has no folder yet
        if stage == "training":
            wait_for(tmp_path, stage, first)
        first.kill()  # its training lives on, in a session of its own
        ended = processes.run(begin(tmp_path, generations=1, steps=8192))
    assert ended.returncode == 0, ended.stderr
    assert "failed" not in ended.stdout
    assert [len(RunDirectory(tmp_path / f"pop-{number}").read_launches()) for number in range(2)] == [1, 1]
    assert not list(tmp_path.glob("pop-*.1"))


@pytest.mark.slow
def test_two_processes_share_a_generation(tmp_path: Path) -> None:
    with start(begin(tmp_path, size=4)) as one, start(begin(tmp_path, size=4)) as other:
        said = [machine.communicate(timeout=PATIENCE_S) for machine in (one, other)]
    assert (one.returncode, other.returncode) == (0, 0), said
    done = ["member" in out for out, _ in said]
    assert done == [True, True], "both have trained"
    for place in range(4):
        told = sum(out.count(f"generation 1, member {place}: 0") for out, _ in said)
        assert told == 1, "each member is trained by one of them"
    rows = RunDirectory(tmp_path / "pop").read_metrics()["training/generation"]
    assert rows.values.tolist() == [1.0, 2.0]


@pytest.mark.slow
@pytest.mark.usefixtures("quick_trials")
def test_a_member_that_cannot_be_trained_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert biped_sweep.main(words(tmp_path, size=3, generations=1)) == 0
    order = sorted(range(3), key=lambda number: fitness(tmp_path)[0][number] or 0.0)
    run = tmp_path / f"pop-{order[1]}"  # neither the worst, which is replaced anyway, nor the best
    (run / "config.json").write_text("no configuration")
    assert biped_sweep.main(words(tmp_path, size=3, generations=3)) == 0
    assert f"member {order[1]}: failed: biped_train.py: " in capsys.readouterr().out
    _, second, third = (generation["members"] for generation in ledger(tmp_path)["generations"])
    assert "config.json cannot be used" in second[order[1]]["failure"]
    assert second[order[1]]["fitness"] is None
    assert third[order[1]]["parent"] != order[1]
    assert third[order[1]]["fitness"] is not None
    assert (run / "config.json").read_text() == "no configuration"


@pytest.mark.usefixtures("quick_trials")
def test_where_no_member_can_be_trained_it_ends_with_what_one_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert biped_sweep.main(words(tmp_path, "--set", "env.robot.model_path=nowhere.xml")) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "nowhere.xml" in said
    assert fitness(tmp_path) == [[None, None]], "and is tried again next time"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--population", "1"], "at least 2 members"),
        (["--storage", "sqlite:///x.db"], "leave out --storage"),
        (["--dashboard"], "--dashboard is of no use"),
        (["--set", "train.eval_every_steps=0"], "leave out train.eval_every_steps=0"),
        (["--set", "ppo.nonsense=1"], "nonsense"),
        (["--trials", "3"], "not allowed with"),
    ],
)
def test_what_cannot_be_is_one_line_and_starts_nothing(
    flags: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = biped_sweep.main([*words(tmp_path), *flags])
    except SystemExit as left:
        code = left.code
    assert code == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.usefixtures("quick_trials")
def test_settings_that_do_not_go_together_fail_a_member_not_the_population(tmp_path: Path) -> None:
    """A rate of 0.004 is allowed, and so is a largest rate of 0.002, but not both."""
    ranges = ("--search", "ppo.learning_rate=0.001:0.004", "--search", "ppo.max_learning_rate=0.002:0.02")
    rates = {"adaptive_lr": "true", "learning_rate": 0.001, "min_learning_rate": 0.0001, "max_learning_rate": 0.02}
    fixed = [word for name, value in rates.items() for word in ("--set", f"ppo.{name}={value}")]
    asked = [word for word in words(tmp_path, generations=1) if word != "--search" and not word.startswith("ppo.")]
    assert biped_sweep.main([*asked, *ranges, *fixed]) == 0
    content = ledger(tmp_path)
    first = content["generations"][0]["members"]
    parent = next(number for number, member in enumerate(first) if member["fitness"] is not None)
    members = [{**first[parent], "fitness": None, "parent": parent} for _ in first]
    settings = {"ppo.learning_rate": 0.004, "ppo.max_learning_rate": 0.002}
    members[1 - parent] |= {"run": f"pop-{1 - parent}-g2", "settings": settings}
    content["generations"].append({"members": members, "began": 0.0, "ended": None, "validation": None})
    (tmp_path / "pop" / "population.json").write_text(json.dumps(content))
    asked[asked.index("--generations") + 1], asked[asked.index("--total_timesteps") + 1] = "2", "512"
    assert biped_sweep.main([*asked, *ranges, *fixed]) == 0
    second = ledger(tmp_path)["generations"][1]["members"]
    assert "max_learning_rate" in second[1 - parent]["failure"]
    assert second[parent]["fitness"] is not None


def test_a_name_that_is_taken_is_refused_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pop-1").mkdir()
    (tmp_path / "pop-1" / "config.json").write_text("mine")
    assert biped_sweep.main(words(tmp_path)) == 2
    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "pop-1" / "config.json").read_text() == "mine"


def test_a_population_keeps_to_what_it_was_begun_with(grown: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert biped_sweep.main(words(grown, size=3)) == 2
    assert "was begun with another --population (2, and now 3)" in capsys.readouterr().err


@pytest.mark.slow
def test_a_training_that_something_else_killed_goes_on(tmp_path: Path) -> None:
    often = ("--set", "train.checkpoint_every_steps=512")
    with start(begin(tmp_path, *often, generations=1, steps=20480)) as worker:
        until(lambda: any(tmp_path.glob("pop-*/biped_model_*_steps.zip")), worker)
        (training,) = psutil.Process(worker.pid).children()
        training.kill()
        said, _ = worker.communicate(timeout=PATIENCE_S)
    assert worker.returncode == 0
    assert "failed" not in said
    assert sum(len(RunDirectory(tmp_path / f"pop-{number}").read_launches()) for number in range(2)) == 3
