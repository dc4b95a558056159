"""Draws recorded episodes as a film: `python -m biped.view.film_process JOB OUT`, started by `biped.view.film`.

It is a separate process because MuJoCo chooses its renderer when it is imported, because a driver may crash its
process, and because training need not wait.
"""

import argparse
import importlib
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from biped.base.errors import MachineError
from biped.config.serial import from_json
from biped.config.task import EnvConfig
from biped.eval.recording import Recording
from biped.sim.looks import add_ground_and_sky
from biped.sim.mujoco_robot import robot_spec
from biped.view.film import NO_RENDERER
from biped.view.smoothing import moving_mean

FRAMES_S = 25
"""Frames per second."""
TILE = (480, 352)
"""Width and height of each robot's tile, pixels: two tiles per row, in multiples of 16 for the encoder."""
GIF_WIDTH, GIF_FRAMES_S = 640, 12.5
"""Width of a GIF (pixels), and its frames per second."""
SPEED_OVER_S = 0.4
"""Speeds are shown as means over this time (s), because the base sways within a step."""
_POSITION, _QUATERNION = slice(0, 3), slice(3, 7)
_SKY, _TILES = ((0.96, 0.98, 1.0), (0.80, 0.88, 0.96)), ((0.80, 0.84, 0.89), (0.72, 0.77, 0.83))
_IN_PICTURE = 0.55
"""Share of a standing robot's highest point that sizes its picture, where that is more than the height of its base."""
_INK, _GREEN, _PALE = (25, 32, 44), (46, 160, 67), (255, 255, 255)


@dataclass(frozen=True)
class Job:
    """The input of a film."""

    record: Recording
    """The episodes, one per tile."""
    cfg: EnvConfig
    """Configuration of their robot."""

    @classmethod
    def load(cls, folder: Path) -> "Job":
        """Read what `biped.view.film.save_job` wrote.

        Raises:
            OSError, ValueError: the folder does not contain a job.
        """
        return cls(Recording.load(folder / "record.npz"), from_json((folder / "config.json").read_text()).env)


def highest_point_m(model: Any, cfg: EnvConfig) -> float:
    """Return the height of the top of the boxes around a robot's shapes when it stands in its default pose (m).

    Args:
        model: the robot as a `mujoco.MjModel`.
        cfg: the robot.
    """
    mujoco = importlib.import_module("mujoco")
    data = mujoco.MjData(model)
    data.qpos[_POSITION] = (0.0, 0.0, cfg.robot.default_base_height_m)
    data.qpos[_QUATERNION] = (1.0, 0.0, 0.0, 0.0)
    for name, angle in zip(cfg.robot.joint_names, cfg.robot.default_joint_pos_rad, strict=True):
        data.joint(name).qpos[0] = angle
    mujoco.mj_kinematics(model, data)
    of_robot = model.geom_bodyid > 0
    centre, half = np.split(model.geom_aabb[of_robot], 2, axis=1)
    up = data.geom_xmat.reshape(-1, 3, 3)[of_robot, 2]
    middle_m = data.geom_xpos[of_robot, 2] + (up * centre).sum(axis=1)
    return float((middle_m + (np.abs(up) * half).sum(axis=1)).max())


