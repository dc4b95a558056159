"""A robot's appearance: the shapes on its links and the links' poses. Read with MuJoCo, for any simulator."""

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # a film is drawn without torch
    from biped.robot.state import BipedState

_BASE_POS, _BASE_QUAT = slice(None, 3), slice(3, 7)
_COLLISION_GROUP = 3
"""MuJoCo's viewers hide geoms of this group and above."""


@dataclass(frozen=True)
class Shape:
    """One visible part of a link."""

    body: int
    """Index into `Looks.bodies`."""
    kind: str
    """`box`, `sphere`, `capsule`, `cylinder`, `ellipsoid` or `mesh`."""
    size_m: NDArray[np.float64]
    """(3,): half extents; for capsules and cylinders the radius and half the length along z."""
    pos_b: NDArray[np.float64]
    """Position in the link's frame, (3,), m."""
    quat_b: NDArray[np.float64]
    """Orientation in the link's frame, (4,), wxyz."""
    rgba: NDArray[np.float32]
    """Colour, (4,), each from 0 to 1."""
    vertices: NDArray[np.float32] | None
    """Vertices of a mesh, (vertices, 3), m; else None."""
    faces: NDArray[np.int32] | None
    """Triangles of a mesh, (faces, 3), as indices of vertices; else None."""


Colour = tuple[float, float, float]


def add_ground_and_sky(spec: Any, tiles: tuple[Colour, Colour], sky: tuple[Colour, Colour], repeat: float) -> None:
    """Add a chequered ground and a sky to a model that is only displayed, never simulated.

    Args:
        spec: a `mujoco.MjSpec`; the names added here begin with "show".
        tiles: the two colours of the ground, each from 0 to 1.
        sky: the two colours of its gradient, MuJoCo's `rgb1` and `rgb2`.
        repeat: repetitions per metre of the pattern of two by two tiles.
    """
    mujoco: Any = importlib.import_module("mujoco")
    kinds, built_in = mujoco.mjtTexture, mujoco.mjtBuiltin
    for name, kind, pattern, colours, pixels in (
        ("show sky", kinds.mjTEXTURE_SKYBOX, built_in.mjBUILTIN_GRADIENT, sky, 64),
        ("show ground", kinds.mjTEXTURE_2D, built_in.mjBUILTIN_CHECKER, tiles, 256),
    ):
        spec.add_texture(
            name=name, type=kind, builtin=pattern, rgb1=colours[0], rgb2=colours[1], width=pixels, height=pixels
        )
    ground = spec.add_material(name="show ground", texrepeat=[repeat, repeat], texuniform=True)
    ground.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "show ground"
    spec.worldbody.add_geom(
        name="show ground",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[0, 0, 1],
        material="show ground",
        rgba=[1, 1, 1, 1],
        group=0,
    )


