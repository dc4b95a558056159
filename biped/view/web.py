"""The robots in a browser, with sliders for the command, by viser."""

import contextlib
import errno
import importlib
import io
import math
import queue
import socket
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biped.base.errors import MachineError
from biped.config.task import EnvConfig
from biped.robot.state import BipedState
from biped.sim.looks import Looks, Shape
from biped.sim.mujoco_robot import robot_spec
from biped.sim.terrain import make_terrain
from biped.sim.window import places
from biped.view.steering import AXES, STAND, Ranges, Wish, with_part

if TYPE_CHECKING:
    import trimesh

HOST = "127.0.0.1"
"""Only this machine can connect; from elsewhere, forward the port by ssh."""
PORT = 8080
"""Default port of the page."""
INSTALL = "pip install 'viser>=1.1,<2'"
"""Command that installs the package."""
FOLLOW_S, JUMP_M = 0.2, 1.0
"""Time constant with which the camera follows the robot (s), and the distance from which it jumps (m)."""
_TEXT_S = 0.2
_UNITS = ("m/s", "m/s", "rad/s")
_CAMERA_M, _LOOK_AT_M = (1.15, -0.95, 0.62), (0.0, 0.0, 0.24)
_SKY, _GROUND, _BUMPS = (226, 234, 243), (233, 237, 241), (196, 204, 212)
_ROUND_SECTIONS = 24


@dataclass(frozen=True)
class Status:
    """The displayed status of the first robot."""

    command: tuple[float, float, float]
    """Current command: m/s, m/s, rad/s."""
    velocity: tuple[float, float, float]
    """Measured velocity, averaged over half a second: m/s, m/s, rad/s."""
    contacts: tuple[bool, bool]
    """Whether the left and the right foot are on the ground."""
    episode_s: float
    """Time since the last reset (s)."""
    falls: int
    """Number of falls of all robots since the start."""
    pace: float
    """Simulated time divided by real time; 1 if the simulator keeps up."""


