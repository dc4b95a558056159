"""What a robot's compiled MuJoCo model says of its shape: what collides, where soles are, how axes point."""

import importlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
_SPHERE, _CYLINDER, _MESH = 2, 5, 7
"""MuJoCo's numbers of these kinds of geoms."""
_LOWEST = 0.25
"""Share of a foot's height that its sole takes."""


@dataclass(frozen=True)
class Sole:
    """What collides of a foot, in a pose."""

    low_w: Vector
    """Smallest x, y, z of it, (3,), m."""
    high_w: Vector
    """Largest x, y, z of it, (3,), m."""

    @property
    def centre_w(self) -> Vector:
        """Middle of its lowest face, (3,), m."""
        return np.array([*(0.5 * (self.low_w + self.high_w))[:2], self.low_w[2]])


def posed(model: Any, angles_rad: Mapping[str, float], height_m: float = 0.0) -> Any:
    """Return the `mujoco.MjData` of a robot that stands upright, with its base at a height.

    Args:
        model: its `mujoco.MjModel`, with a free joint first.
        angles_rad: positions of joints by name (rad); all others are at 0.
        height_m: of the base's frame over the ground (m).
    """
    mujoco: Any = importlib.import_module("mujoco")
    data = mujoco.MjData(model)
    data.qpos[:] = 0.0
    data.qpos[2], data.qpos[3] = height_m, 1.0
    for name, angle in angles_rad.items():
        data.joint(name).qpos[0] = angle
    mujoco.mj_forward(model, data)
    return data


def in_link(data: Any, link: str, point_w: Vector) -> Vector:
    """Return a point of the world in a link's frame, (3,), m."""
    body = data.body(link)
    return body.xmat.reshape(3, 3).T @ (point_w - body.xpos)


def rigid_links(model: Any, link: int) -> list[int]:
    """Return a link and the links that are fixed to it, below it, as indices."""
    found = [link]
    for child in range(link + 1, model.nbody):
        if model.body_parentid[child] in found and not model.body_jntnum[child]:
            found.append(child)
    return found


def colliding_geoms(model: Any, link: int) -> list[int]:
    """Return the geoms of a link, and of what is fixed to it, that touch the ground, as indices."""
    links = rigid_links(model, link)
    return [
        geom
        for geom in range(model.ngeom)
        if model.geom_bodyid[geom] in links and (model.geom_contype[geom] or model.geom_conaffinity[geom])
    ]


def sole_of(model: Any, data: Any, link: int) -> Sole | None:
    """Return the bounding box of what collides of a foot, in the pose of `data`; None if nothing does."""
    geoms = colliding_geoms(model, link)
    if not geoms:
        return None
    points = np.concatenate([_points_w(model, data, geom) for geom in geoms])
    return Sole(points.min(axis=0), points.max(axis=0))


def sole_box(model: Any, data: Any, link: int) -> tuple[Vector, Vector] | None:
    """Return a box to stand on in place of what collides of a foot: its middle in the world and half its sides, m.

    It is upright in the pose of `data` and as wide and long as the lowest part of the foot. None if nothing collides.
    """
    geoms = colliding_geoms(model, link)
    if not geoms:
        return None
    points = np.concatenate([_points_w(model, data, geom) for geom in geoms])
    low, high = points[:, 2].min(), points[:, 2].max()
    top = low + _LOWEST * (high - low)
    sole = points[points[:, 2] <= top]
    corners = np.array([[*sole[:, :2].min(axis=0), low], [*sole[:, :2].max(axis=0), top]])
    return corners.mean(axis=0), 0.5 * (corners[1] - corners[0])


def sole_pitch(model: Any, data: Any, link: int) -> float:
    """Return by how much a foot's sole leans forward in the pose of `data` (rad): positive with its toes lower.

    The sole is what the foot would stand on: of its outline from the side, the lower edge under its middle. A foot that
    is one sphere leans nowhere.
    """
    geoms = colliding_geoms(model, link)
    points = np.concatenate([_under_w(model, data, geom) for geom in geoms])[:, [0, 2]]
    hull: list[Vector] = []
    for point in points[np.lexsort((points[:, 1], points[:, 0]))]:  # Andrew's monotone chain, the lower half
        while len(hull) > 1 and np.linalg.det(np.stack((hull[-1] - hull[-2], point - hull[-2]))) <= 0.0:
            hull.pop()
        hull.append(point)
    middle = 0.5 * (hull[0][0] + hull[-1][0])
    for back, front in itertools.pairwise(hull):
        if front[0] >= middle and front[0] > back[0]:
            return float(np.arctan2(back[1] - front[1], front[0] - back[0]))
    return 0.0


def axis_w(data: Any, joint: Any) -> Vector:
    """Return a joint's axis in the world, (3,)."""
    return np.array(data.xaxis[joint.id])


def mirror_alignment(data: Any, joint: str, other: str) -> float:
    """Return the cosine between a joint's axis and the mirror image (left is right) of another one's.

    At 1 the other joint keeps its sign in the mirror, at -1 it changes it; in between they are no mirror images.
    """
    mirrored = axis_w(data, data.joint(joint)) * (-1.0, 1.0, -1.0)
    return float(mirrored @ axis_w(data, data.joint(other)))


def is_wheel(model: Any, data: Any, geom: int, joint: Any) -> bool:
    """Return whether a round geom turns about its own centre when a joint moves, as a wheel does."""
    if model.geom_type[geom] not in (_SPHERE, _CYLINDER):
        return False
    axis = axis_w(data, joint)
    arm = data.geom_xpos[geom] - data.xanchor[joint.id]
    arm -= axis * (arm @ axis)
    if model.geom_type[geom] == _CYLINDER and abs(data.geom_xmat[geom].reshape(3, 3)[:, 2] @ axis) < 0.9:
        return False
    return bool(np.linalg.norm(arm) < 0.2 * model.geom_size[geom][0])


def centre_of_mass_w(data: Any) -> Vector:
    """Return the robot's centre of mass in the world, (3,), m."""
    return np.array(data.subtree_com[0])


def _under_w(model: Any, data: Any, geom: int) -> Vector:
    """Return points of a geom in the world that it can stand on, (n, 3), m: of a sphere the lowest."""
    if model.geom_type[geom] == _SPHERE:
        return np.array([data.geom_xpos[geom] - (0.0, 0.0, model.geom_size[geom][0])])
    return _points_w(model, data, geom)


def _points_w(model: Any, data: Any, geom: int) -> Vector:
    """Return points of a geom in the world that span its bounding box, (n, 3), m."""
    if model.geom_type[geom] == _SPHERE:
        return data.geom_xpos[geom] + model.geom_size[geom][0] * np.concatenate((np.eye(3), -np.eye(3)))
    if model.geom_type[geom] == _MESH:
        mesh = int(model.geom_dataid[geom])
        first = int(model.mesh_vertadr[mesh])
        local = model.mesh_vert[first : first + int(model.mesh_vertnum[mesh])]
    else:
        centre, half = model.geom_aabb[geom][:3], model.geom_aabb[geom][3:]
        local = centre + half * np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
    return data.geom_xpos[geom] + local @ data.geom_xmat[geom].reshape(3, 3).T
