"""A training that is watched: the same training, and nothing is gathered for nobody."""

import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from stable_baselines3.common.logger import Logger

import biped_train
from biped.config.run import Config
from biped.env.env import BipedVecEnv, make_env
from biped.eval.clip import Clip
from biped.runs.checkpoint import read_checkpoint
from biped.runs.directory import RunDirectory
from biped.train.callback import BipedCallback, Rollouts
from biped.train.learner import make_model
from biped.train.watched import Watched, last_evaluation
from biped.view import training_page
from biped.view.training_page import TrainingPage
from biped_config import smoke_preset
from tests.browser import Browser
from tests.conftest import SMALL
from tests.loopback import free_port
from tests.processes import until


class Wall:
    """A page that nobody opens before the second rollout."""

    def __init__(self) -> None:
        self.is_watched, self.robot, self.updates = False, 0, list[tuple[int, int | None]]()

    def update(self, steps: int, row: Mapping[str, float], clip: Clip | None) -> None:
        assert not row or "episode/count" in row
        self.updates.append((steps, None if clip is None else len(clip)))
        self.is_watched = steps > 0

    def judge(self, share: float) -> None:
        raise AssertionError("there is no evaluation")

    def close(self) -> None:
        pass


@pytest.fixture
def small() -> Iterator[tuple[Config, BipedVecEnv]]:
    config = smoke_preset()
    env = BipedVecEnv(make_env(config.env, sim="mujoco"))
    yield config, env
    env.close()


def test_while_nobody_watches_nothing_is_gathered(small: tuple[Config, BipedVecEnv]) -> None:
    config, env = small
    model, wall, rollouts = make_model(config, env, seed=1), Wall(), Rollouts(env.env, 1.0)
    model.set_logger(Logger(None, []))
    per_rollout = config.ppo.n_steps * config.env.num_envs
    never: Any = None
    model.learn(3 * per_rollout, BipedCallback([rollouts, Watched(env.env, wall)]), log_interval=never)
    steps = config.ppo.n_steps
    assert wall.updates == [(0, None), (per_rollout, None), (2 * per_rollout, steps), (3 * per_rollout, steps)]


def test_a_resumed_training_shows_the_last_evaluation_before_the_next_one(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert last_evaluation(run) == (0, {})
    lines = [(100, {"gate/score": 0.5, "gate/flight": 0.1}), (200, {"gate/score": 0.75}), (300, {"time/fps": 9.0})]
    text = "".join(json.dumps({"step": steps, **row}) + "\n" for steps, row in lines)
    run.metrics.write_text(text)
    assert last_evaluation(run) == (200, {"gate/score": 0.75})


def rows(run: Path) -> list[dict[str, float]]:
    """Return the metrics of a run without those of time."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith("time")} for line in lines]


class Viewer:
    """A browser that is open from the first step on."""

    def __init__(self, port: int) -> None:
        self.browser, self.positions, self.text = Browser(port), set[bytes](), ""
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        try:
            while True:
                self.browser.receive()
                if "/robots/pelvis" in self.browser.stage:
                    self.positions.add(self.browser.positions("left_foot").tobytes())
                self.text = self.browser.text
        except Exception:  # the training has ended
            return


@pytest.mark.parametrize("viewers", [0, 1])
def test_a_training_with_a_page_is_the_same_to_the_last_bit_watched_or_not(
    viewers: int, logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("viser", reason="the package viser is not installed")
    port, watching = free_port(), list[Viewer]()

    def opened(*about: Any, **kwargs: Any) -> TrainingPage:
        page = training_page.open_page(*about, **kwargs)
        watching.extend(Viewer(port) for _ in range(viewers))
        until(lambda: page.is_watched == bool(viewers))
        return page

    monkeypatch.setattr(biped_train, "open_page", opened)
    assert biped_train.main(["-e", "demo", "--log_dir", str(tmp_path), *SMALL, "--web", str(port)]) == 0
    assert f"open http://127.0.0.1:{port} in a browser" in capsys.readouterr().out
    assert rows(tmp_path / "demo") == rows(logs / "demo")
    one, other = (read_checkpoint(run / "demo" / "model_final.zip").policy for run in (logs, tmp_path))
    assert all(torch.equal(one[name], other[name]) for name in one)
    for viewer in watching:
        assert len(viewer.positions) > 2, "the robot moves"
        assert "tracking_lin_vel_x" in viewer.text
        assert "steps/s" in viewer.text


def test_a_port_that_is_taken_is_said_before_anything_is_built(tmp_path: Path, capsys) -> None:
    pytest.importorskip("viser", reason="the package viser is not installed")
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert biped_train.main([*SMALL, "--log_dir", str(tmp_path), "--web", str(port)]) == 1
    said = capsys.readouterr()
    assert said.err == f"biped_train.py: port {port} is in use: name another one, such as --web {port + 1}\n"
    assert said.out == ""
    assert list(tmp_path.iterdir()) == []