def require_viser() -> Any:
    """Return the module viser.

    Raises:
        MachineError: it is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module("viser")
    except ImportError as error:
        raise MachineError(f"--web needs the package viser ({error}): {INSTALL}") from error


def require_port(port: int) -> None:
    """Check that a port is free to listen on.

    Raises:
        MachineError: the port is in use or not permitted.
    """
    with socket.socket() as probe:
        # As the server does: a port that was just released counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise MachineError(f"port {port} {why}: name another one, such as --web {_other(port)}") from error


def _other(port: int) -> int:
    return PORT if port < 1024 else port % 65535 + 1 if port < 65535 else PORT


class WebView:
    """A page on `HOST` that shows and steers the robots: both a view and a source."""

    def __init__(self, cfg: EnvConfig, ranges: Ranges, port: int = PORT) -> None:
        """Start serving the page.

        Args:
            cfg: the environment's configuration; shapes come from the model file.
            ranges: ranges of the sliders.
            port: port to listen on.

        Raises:
            MachineError: viser or MuJoCo is missing, the model cannot be read, or the port is in use.
        """
        viser = require_viser()
        require_port(port)
        self._looks = Looks(robot_spec(cfg), cfg.robot.joint_names)
        self._ranges, self._pressed = ranges, queue.SimpleQueue[str]()
        with contextlib.redirect_stdout(io.StringIO()):  # suppress viser's own announcement
            self._server: Any = viser.ViserServer(host=HOST, port=port, label="Biped", verbose=False)
        if self._server.get_port() != port:  # another process took it meanwhile
            self._server.stop()
            raise MachineError(f"port {port} is in use: name another one, such as --web {_other(port)}")
        self.address = f"http://{HOST}:{port}"
        """The address to open in a browser."""
        self._shift = np.array([(x, y, 0.0) for x, y in places(cfg.num_envs)])
        self._here = np.zeros(3)
        self._shown_s = self._text_s = -math.inf
        self._build_scene(cfg)
        self._build_panel()

    @property
    def is_open(self) -> bool:
        """True: the server stays when pages are closed."""
        return True

    def _build_scene(self, cfg: EnvConfig) -> None:
        scene = self._server.scene
        scene.set_background_image(np.full((2, 2, 3), _SKY, dtype=np.uint8))
        scene.configure_default_lights(enabled=True, cast_shadow=True)
        self._server.initial_camera.position = _CAMERA_M
        self._server.initial_camera.look_at = _LOOK_AT_M
        self._server.initial_camera.fov = math.radians(38.0)
        # The camera stays and the world moves, so that following does not disturb manual camera control.
        self._world = scene.add_frame("/world", show_axes=False)
        scene.add_grid(
            "/world/ground",
            infinite_grid=True,
            cell_size=0.1,
            section_size=0.5,
            cell_color=(206, 212, 219),
            section_color=(168, 177, 188),
            plane_color=_GROUND,
            plane_opacity=1.0,
            shadow_opacity=0.35,
            fade_distance=12.0,
        )
        if (terrain := make_terrain(cfg.randomization.bumps)) is not None:
            vertices, faces = _height_field(terrain.heights_m, terrain.cell_m)
            corner = (*terrain.corner_m, 0.001)
            scene.add_mesh_simple(
                "/world/bumps", vertices, faces, color=_BUMPS, flat_shading=True, side="double", position=corner
            )
        count, wxyz = cfg.num_envs, np.tile((1.0, 0.0, 0.0, 0.0), (cfg.num_envs, 1))
        self._links: dict[int, Any] = {}
        for index, name in enumerate(self._looks.bodies):
            parts = [shape for shape in self._looks.shapes if shape.body == index]
            if parts:
                self._links[index] = scene.add_batched_meshes_trimesh(
                    f"/robots/{name}", _joined(parts), wxyz, np.zeros((count, 3)), lod="off"
                )

    def _build_panel(self) -> None:
        gui = self._server.gui
        gui.configure_theme(control_layout="floating", control_width="medium", show_logo=False, show_share_button=False)
        self._sliders: dict[int, Any] = {}
        self._seen: dict[int, float] = {}
        for axis, (name, unit) in enumerate(zip(AXES, _UNITS, strict=True)):
            low, high = self._ranges.low[axis], self._ranges.high[axis]
            if low < high:  # a component with a fixed value gets no slider
                start = min(max(0.0, low), high)
                self._sliders[axis] = gui.add_slider(
                    f"{name} ({unit})",
                    low,
                    high,
                    min(0.01, high - low),
                    start,
                    marks=((low, f"{low:g}"), (high, f"{high:g}")),
                )
                self._seen[axis] = start
        for name in ("Stop", "Reset"):
            gui.add_button(name).on_click(lambda _, name=name: self._pressed.put(name))
        self.follow: Any = gui.add_checkbox("Camera follows", True)
        """The checkbox that makes the camera follow the first robot."""
        self._text: Any = gui.add_markdown("")

    @property
    def sliders(self) -> dict[int, Any]:
        """The handles of the sliders, by the index of their command component."""
        return dict(self._sliders)

    def poll(self, wish: Wish) -> Wish:
        """Return the wish after slider and button input since the last call, and update the sliders to the command."""
        for axis, slider in self._sliders.items():
            value = float(slider.value)
            if value != self._seen[axis]:
                wish = replace(wish, command=with_part(wish.command, axis, round(value, 6)))
                self._seen[axis] = value
        while not self._pressed.empty():
            stops = self._pressed.get() == "Stop"
            wish = replace(wish, command=STAND) if stops else replace(wish, reset=True)
        for axis, slider in self._sliders.items():
            wanted = (wish.command or STAND)[axis]
            shown = min(max(wanted, self._ranges.low[axis]), self._ranges.high[axis])
            if shown != self._seen[axis]:
                slider.value = self._seen[axis] = shown
        return wish

    def show(self, state: BipedState, status: Status) -> None:
        """Send the robots' poses and the first robot's status to all open pages."""
        now_s = time.monotonic()
        pos, quat = self._looks.poses(state)
        pos = pos + self._shift[:, None]
        if np.isfinite(pos).all() and np.isfinite(quat).all():
            self._go_after(pos[0, 0], now_s - self._shown_s)
            pos -= self._here
            with self._server.atomic():
                self._world.position = tuple(-self._here)
                for index, link in self._links.items():
                    link.batched_positions = pos[:, index].astype(np.float32)
                    link.batched_wxyzs = quat[:, index].astype(np.float32)
        self._shown_s = now_s
        if now_s - self._text_s >= _TEXT_S:
            self._text.content, self._text_s = as_markdown(status), now_s

    def _go_after(self, base_w: NDArray[np.float64], passed_s: float) -> None:
        if not self.follow.value:
            return
        way = base_w * (1.0, 1.0, 0.0) - self._here
        share = 1.0 if np.linalg.norm(way) > JUMP_M else 1.0 - math.exp(-passed_s / FOLLOW_S)
        self._here = self._here + share * way

    def close(self) -> None:
        """Stop serving."""
        with contextlib.redirect_stdout(io.StringIO()):
            self._server.stop()


def as_markdown(status: Status) -> str:
    """Return the panel's text."""
    rows = [
        f"| {name} | {wanted:+.2f} | {got:+.2f} | {unit} |"
        for name, wanted, got, unit in zip(AXES, status.command, status.velocity, _UNITS, strict=True)
    ]
    left, right = ("●" if contact else "○" for contact in status.contacts)
    return "\n".join(
        [
            "| | command | measured | |",
            "|---|---|---|---|",
            *rows,
            "",
            f"Feet: left {left} right {right}",
            "",
            f"Episode: {status.episode_s:.1f} s · falls: {status.falls} · {status.pace:.2f} × real time",
        ]
    )