class Looks:
    """A robot's links, their visible shapes, and forward kinematics."""

    def __init__(self, spec: Any, joint_names: tuple[str, ...]) -> None:
        """Compile the model without a ground.

        Args:
            spec: the robot as a `mujoco.MjSpec`, with a free joint; see `biped.sim.mujoco_scene.robot_spec`.
            joint_names: names of the joints, in the order of a state's joints.
        """
        self._mujoco: Any = importlib.import_module("mujoco")
        self._model = spec.compile()
        self._data = self._mujoco.MjData(self._model)
        self._joints = joint_addresses(self._model, joint_names)
        self.bodies: tuple[str, ...] = tuple(self._model.body(index).name for index in range(1, self._model.nbody))
        """Names of the links."""
        self.shapes: tuple[Shape, ...] = tuple(self._visible_shapes())
        """All visible shapes of the robot."""

    def _visible_shapes(self) -> list[Shape]:
        model, kinds = self._model, self._mujoco.mjtGeom
        names = {
            int(kinds.mjGEOM_BOX): "box",
            int(kinds.mjGEOM_SPHERE): "sphere",
            int(kinds.mjGEOM_CAPSULE): "capsule",
            int(kinds.mjGEOM_CYLINDER): "cylinder",
            int(kinds.mjGEOM_ELLIPSOID): "ellipsoid",
            int(kinds.mjGEOM_MESH): "mesh",
        }
        candidates = [
            index
            for index in range(model.ngeom)
            if model.geom_bodyid[index] and int(model.geom_type[index]) in names and model.geom_rgba[index][3] > 0
        ]
        shown = [index for index in candidates if model.geom_group[index] < _COLLISION_GROUP]
        # If all geoms are in hidden groups, show those.
        return [self._shape(index, names[int(model.geom_type[index])]) for index in shown or candidates]

    def _shape(self, index: int, kind: str) -> Shape:
        model, vertices, faces = self._model, None, None
        if kind == "mesh":
            mesh = int(model.geom_dataid[index])
            start, count = int(model.mesh_vertadr[mesh]), int(model.mesh_vertnum[mesh])
            vertices = model.mesh_vert[start : start + count].copy()
            start, count = int(model.mesh_faceadr[mesh]), int(model.mesh_facenum[mesh])
            faces = model.mesh_face[start : start + count].copy()
        return Shape(
            body=int(model.geom_bodyid[index]) - 1,
            kind=kind,
            size_m=model.geom_size[index].copy(),
            pos_b=model.geom_pos[index].copy(),
            quat_b=model.geom_quat[index].copy(),
            rgba=model.geom_rgba[index].copy(),
            vertices=vertices,
            faces=faces,
        )

    def poses(self, state: "BipedState") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the poses of the links in the world.

        Args:
            state: a state of any simulator, with joints in the configured order.

        Returns:
            Positions (num_envs, links, 3), m, and orientations (num_envs, links, 4), wxyz.
        """
        return self.poses_at(*_arrays(state))

    def poses_at(
        self, base_pos_w: NDArray[Any], base_quat_w: NDArray[Any], joint_pos_rad: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the poses of the links in the world, as `poses` does.

        Args:
            base_pos_w: positions of the bases, (n, 3), m.
            base_quat_w: orientations of the bases, (n, 4), wxyz.
            joint_pos_rad: joint positions in the configured order, (n, num_joints), rad.
        """
        qpos = _qpos(base_pos_w, base_quat_w, joint_pos_rad, self._joints, self._model.nq)
        pos = np.empty((len(qpos), len(self.bodies), 3))
        quat = np.empty((len(qpos), len(self.bodies), 4))
        for index, row in enumerate(qpos):
            self._data.qpos[:] = row
            self._mujoco.mj_kinematics(self._model, self._data)
            pos[index], quat[index] = self._data.xpos[1:], self._data.xquat[1:]
        return pos, quat


def joint_addresses(model: Any, names: tuple[str, ...]) -> list[int]:
    """Return the columns of the generalised position of a `mujoco.MjModel` that hold the named joints."""
    return [int(model.joint(name).qposadr[0]) for name in names]


def generalised_positions(state: "BipedState", joints: list[int], width: int) -> NDArray[np.float64]:
    """Return MuJoCo's qpos of a state, (num_envs, width): base position, base quaternion, joints.

    Args:
        state: a state of any simulator.
        joints: column of each configured joint.
        width: length of a qpos.
    """
    return _qpos(*_arrays(state), joints, width)


def _arrays(state: "BipedState") -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return base positions, base orientations and joint positions on the host."""
    return state.base_pos_w.cpu().numpy(), state.base_quat_w.cpu().numpy(), state.joint_pos_rad.cpu().numpy()


def _qpos(
    base_pos_w: NDArray[Any], base_quat_w: NDArray[Any], joint_pos_rad: NDArray[Any], joints: list[int], width: int
) -> NDArray[np.float64]:
    qpos = np.zeros((len(base_pos_w), width))
    qpos[:, _BASE_POS], qpos[:, _BASE_QUAT] = base_pos_w, base_quat_w
    qpos[:, joints] = joint_pos_rad
    return qpos
