"""Films: real ones, drawn by MuJoCo without a display, and what is said where nothing can draw."""

import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import biped_eval
import biped_train
from biped.base.errors import ConfigError, MachineError
from biped.base.interrupts import Interrupts
from biped.config.run import TrainConfig
from biped.config.settings import robot_settings, with_settings
from biped.eval.recording import Recording
from biped.runs.directory import RunDirectory
from biped.sim.mujoco_robot import robot_spec
from biped.train import films
from biped.train.films import Films
from biped.view.film import REMEDY, choose_episodes, cut, film, remedy, ways_to_draw
from biped.view.film_process import TILE, highest_point_m
from biped.view.filming import Camera
from biped_config import cpu_preset
from tests import mini_robot, processes
from tests.eval.walks import walk
from tests.processes import PATIENCE_S

CONFIG = cpu_preset()
SMALL = (160, 120)


def can_draw() -> bool:
    command = "import mujoco; mujoco.Renderer(mujoco.MjModel.from_xml_string('<mujoco/>'), 16, 16).render()"
    done = (processes.run([sys.executable, "-c", command], env=dict(way)) for way in ways_to_draw())
    return any(result.returncode == 0 for result in done)


draws = pytest.mark.skipif(not can_draw(), reason="nothing here can draw: see biped.view.film.REMEDY")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Films are drawn at a low priority: beside others they take their time."""
    monkeypatch.setattr(films, "END_S", PATIENCE_S)


def standing(num_envs: int = 2, seconds: float = 0.4) -> Recording:
    """Robots in the default pose that glide along."""
    record = walk(num_envs=num_envs, seconds=seconds)
    joints = np.tile(np.array(CONFIG.env.robot.default_joint_pos_rad, dtype=np.float32), (*record.running.shape, 1))
    return replace(record, joint_pos_rad=joints)


def frames_of(file: Path) -> tuple[dict, list[np.ndarray]]:
    reader = imageio_ffmpeg.read_frames(str(file))
    meta = next(reader)
    width, height = meta["size"]
    return meta, [np.frombuffer(frame, dtype=np.uint8).reshape(height, width, 3) for frame in reader]


@draws
def test_a_film_shows_every_robot_in_a_tile_and_lasts_as_long_as_the_episode(tmp_path: Path) -> None:
    film(standing(num_envs=3, seconds=0.8), CONFIG, tmp_path / "walk.mp4", tile=SMALL)
    meta, frames = frames_of(tmp_path / "walk.mp4")
    assert meta["size"] == (2 * SMALL[0], 2 * SMALL[1])
    assert meta["fps"] == 25
    assert len(frames) == 20
    picture = frames[10].astype(float)
    tiles = [picture[row : row + 120, column : column + 160] for row in (0, 120) for column in (0, 160)]
    for tile in tiles[:3]:
        body, empty = tile[50:115, 60:100], tile[50:115, 2:42]
        assert body.std() > empty.std() + 8, "a robot stands in the middle"
    assert tiles[3].min() > 235, "the fourth tile is empty"
    assert [file.name for file in tmp_path.iterdir()] == ["walk.mp4"]


@draws
def test_a_gif_moves_and_the_caption_tells_contacts_apart(tmp_path: Path) -> None:
    record = standing(num_envs=1, seconds=0.8)
    film(record, CONFIG, tmp_path / "walk.gif", tile=TILE)
    with Image.open(tmp_path / "walk.gif") as picture:
        assert 8 <= picture.n_frames <= 12
        scale = picture.width / TILE[0]
        greens = []
        for frame in range(picture.n_frames):
            picture.seek(frame)
            pixels = np.asarray(picture.convert("RGB")).astype(int)
            box = pixels[int(12 * scale) : int(15 * scale), int((TILE[0] - 115) * scale) : int((TILE[0] - 96) * scale)]
            greens.append(bool((box[..., 1] > box[..., 0] + 60).mean() > 0.5))
    # The left foot swings for the first 16 of 40 steps, and is down after that.
    assert greens[1] is False
    assert greens[-1] is True
    assert not list(tmp_path.glob(".*"))


@draws
def test_evaluations_are_filmed_from_the_command_line(tmp_path: Path) -> None:
    out = tmp_path / "zero.mp4"
    words = ["--agent", "zero", "--sim", "mujoco", "--episodes", "3", "--set", "env.termination.episode_s=0.4"]
    assert biped_eval.main([*words, "--video", str(out), "--video_robots", "1"]) == 3
    assert frames_of(out)[0]["size"] == TILE


def test_where_nothing_can_draw_a_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "osmesa")  # the user's own choice is the only one that is tried
    monkeypatch.setenv("PYOPENGL_PLATFORM", "no_such_platform")
    with pytest.raises(MachineError, match="MUJOCO_GL=osmesa cannot draw here: unset it") as caught:
        film(standing(), CONFIG, tmp_path / "walk.mp4")
    assert str(caught.value) == remedy()
    words = ["--agent", "zero", "--sim", "mujoco", "--episodes", "2", "--set", "env.termination.episode_s=0.2"]
    assert biped_eval.main([*words, "--video", str(tmp_path / "walk.gif")]) == 1
    assert capsys.readouterr().err.splitlines() == [f"biped_eval.py: {remedy()}"]
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="use another --video"):
        film(standing(), CONFIG, tmp_path / "gone" / "walk.mp4")


def test_where_nothing_was_chosen_the_remedy_is_a_package() -> None:
    assert remedy({}) == REMEDY
    assert "apt-get install libegl1" in REMEDY


def test_hardware_is_tried_first_then_software_then_osmesa() -> None:
    ways = ways_to_draw({"HOME": "/h"}, "linux")
    assert [way["MUJOCO_GL"] for way in ways] == ["egl", "egl", "osmesa"]
    assert [way.get("LIBGL_ALWAYS_SOFTWARE") for way in ways] == [None, "1", None]
    assert all(way["HOME"] == "/h" for way in ways)
    assert ways_to_draw({"MUJOCO_GL": "glfw"}, "linux") == [{"MUJOCO_GL": "glfw"}]
    assert ways_to_draw({"A": "b"}, "darwin") == [{"A": "b"}]


def test_the_episodes_that_show_most_are_chosen() -> None:
    command = np.array(
        [[0, 0, 0], [0.2, 0, 0], [0.6, 0, 0], [0, 0, -0.6], [0.1, 0.15, 0], [-0.2, 0, 0], [0.3, 0, 0.3]],
        dtype=np.float32,
    )
    record = replace(walk(num_envs=7, seconds=0.4), command=command)
    assert np.nonzero(choose_episodes(record, 4))[0].tolist() == [2, 3, 4, 5]
    assert np.nonzero(choose_episodes(record, 2))[0].tolist() == [2, 3]
    assert choose_episodes(record, 100).all()


def test_a_record_is_cut_in_time_only() -> None:
    short = cut(walk(num_envs=3, seconds=2.0), 0.5)
    assert short.running.shape == (25, 3)
    assert short.base_quat_w.shape == (25, 3, 4)
    assert (short.command.shape, len(short.reward_names)) == ((3, 3), 2)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--video", "walk.avi"], "ending in"),
        (["--video", "no/such/folder/walk.mp4"], "folder that exists"),
        (["--video_seconds", "nan"], "is not a duration"),
    ],
)
def test_what_cannot_be_a_film_is_said_before_anything_is_built(words, says, capsys) -> None:
    assert biped_eval.main(["--agent", "zero", *words]) == 2
    assert says in capsys.readouterr().err


class Filmed:
    """A training whose evaluations are due at every multiple of 100 steps, filmed every `every` steps."""

    def __init__(self, folder: Path, every: int = 200, interrupts: Interrupts | None = None) -> None:
        self.published: list[tuple[str, int]] = []
        self.camera = Camera(CONFIG, folder)
        self.waited: list[int] = []
        show = SimpleNamespace(show=lambda _, file, steps: self.published.append((file.name, steps)))
        bench = SimpleNamespace(last_record=standing(num_envs=1, seconds=0.1))
        watchdog = SimpleNamespace(sign_of_life=lambda: self.waited.append(1))
        self.part = Films(self.camera, bench, every, show, watchdog, interrupts or Interrupts())

    def after(self, steps: int, *, last: bool = False) -> None:
        self.part.num_timesteps = steps
        self.part.after_update({"gate/score": 1.0} if steps % 100 == 0 or last else {}, last=last)

    def wait(self) -> None:
        self.part._collect(time.monotonic() + PATIENCE_S)


@pytest.mark.parametrize(
    ("package", "flag"),
    [("imageio_ffmpeg", "--video"), ("matplotlib", "--report"), ("matplotlib", "--robustness")],
)
def test_the_package_that_an_output_needs_is_named_before_anything_is_built(
    package: str, flag: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.chdir(tmp_path)
    words = ["--model", "assets/policies/biped_walk.zip", "--sim", "mujoco", flag]
    assert biped_eval.main([*words, "x.mp4"] if flag == "--video" else words) == 1
    said = capsys.readouterr()
    assert said.out == ""
    advice = "run ./install_genesis.sh, or pip install 'biped-walking[report]'"
    assert said.err == f"biped_eval.py: {flag} needs the package {package}: {advice}\n"
    assert list(tmp_path.iterdir()) == []


@draws
def test_a_training_is_filmed_at_the_evaluations_that_are_due_and_at_the_last(tmp_path: Path) -> None:
    training = Filmed(tmp_path / "videos")
    training.after(100)
    assert not (tmp_path / "videos").exists()
    training.after(250)  # no evaluation
    assert not training.camera.is_busy
    training.after(300)
    assert training.camera.is_busy
    training.wait()
    assert training.published == [("walk_300_steps.gif", 300)]
    training.after(310, last=True)
    assert [steps for _, steps in training.published] == [300, 310]
    assert sorted(file.name for file in (tmp_path / "videos").iterdir()) == ["walk_300_steps.gif", "walk_310_steps.gif"]


def test_a_training_that_nothing_can_film_goes_on_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.setenv("PYOPENGL_PLATFORM", "no_such_platform")
    training = Filmed(tmp_path, every=100)
    for steps in (100, 200, 300):
        training.after(steps)
        training.wait()
    assert capsys.readouterr().err.splitlines() == [f"no film is drawn: {remedy()}; training goes on without"]
    assert not list(tmp_path.iterdir())


def test_a_film_that_is_not_done_is_given_up_at_the_end(tmp_path: Path) -> None:
    training = Filmed(tmp_path, every=100)
    training.after(100)
    assert training.camera._film is not None
    process = training.camera._film.process
    training.part.close()
    assert process.poll() is not None
    assert not list(tmp_path.iterdir())


def test_a_signal_ends_the_wait_for_the_last_film(tmp_path: Path) -> None:
    interrupts = Interrupts()
    interrupts.received = signal.SIGINT
    training = Filmed(tmp_path, every=100, interrupts=interrupts)
    training.after(100, last=True)
    assert training.camera.is_busy, "it was not waited for"
    assert not training.waited
    training.part.close()
    assert not list(tmp_path.iterdir())


def test_films_need_evaluations() -> None:
    with pytest.raises(ConfigError, match="video_every_steps"):
        TrainConfig(eval_every_steps=0, video_every_steps=1000)


@draws
def test_tensorboard_has_the_film_of_a_training(tmp_path: Path) -> None:
    words = ["--preset", "smoke", "--sim", "mujoco", "--device", "cpu", "-e", "seen", "--log_dir", str(tmp_path)]
    sizes = ["--total_timesteps", "512", "--set", "train.eval_every_steps=512", "env.termination.episode_s=0.3"]
    assert biped_train.main([*words, *sizes, "--video_freq", "512"]) == 0
    run = RunDirectory(tmp_path / "seen")
    assert [file.name for file in run.videos.iterdir()] == ["walk_512_steps.gif"]
    events = EventAccumulator(str(run.tensorboard), size_guidance={"images": 0})
    events.Reload()
    (film_event,) = events.Images("video/walk")
    assert film_event.step == 512
    assert film_event.encoded_image_string == (run.videos / "walk_512_steps.gif").read_bytes()
    assert film_event.encoded_image_string.startswith(b"GIF8")


def test_the_highest_point_of_a_robot_by_hand(tmp_path: Path) -> None:
    """Hips 0.312 m up, with a box of half edges 5, 9 and 8 cm, 9 cm above them."""
    cfg = with_settings(CONFIG, robot_settings(mini_robot.write(tmp_path, mini_robot.mjcf()))).env
    assert highest_point_m(robot_spec(cfg).compile(), cfg) == pytest.approx(0.312 + 0.09 + 0.08, abs=1e-4)


def test_a_film_is_drawn_without_torch() -> None:
    """Its import would take longer than the drawing of a short film."""
    code = "import sys, biped.view.film_process; sys.exit('torch' in sys.modules)"
    assert processes.run([sys.executable, "-c", code]).returncode == 0
