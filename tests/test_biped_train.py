"""The command line, run for real: what training and evaluation leave, and how a run goes on."""

import json
import math
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import biped_eval
import biped_train
from biped.config.task import SimConfig
from biped.eval import gate
from biped.ppo.style import METRICS as STYLE_METRICS
from biped.runs.checkpoint import read_checkpoint
from biped.runs.directory import RunDirectory
from biped.train.metrics import METRICS
from biped.view.evaluation import EvalPlan
from biped_config import smoke_preset
from tests.conftest import SMALL

NOT_IN_TENSORBOARD = {"time/iterations", "time/time_elapsed", "time/total_timesteps", "train/n_updates"}
"""Stable-Baselines3 keeps these from TensorBoard, whose own axes they are."""


def curve(run: Path, name: str) -> list[int]:
    """Return the steps of a TensorBoard curve, as TensorBoard itself shows it."""
    events = EventAccumulator(str(run / "RecurrentPPO_1"), purge_orphaned_data=True)
    events.Reload()
    return [event.step for event in events.Scalars(name)]


def scalars(run: Path) -> set[str]:
    events = EventAccumulator(str(run / "RecurrentPPO_1"))
    events.Reload()
    return set(events.Tags()["scalars"])


def test_a_run_leaves_what_the_documents_promise(logs: Path) -> None:
    run = logs / "demo"
    assert {p.name for p in run.iterdir()} == {
        "RecurrentPPO_1",
        "metrics.jsonl",
        "overview.png",
        "run_info.json",
        "biped_model_512_steps.zip",
        "biped_model_1024_steps.zip",
        "best_model.json",
        "best_model.zip",
        "cfgs.pkl",
        "config.json",
        "model_final.zip",
    }
    config = json.loads((run / "config.json").read_text())
    assert config["preset"] == "smoke"
    assert config["train"]["total_timesteps"] == 1024
    assert pickle.loads((run / "cfgs.pkl").read_bytes()) == config
    assert read_checkpoint(run / "model_final.zip").num_timesteps == 1024


def test_every_emitted_metric_is_in_the_table_and_every_metric_of_the_table_is_emitted(logs: Path) -> None:
    emitted = scalars(logs / "demo")
    assert emitted <= set(METRICS)
    # A robot that falls at once has no steps to measure: no point on those curves.
    may_be_missing = {name for name in METRICS if name.startswith("gate/")} | {"eval/success_precision"}
    may_be_missing |= {"rewards/feet_apart", "rewards/imitation", "terminations/strayed"}  # off by default
    may_be_missing |= set(STYLE_METRICS)  # tests/train/test_style.py
    may_be_missing |= {"time/waiting_time"}  # for other processes: tests/train/test_launch.py
    assert set(METRICS) - NOT_IN_TENSORBOARD - emitted <= may_be_missing
    assert {"gate/score", "gate/passed", "gate/best_score", "gate/survival", "eval/success_rate"} <= emitted


def test_each_update_is_logged_with_the_rollout_that_it_learned_from(logs: Path) -> None:
    steps = list(range(256, 1025, 256))
    assert curve(logs / "demo", "time/fps") == steps
    assert curve(logs / "demo", "train/loss") == steps, "the last update's numbers must not be lost"


def test_continuing_counts_on_in_the_same_curve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["-e", "demo", "--log_dir", str(tmp_path), *SMALL]
    assert biped_train.main(command) == 0
    first = read_checkpoint(tmp_path / "demo" / "model_final.zip")
    assert biped_train.main([*command, "--continue_training"]) == 0
    assert "from 1,024 to 2,048 steps" in capsys.readouterr().out
    last = read_checkpoint(tmp_path / "demo" / "model_final.zip")
    assert (first.num_timesteps, last.num_timesteps) == (1024, 2048)
    assert last.counters["_n_updates"] == 2 * first.counters["_n_updates"]
    assert curve(tmp_path / "demo", "time/fps") == list(range(256, 2049, 256))
    assert {p.name for p in tmp_path.iterdir()} == {"demo"}
    assert len(list((tmp_path / "demo").glob("RecurrentPPO_*"))) == 1