class Stage:
    """A model of one robot on a chequered plane, with a camera that follows the robot."""

    def __init__(self, cfg: EnvConfig, size: tuple[int, int]) -> None:
        """Build the model and the renderer.

        Args:
            cfg: the robot.
            size: width and height of a picture, pixels.

        Raises:
            MachineError: the robot's model cannot be read.
            Exception: no renderer works; MuJoCo raises several types.
        """
        self._mujoco = mujoco = importlib.import_module("mujoco")
        spec = robot_spec(cfg)
        self._furnish(spec, size, light_m=3.0 * cfg.robot.default_base_height_m)
        self._model = spec.compile()
        self._model.stat.extent = 2.0
        self._data = mujoco.MjData(self._model)
        self._joints = [int(self._model.joint(name).qposadr[0]) for name in cfg.robot.joint_names]
        size_m = max(cfg.robot.default_base_height_m, _IN_PICTURE * highest_point_m(self._model, cfg))
        self._look_at_m = 0.68 * size_m
        self._camera = mujoco.MjvCamera()
        self._camera.distance, self._camera.elevation = 3.4 * size_m, -12.0
        self._renderer = mujoco.Renderer(self._model, size[1], size[0])

    def _furnish(self, spec: Any, size: tuple[int, int], light_m: float) -> None:
        mujoco, world = self._mujoco, spec.worldbody
        spec.visual.global_.offwidth, spec.visual.global_.offheight = size
        spec.visual.quality.shadowsize = 1024
        spec.visual.quality.offsamples = 0  # in software, anti-aliasing would double the time
        spec.visual.headlight.ambient = [0.35, 0.35, 0.35]
        spec.visual.headlight.diffuse = [0.35, 0.35, 0.35]
        add_ground_and_sky(spec, _TILES, _SKY, repeat=4.0)
        # Low enough for the shadow map's depth resolution; otherwise the ground would cast shadows on itself.
        world.add_light(
            pos=[0, 0, light_m],
            dir=[0.3, 0.5, -1.0],
            type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
            diffuse=[0.6, 0.6, 0.6],
        )

    def picture(self, pos_w: NDArray, quat_w: NDArray, joints_rad: NDArray, heading_rad: float) -> NDArray[np.uint8]:
        """Draw the robot in a pose, seen from its front right; (height, width, 3)."""
        data = self._data
        # Draw near the origin, because shadows blur far from it. The chequers repeat every half metre.
        offset = np.floor(pos_w[:2])
        data.qpos[_POSITION] = (*(pos_w[:2] - offset), pos_w[2])
        data.qpos[_QUATERNION] = quat_w
        data.qpos[self._joints] = joints_rad
        self._mujoco.mj_kinematics(self._model, data)
        self._mujoco.mj_comPos(self._model, data)
        self._mujoco.mj_camlight(self._model, data)
        self._camera.lookat = (*(pos_w[:2] - offset), self._look_at_m)
        self._camera.azimuth = math.degrees(heading_rad) + 145.0
        self._renderer.update_scene(data, camera=self._camera)
        return self._renderer.render()

    def close(self) -> None:
        """Free the renderer."""
        self._renderer.close()


def caption(tile: Image.Image, record: Recording, step: int, robot: int) -> None:
    """Draw a robot's command, speed, contacts and phase into its tile.

    Args:
        tile: the picture of the robot; changed in place.
        record: the episodes.
        step: the control step to show.
        robot: the episode to show.
    """
    draw, font = ImageDraw.Draw(tile), ImageFont.load_default(size=14)
    first = max(0, step + 1 - round(SPEED_OVER_S / record.dt_s))
    speed = record.base_lin_vel_b[first : step + 1, robot].mean(axis=0)
    turn = record.base_ang_vel_b[first : step + 1, robot].mean(axis=0)[2]
    vx, vy, wz = record.command[robot]
    draw.rectangle((0, 0, tile.width, 42), fill=(255, 255, 255))
    for top, name, (forward, left, yaw) in ((3, "command", (vx, vy, wz)), (22, "actual", (*speed[:2], turn))):
        draw.text((8, top), name, fill=_INK, font=font)
        draw.text((76, top), f"{forward:+.2f}  {left:+.2f} m/s   {yaw:+.2f} rad/s", fill=_INK, font=font)
    for foot, (name, left) in enumerate((("L", tile.width - 118), ("R", tile.width - 86))):
        is_down = bool(record.contacts[step, robot, foot])
        draw.rectangle((left, 9, left + 26, 33), fill=_GREEN if is_down else _PALE, outline=_INK)
        draw.text((left + 9, 12), name, fill=_PALE if is_down else _INK, font=font)
    middle, radius = (tile.width - 28, 21), 15
    angle = 2.0 * math.pi * float(record.phase[step, robot])
    draw.ellipse((middle[0] - radius, middle[1] - radius, middle[0] + radius, middle[1] + radius), outline=_INK)
    draw.line((*middle, middle[0] + radius * math.sin(angle), middle[1] - radius * math.cos(angle)), fill=_INK, width=2)