def _joined(shapes: list[Shape]) -> "trimesh.Trimesh":
    """Return the shapes of a link as one coloured mesh in the link's frame."""
    import trimesh  # slow import, needed only here

    joined: Any = trimesh.util.concatenate([_as_mesh(shape) for shape in shapes])
    return joined


def _as_mesh(shape: Shape) -> "trimesh.Trimesh":
    import trimesh
    from trimesh.visual import ColorVisuals

    size = shape.size_m
    if shape.kind == "mesh":
        mesh = trimesh.Trimesh(shape.vertices, shape.faces, process=False)
    elif shape.kind == "box":
        mesh = trimesh.creation.box(extents=2.0 * size)
    elif shape.kind == "capsule":
        mesh = trimesh.creation.capsule(height=2.0 * size[1], radius=size[0], count=[_ROUND_SECTIONS, _ROUND_SECTIONS])
    elif shape.kind == "cylinder":
        mesh = trimesh.creation.cylinder(radius=size[0], height=2.0 * size[1], sections=_ROUND_SECTIONS)
    else:
        mesh = trimesh.creation.icosphere(subdivisions=3)
        mesh.apply_scale(size if shape.kind == "ellipsoid" else size[0])
    if shape.kind in ("box", "cylinder", "mesh"):
        mesh.unmerge_vertices()  # edges stay sharp
    place = trimesh.transformations.quaternion_matrix(shape.quat_b)
    place[:3, 3] = shape.pos_b
    mesh.apply_transform(place)
    colors = np.tile(np.round(255.0 * shape.rgba).astype(np.uint8), (len(mesh.vertices), 1))
    mesh.visual = ColorVisuals(mesh, vertex_colors=colors)
    return mesh


def _height_field(heights_m: NDArray[np.float32], cell_m: float) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return vertices and faces of a height field (points along x, points along y), first point at the origin."""
    along_x, along_y = heights_m.shape
    x, y = np.meshgrid(cell_m * np.arange(along_x), cell_m * np.arange(along_y), indexing="ij")
    vertices = np.stack((x, y, heights_m), axis=-1).reshape(-1, 3).astype(np.float32)
    first = (np.arange(along_x - 1)[:, None] * along_y + np.arange(along_y - 1)).flatten()
    corners = np.stack((first, first + along_y, first + along_y + 1, first + 1), axis=-1)
    faces = np.concatenate((corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]))
    return vertices, faces.astype(np.int32)