def test_after_a_crash_the_run_goes_on_from_its_checkpoint_to_its_goal_without_overlap(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process that died after 1024 steps, whose last checkpoint has 512, and whose curve has 1024."""
    command = ["-e", "demo", "--log_dir", str(tmp_path), *SMALL]
    assert biped_train.main(command) == 0
    for lost in ("biped_model_1024_steps.zip", "model_final.zip"):
        (tmp_path / "demo" / lost).unlink()
    assert biped_train.main([*command, "--continue_training"]) == 0
    assert "from 512 to 1,024 steps" in capsys.readouterr().out
    assert curve(tmp_path / "demo", "time/fps") == [256, 512, 768, 1024]


def test_an_interrupted_continuation_goes_on_to_the_goal_it_had(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["-e", "demo", "--log_dir", str(tmp_path), *SMALL]
    assert biped_train.main(command) == 0
    assert biped_train.main([*command, "--continue_training"]) == 0
    for lost in ("biped_model_2048_steps.zip", "model_final.zip"):
        (tmp_path / "demo" / lost).unlink()
    assert biped_train.main([*command, "--continue_training"]) == 0
    assert "from 1,536 to 2,048 steps" in capsys.readouterr().out
    assert biped_train.main([*command, "--continue_training"]) == 0
    assert "from 2,048 to 3,072 steps" in capsys.readouterr().out


def test_a_resumed_run_draws_other_starts_and_noise_than_its_beginning(tmp_path: Path) -> None:
    """With nothing learned in between, the same seed would give the same first row twice."""
    command = ["-e", "demo", "--log_dir", str(tmp_path), *SMALL, "--set", "ppo.learning_rate=1e-30"]
    assert biped_train.main(command) == 0
    assert biped_train.main([*command, "--continue_training"]) == 0
    events = EventAccumulator(str(tmp_path / "demo" / "RecurrentPPO_1"))
    events.Reload()
    rows = [event.value for event in events.Scalars("episode/mean_reward_per_step")]
    assert rows[0] != pytest.approx(rows[4], rel=1e-6)


def test_a_damaged_newest_checkpoint_is_said_and_the_one_before_it_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["-e", "demo", "--log_dir", str(tmp_path), *SMALL]
    assert biped_train.main(command) == 0
    newest = tmp_path / "demo" / "biped_model_1024_steps.zip"
    torn = newest.read_bytes()[:1000]
    newest.write_bytes(torn)
    (tmp_path / "demo" / "model_final.zip").unlink()
    assert biped_train.main([*command, "--continue_training"]) == 0
    out = capsys.readouterr().out
    assert "damaged" in out
    assert "from 512 to 1,024 steps" in out
    assert read_checkpoint(newest).num_timesteps == 1024


def test_loading_a_model_starts_a_new_run_from_its_weights(logs: Path, tmp_path: Path) -> None:
    model = logs / "demo" / "model_final.zip"
    assert (
        biped_train.main(
            [
                "-e",
                "tuned",
                "--log_dir",
                str(tmp_path),
                *SMALL,
                "--load_model",
                str(model),
                "--set",
                "ppo.learning_rate=1e-30",
            ]
        )
        == 0
    )
    before, after = read_checkpoint(model), read_checkpoint(tmp_path / "tuned" / "model_final.zip")
    assert after.num_timesteps == 1024
    for name, value in before.policy.items():
        torch.testing.assert_close(after.policy[name], value)


def test_the_same_seed_trains_the_same_weights_and_another_does_not(logs: Path, tmp_path: Path) -> None:
    def weights(name: str, *flags: str) -> dict[str, torch.Tensor]:
        assert biped_train.main(["-e", name, "--log_dir", str(tmp_path), *SMALL, *flags]) == 0
        return read_checkpoint(tmp_path / name / "model_final.zip").policy

    original = read_checkpoint(logs / "demo" / "model_final.zip").policy
    again, other = weights("again"), weights("other", "--seed", "2")
    assert all(torch.equal(original[name], again[name]) for name in original)
    assert not all(torch.equal(original[name], other[name]) for name in original)


def test_the_adaptive_rate_moves_is_what_the_optimizer_uses_and_survives_a_resume(tmp_path: Path) -> None:
    settings = [
        "--adaptive_lr",
        "--set",
        "ppo.max_learning_rate=1e-2",
        "--set",
        "ppo.learning_rate=1e-5",
        "--set",
        "ppo.desired_kl=10",
    ]
    assert biped_train.main(["-e", "demo", "--log_dir", str(tmp_path), *SMALL, *settings]) == 0
    first = read_checkpoint(tmp_path / "demo" / "biped_model_1024_steps.zip").learning_rate
    # However far the policy moves, it is less than desired: the rate rises by 1.5 after each of two epochs.
    # The checkpoint holds the rate of the next, the ninth.
    assert first == pytest.approx(1e-5 * 1.5**8)
    assert biped_train.main(["-e", "demo", "--log_dir", str(tmp_path), "--continue_training"]) == 0
    events = EventAccumulator(str(tmp_path / "demo" / "RecurrentPPO_1"))
    events.Reload()
    rates = [event.value for event in events.Scalars("train/learning_rate")]
    assert rates == pytest.approx([1e-5 * 1.5**n for n in range(1, 16, 2)], rel=1e-5), "of each update's last epoch"


def test_without_it_the_rate_is_constant(logs: Path) -> None:
    rate = smoke_preset().ppo.learning_rate
    events = EventAccumulator(str(logs / "demo" / "RecurrentPPO_1"))
    events.Reload()
    assert [event.value for event in events.Scalars("train/learning_rate")] == pytest.approx([rate] * 4)


@pytest.mark.genesis
def test_evaluation_reads_the_run_and_writes_its_figures(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["-e", "demo", "--log_dir", str(logs), "--device", "cpu", "--episodes", "8", "--command", "0.3", "0", "0"]
    assert biped_eval.main(command) == biped_eval.GATE_FAILED
    out = logs / "demo" / "eval_8_episodes_command_0.3_0_0.json"
    first = out.read_text()
    record = json.loads(first)
    assert record["passed"] is False
    assert record["trials"]["num_trials"] == 8
    assert record["lines"]["alternation"]["episodes"] == 8
    assert "standing_drift_m_s" not in record["lines"]
    assert "walking gate: FAILED" in capsys.readouterr().out
    assert biped_eval.main(command) == biped_eval.GATE_FAILED
    assert out.read_text() == first, "the same seed must give the same figures"
    out.unlink()


def table(out: str) -> dict[str, float]:
    """Return the figures that an evaluation printed."""
    rows = [line.split() for line in out.splitlines()[1:-1]]
    return {row[0]: float(row[1]) for row in rows}


def test_the_agent_that_does_nothing_fails_the_gate_and_is_good_at_standing(capsys: pytest.CaptureFixture[str]) -> None:
    zero = ["--agent", "zero", "--sim", "mujoco", "--device", "cpu", "--episodes", "24"]
    zero += ["--set", "env.termination.episode_s=8"]
    assert biped_eval.main(zero) == biped_eval.GATE_FAILED
    figures = table(capsys.readouterr().out)
    assert figures["survival"] == figures["standing_feet_on_ground"] == 1.0
    assert figures["standing_drift_m_s"] < 0.005
    assert figures["step_frequency_left_hz"] == figures["step_frequency_right_hz"] == 0.0
    assert math.isnan(figures["alternation"])
    assert figures["error_lin_vel_x_m_s"] > 0.1
    assert biped_eval.main([*zero, "--command", "0", "0", "0"]) == 0


def test_an_agent_without_a_model_moves_the_robot_of_the_run_that_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    smoke = smoke_preset()
    mine = replace(smoke, env=replace(smoke.env, sim=SimConfig(substeps=3)))
    RunDirectory.create(tmp_path, "mine").write_config(mine)

    def substeps(*flags: str) -> int:
        args = biped_eval.make_parser().parse_args(["--agent", "zero", "--log_dir", str(tmp_path), *flags])
        return EvalPlan.of(biped_eval.as_request(args), smoke, 8).config.env.sim.substeps

    assert substeps("-e", "mine") == 3
    assert substeps() == smoke.env.sim.substeps != 3
    assert biped_eval.main(["--agent", "zero", "-e", "lost", "--log_dir", str(tmp_path)]) == 2
    assert "there is no run" in capsys.readouterr().err


def test_the_random_agent_falls(capsys: pytest.CaptureFixture[str]) -> None:
    falls = ["--agent", "random", "--sim", "mujoco", "--device", "cpu", "--episodes", "8"]
    assert biped_eval.main(falls) == biped_eval.GATE_FAILED
    assert table(capsys.readouterr().out)["survival"] == 0.0


def test_the_environment_of_an_evaluation_can_be_changed(logs: Path) -> None:
    command = ["-e", "demo", "--log_dir", str(logs), "--sim", "mujoco", "--device", "cpu", "--episodes", "8"]
    figures = []
    for share in ("0", "1"):
        biped_eval.main([*command, "--set", f"env.control.latency_share={share}"])
        out = logs / "demo" / f"eval_mujoco_8_episodes_latency_share_{share}.json"
        figures.append(json.loads(out.read_text())["lines"])
        out.unlink()
    assert figures[0] != figures[1]


def test_training_stops_once_the_gate_has_passed_often_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # A gate without bars: everybody passes.
    monkeypatch.setattr(gate, "GATE", tuple(replace(line, low=-math.inf, high=math.inf) for line in gate.GATE))
    flags = ["-e", "demo", "--log_dir", str(tmp_path), *SMALL, "--eval_freq", "256", "--stop_when_walking", "2"]
    assert biped_train.main(flags) == 0
    assert "walking gate after 512 steps" in capsys.readouterr().out
    assert curve(tmp_path / "demo", "gate/passed") == [256, 512]
    assert curve(tmp_path / "demo", "train/loss") == [256, 512]
    assert read_checkpoint(tmp_path / "demo" / "best_model.zip").num_timesteps == 256
    assert read_checkpoint(tmp_path / "demo" / "model_final.zip").num_timesteps == 512
    assert [path.name for path in RunDirectory(tmp_path / "demo").checkpoints()] == ["biped_model_512_steps.zip"]


def test_evaluations_do_not_change_the_training(logs: Path, tmp_path: Path) -> None:
    assert biped_train.main(["-e", "often", "--log_dir", str(tmp_path), *SMALL, "--eval_freq", "256"]) == 0
    one, other = (read_checkpoint(run / "model_final.zip").policy for run in (logs / "demo", tmp_path / "often"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_continued_run_keeps_what_its_curriculum_had_reached(tmp_path: Path) -> None:
    # What falls backwards makes some of a command to walk backwards good.
    easy = ["--set", "env.command.widen_above=0", "--set", "env.command.lin_vel_x_m_s=[-0.3, -0.2]"]
    flags = ["-e", "demo", "--log_dir", str(tmp_path)]

    def shares() -> list[float]:
        events = EventAccumulator(str(tmp_path / "demo" / "RecurrentPPO_1"))
        events.Reload()
        return [event.value for event in events.Scalars("curriculum/command_share")]

    assert biped_train.main([*flags, *SMALL, *easy]) == 0
    before = shares()[-1]
    assert before > 0.5
    assert read_checkpoint(tmp_path / "demo" / "model_final.zip").notes["command_share"] == pytest.approx(before)
    assert biped_train.main([*flags, "--continue_training", "--total_timesteps", "256"]) == 0
    assert shares()[-1] >= before


def test_without_evaluations_there_is_no_best_model(tmp_path: Path) -> None:
    assert biped_train.main(["-e", "demo", "--log_dir", str(tmp_path), *SMALL, "--eval_freq", "0"]) == 0
    assert not (tmp_path / "demo" / "best_model.zip").exists()
    assert not any(name.startswith("gate/") for name in scalars(tmp_path / "demo"))


def test_the_newest_checkpoints_stay_and_what_a_kill_left_half_written_goes(tmp_path: Path) -> None:
    flags = ["-e", "demo", "--log_dir", str(tmp_path), "--keep_checkpoints", "2", "--eval_freq", "0"]
    assert biped_train.main([*SMALL, *flags, "--set", "train.checkpoint_every_steps=256"]) == 0
    run = RunDirectory(tmp_path / "demo")
    assert [file.name for file in run.checkpoints()] == ["biped_model_1024_steps.zip", "biped_model_768_steps.zip"]
    half, mine = run.path / ".biped_model_1280_steps.zip.part", run.path / "notes.txt"
    half.write_bytes(b"PK")
    mine.write_text("mine")
    command = ["-e", "demo", "--log_dir", str(tmp_path), "--continue_training", "--total_timesteps", "256"]
    assert biped_train.main([*command, "--keep_checkpoints", "0"]) == 0
    assert len(run.checkpoints()) == 3
    assert not half.exists()
    assert mine.read_text() == "mine"
    assert run.final_model.exists()
