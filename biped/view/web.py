"""A page in the browser that shows robots, by viser; what steers them or tells of them is added to its panel."""

import contextlib
import errno
import importlib
import io
import math
import socket
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biped.base.errors import MachineError
from biped.base.packages import how_to_install
from biped.config.task import EnvConfig
from biped.sim.looks import Looks, Shape
from biped.sim.mujoco_robot import robot_spec
from biped.sim.terrain import make_terrain
from biped.sim.window import places

if TYPE_CHECKING:
    import trimesh

HOST = "127.0.0.1"
"""Only this machine can connect; from elsewhere, forward the port by ssh."""
PORT = 8080
"""Default port of the page."""
FOLLOW_S, JUMP_M = 0.2, 1.0
"""Time constant with which the camera follows the robot (s), and the distance from which it jumps (m)."""
_CAMERA_M, _LOOK_AT_M = (1.15, -0.95, 0.62), (0.0, 0.0, 0.24)
_UPRIGHT_CAMERA_M, _UPRIGHT_LOOK_AT_M = (2.25, -1.86, 0.5), (0.0, 0.0, -0.2)
"""On a phone held upright the panel covers the lower half: the robot stands in the upper one."""
_SKY, _GROUND, _BUMPS = (226, 234, 243), (233, 237, 241), (196, 204, 212)
_ROUND_SECTIONS = 24


def require_viser(flag: str = "--web") -> Any:
    """Return the module viser; `flag` is what asked for the page.

    Raises:
        MachineError: it is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module("viser")
    except ImportError as error:
        raise MachineError(f"{flag} needs the package viser ({error}): {how_to_install('viser')}") from error


def require_port(port: int, flag: str = "--web") -> None:
    """Check that a port is free to listen on; `flag` is the option that names another one.

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
            raise MachineError(f"port {port} {why}: name another one, such as {flag} {_other(port)}") from error


def _other(port: int) -> int:
    return PORT if port < 1024 else port % 65535 + 1 if port < 65535 else PORT


class Stage:
    """A page on `HOST` with robots on a ground, which the camera follows, and an empty panel."""

    def __init__(self, port: int = PORT, *, flag: str = "--web", label: str = "Biped") -> None:
        """Start serving the page, without robots.

        Args:
            port: port to listen on.
            flag: the option that asked for the page, for errors.
            label: title of the panel.

        Raises:
            MachineError: viser is missing, or the port is in use.
        """
        viser = require_viser(flag)
        require_port(port, flag)
        with contextlib.redirect_stdout(io.StringIO()):  # suppress viser's own announcement
            self._server: Any = viser.ViserServer(host=HOST, port=port, label=label, verbose=False)
        if self._server.get_port() != port:  # another process took it meanwhile
            self._server.stop()
            raise MachineError(f"port {port} is in use: name another one, such as {flag} {_other(port)}")
        self.address = f"http://{HOST}:{port}"
        """The address to open in a browser."""
        self.gui: Any = self._server.gui
        """The panel, viser's `GuiApi`."""
        self.gui.configure_theme(
            control_layout="floating", control_width="medium", show_logo=False, show_share_button=False
        )
        self._here, self._shown_s = np.zeros(3), -math.inf
        self._links: dict[int, Any] = {}
        self._bumps: Any = None
        self._set_up()

    @property
    def is_watched(self) -> bool:
        """Whether a browser shows the page."""
        return bool(self._server.get_clients())

    def _set_up(self) -> None:
        scene = self._server.scene
        scene.set_background_image(np.full((2, 2, 3), _SKY, dtype=np.uint8))
        scene.configure_default_lights(enabled=True, cast_shadow=True)
        self._server.initial_camera.position = _CAMERA_M
        self._server.initial_camera.look_at = _LOOK_AT_M
        self._server.initial_camera.fov = math.radians(38.0)
        self._server.on_client_connect(_look_above_the_panel)
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

    def put_robots(self, cfg: EnvConfig, count: int) -> Looks:
        """Put robots of a configuration in the place of those that are there; return what their links look like.

        Args:
            cfg: the environment's configuration; shapes come from the model file.
            count: number of robots.

        Raises:
            MachineError: MuJoCo is missing, or the model cannot be read.
        """
        looks = Looks(robot_spec(cfg), cfg.robot.joint_names)
        with self._server.atomic():
            for thing in filter(None, (*self._links.values(), self._bumps)):
                thing.remove()
            self._put_bumps(cfg)
            wxyz = np.tile((1.0, 0.0, 0.0, 0.0), (count, 1))
            self._links = {}
            for index, name in enumerate(looks.bodies):
                if parts := [shape for shape in looks.shapes if shape.body == index]:
                    self._links[index] = self._server.scene.add_batched_meshes_trimesh(
                        f"/robots/{name}", _joined(parts), wxyz, np.zeros((count, 3)), lod="off"
                    )
        self._shift = np.array([(x, y, 0.0) for x, y in places(count)])
        self._here = np.zeros(3)
        return looks

    def _put_bumps(self, cfg: EnvConfig) -> None:
        self._bumps = None
        if (terrain := make_terrain(cfg.randomization.bumps)) is not None:
            vertices, faces = _height_field(terrain.heights_m, terrain.cell_m)
            corner = (*terrain.corner_m, 0.001)
            self._bumps = self._server.scene.add_mesh_simple(
                "/world/bumps", vertices, faces, color=_BUMPS, flat_shading=True, side="double", position=corner
            )

    def show(self, pos_w: NDArray[np.float64], quat_w: NDArray[np.float64], *, follow: bool = True) -> None:
        """Send the poses of the robots' links to all open pages.

        Args:
            pos_w: positions in the world, (robots, links, 3), m; nothing is sent where one is not finite.
            quat_w: orientations, (robots, links, 4), wxyz.
            follow: whether the camera follows the first robot.
        """
        now_s = time.monotonic()
        pos = pos_w + self._shift[:, None]
        if np.isfinite(pos).all() and np.isfinite(quat_w).all():
            if follow:
                self._go_after(pos[0, 0], now_s - self._shown_s)
            pos -= self._here
            with self._server.atomic():
                self._world.position = tuple(-self._here)
                for index, link in self._links.items():
                    link.batched_positions = pos[:, index].astype(np.float32)
                    link.batched_wxyzs = quat_w[:, index].astype(np.float32)
        self._shown_s = now_s

    def _go_after(self, base_w: NDArray[np.float64], passed_s: float) -> None:
        way = base_w * (1.0, 1.0, 0.0) - self._here
        share = 1.0 if np.linalg.norm(way) > JUMP_M else 1.0 - math.exp(-passed_s / FOLLOW_S)
        self._here = self._here + share * way

    def close(self) -> None:
        """Stop serving."""
        with contextlib.redirect_stdout(io.StringIO()):
            self._server.stop()


def _look_above_the_panel(client: Any) -> None:
    """Turn the camera of a browser that is higher than wide."""
    if client.camera.aspect < 1.0:
        client.camera.position, client.camera.look_at = _UPRIGHT_CAMERA_M, _UPRIGHT_LOOK_AT_M


def _joined(shapes: Iterable[Shape]) -> "trimesh.Trimesh":
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
