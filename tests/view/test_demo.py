"""The demo: real servers, the shipped policies, and one of another robot."""

import json
import shutil
import signal
import socket
import sys
from pathlib import Path

import pytest

from biped import __main__ as door
from biped.base.errors import UsageError
from biped.config.settings import robot_settings, with_settings
from biped.env.env import BipedVecEnv, make_env
from biped.runs.checkpoint import save_checkpoint
from biped.runs.directory import RunDirectory
from biped.train.learner import make_model
from biped.view.demo import ASSETS, chosen, friendly, shipped
from biped.view.steering import Ranges
from biped_config import smoke_preset
from tests import processes
from tests.browser import Browser
from tests.loopback import free_port
from tests.processes import ROOT, until_it_says
from tests.view.test_live import LINE

SCRIPT = """
import json, sys
from pathlib import Path
from biped.base.command_line import exit_code
from biped.train.learner import load_agent
from biped.view.demo import DemoRequest, run_demo

request = DemoRequest(port=int(sys.argv[1]), assets=Path(sys.argv[2]))
code = exit_code("demo", lambda: run_demo(request, load_agent))
print("imported", json.dumps(sorted(sys.modules)))
sys.exit(code)
"""
NOT_NEEDED = {"genesis", "wandb", "matplotlib", "pandas", "optuna", "onnx", "jinja2", "torch._dynamo"}
"""What takes longer to import than the demo needs in all."""


def strider_in(folder: Path) -> None:
    """Write a policy of the strider that has learned nothing."""
    config = with_settings(smoke_preset(), [*robot_settings(ROOT / "assets" / "strider" / "robot.json")])
    config = with_settings(config, [("env.num_envs", 2), ("train.sim", "mujoco")])
    env = BipedVecEnv(make_env(config.env, sim="mujoco"))
    folder.mkdir()
    save_checkpoint(make_model(config, env, seed=1), folder / "strider_new.zip")
    RunDirectory(folder).write_config(config)
    env.close()


def test_what_ships_is_found_and_what_was_tried_comes_first(tmp_path: Path) -> None:
    found = shipped()
    assert {"biped_walk", "biped_robust"} <= {policy.name for policy in found}
    assert found[0].name == "biped_robust"
    assert chosen(found, None) == chosen(found, "biped") == found[0]
    assert chosen(found, "biped_walk").model == ASSETS / "policies" / "biped_walk.zip"
    with pytest.raises(UsageError, match=r"--robot: no policy of centaur ships, only of biped, .*biped_walk"):
        chosen(found, "centaur")
    with pytest.raises(UsageError, match="there is no policy in"):
        shipped(tmp_path)


def test_the_first_command_is_one_that_was_trained_and_walks() -> None:
    for policy in shipped():
        ranges = Ranges.trained(policy.config.env.command)
        assert ranges.holds(friendly(ranges))
        assert friendly(ranges)[0] > policy.config.env.command.moving_threshold_m_s


def test_it_walks_at_once_and_is_steered_pushed_and_changed_in_the_browser(tmp_path: Path) -> None:
    pytest.importorskip("viser", reason="the package viser is not installed")
    shutil.copytree(ROOT / "assets" / "policies", tmp_path / "assets", ignore=shutil.ignore_patterns("robust"))
    strider_in(tmp_path / "assets" / "strider_new")
    (tmp_path / "demo.py").write_text(SCRIPT)
    port = free_port()
    command = [sys.executable, str(tmp_path / "demo.py"), str(port), str(tmp_path / "assets")]
    with processes.start(command, afresh=True) as demo:
        assert until_it_says(demo, "open http") == f"open http://127.0.0.1:{port} in a browser; Ctrl-C ends\n"
        first = LINE.match(until_it_says(demo, "falls 0").strip())
        assert first is not None
        assert first["x"] == "+0.30"
        browser = Browser(port)
        browser.until(lambda: browser.value("forward (m/s)") == pytest.approx(0.3))
        browser.trigger("Turn left")
        browser.until(lambda: browser.value("turn (rad/s)") == pytest.approx(0.2))
        browser.set("", "Stop")
        browser.until(lambda: browser.value("forward (m/s)") == browser.value("turn (rad/s)") == 0.0)
        assert "/robots/pelvis" in browser.stage
        browser.set("Robot", "strider_new")
        browser.until(lambda: "/robots/trunk" in browser.stage and "/robots/pelvis" not in browser.stage)
        browser.until(lambda: browser.value("forward (m/s)") > 0.0)  # a new robot walks at once, too
        browser.close()
        demo.send_signal(signal.SIGINT)
        imported = set(json.loads(until_it_says(demo, "imported").removeprefix("imported ")))
    assert demo.returncode == 0
    assert not NOT_NEEDED & imported


def test_a_robot_that_does_not_ship_is_one_line(capsys) -> None:
    assert door.main(["demo", "--robot", "centaur", "--port", str(free_port())]) == 2
    said = capsys.readouterr().err
    assert said.startswith("biped: --robot: no policy of centaur ships")
    assert said.count("\n") == 1


def test_a_port_that_is_taken_is_one_line_before_anything_is_built(capsys) -> None:
    pytest.importorskip("viser", reason="the package viser is not installed")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert door.main(["demo", "--port", str(port)]) == 1
    said = capsys.readouterr().err
    assert said == f"biped: port {port} is in use: name another one, such as --port {port + 1}\n"


def test_without_viser_one_line_names_the_extra(capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "viser", None)
    assert door.main(["demo"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("biped: demo needs the package viser")
    assert "pip install 'biped-walking[sim]'" in said
    assert said.count("\n") == 1