def frames(job: Job, stage: Stage, size: tuple[int, int]) -> Iterator[Image.Image]:
    """Yield the film's frames: tiles in two columns; an episode that is over keeps its last state.

    Args:
        job: the episodes and their robot.
        stage: draws each tile.
        size: width and height of a tile, pixels.
    """
    record = job.record
    count, columns = len(record.command), 1 if len(record.command) == 1 else 2
    rows = -(-count // columns)
    last = np.maximum(record.running.sum(axis=0) - 1, 0)
    headings = _smooth_headings(record)
    every = max(1, round(1.0 / (FRAMES_S * record.dt_s)))
    for frame_step in range(0, int(last.max()) + 1, every):
        sheet = Image.new("RGB", (columns * size[0], rows * size[1]), _PALE)
        for robot in range(count):
            step = min(frame_step, int(last[robot]))
            pixels = stage.picture(
                record.base_pos_w[step, robot],
                record.base_quat_w[step, robot],
                record.joint_pos_rad[step, robot],
                headings[step, robot],
            )
            tile = Image.fromarray(pixels)
            caption(tile, record, step, robot)
            sheet.paste(tile, (robot % columns * size[0], robot // columns * size[1]))
        yield sheet


def _smooth_headings(record: Recording) -> NDArray[np.float64]:
    """Return the yaw of the bases without the sway of steps, (num_steps, num_envs), rad; the camera follows it."""
    w, x, y, z = np.moveaxis(record.base_quat_w.astype(np.float64), -1, 0)
    yaw = np.unwrap(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)), axis=0)
    return moving_mean(yaw, 2 * round(1.0 / record.dt_s) + 1)


def write_film(job: Job, out: Path, size: tuple[int, int] = TILE) -> None:
    """Draw a job as .mp4 or .gif.

    Raises:
        NoRendererError: no renderer works.
        MachineError: the model cannot be read, or the disk refuses the write.
    """
    import imageio_ffmpeg

    try:
        stage = Stage(job.cfg, size)
        pictures = frames(job, stage, size)
        first = next(pictures)
    except MachineError:
        raise
    except Exception as error:
        raise NoRendererError(str(error)) from error
    movie = out if out.suffix == ".mp4" else out.with_name(f"{out.stem}.whole.mp4")
    writer = imageio_ffmpeg.write_frames(
        str(movie),
        first.size,
        fps=FRAMES_S,
        codec="libx264",
        quality=6,
        macro_block_size=2,
        ffmpeg_log_level="error",
    )
    writer.send(None)
    writer.send(np.asarray(first))
    for picture in pictures:
        writer.send(np.asarray(picture))
    writer.close()
    stage.close()
    if movie != out:
        try:
            to_gif(movie, out)
        finally:
            movie.unlink(missing_ok=True)


class NoRendererError(Exception):
    """No renderer works on this machine."""


def to_gif(movie: Path, out: Path) -> None:
    """Convert a film to a GIF with an optimised palette.

    Raises:
        MachineError: ffmpeg fails.
    """
    import imageio_ffmpeg

    size = f"fps={GIF_FRAMES_S},scale={GIF_WIDTH}:-1:flags=lanczos"
    look = f"{size},split[a][b];[a]palettegen=max_colors=96[p];[b][p]paletteuse=dither=none"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-i", str(movie), "-vf", look, str(out)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise MachineError(f"ffmpeg cannot write {out} ({done.stderr.strip().splitlines()[-1]})")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: `NO_RENDERER` if no renderer works, 1 for any other error."""
    parser = argparse.ArgumentParser(prog="python -m biped.view.film_process", description="Draw recorded episodes.")
    parser.add_argument("job", type=Path, help="a folder with record.npz and config.json")
    parser.add_argument("out", type=Path, help="an .mp4 or .gif")
    parser.add_argument(
        "--tile", type=int, nargs=2, default=TILE, metavar=("W", "H"), help="size of each robot's picture, pixels"
    )
    args = parser.parse_args(argv)
    try:
        write_film(Job.load(args.job), args.out, tuple(args.tile))
    except NoRendererError as error:
        print(error, file=sys.stderr)
        return NO_RENDERER
    except (MachineError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
