"""A URDF of a robot that there is an MJCF of, for tests that compare the two."""

import math
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray


def write_urdf(mjcf: Path, file: Path) -> Path:
    """Write the links, joints and colliding boxes of an MJCF as a URDF; return its path."""
    model = mujoco.MjModel.from_xml_path(str(mjcf))
    parts = [_link(model, body) for body in range(1, model.nbody)]
    parts += [_joint(model, body) for body in range(2, model.nbody)]
    file.write_text("\n".join(['<robot name="biped">', *parts, "</robot>"]))
    return file


def _link(model: mujoco.MjModel, body: int) -> str:
    place = _origin(model.body_ipos[body], model.body_iquat[body])
    ixx, iyy, izz = model.body_inertia[body]
    boxes = [
        f"<collision>{_origin(model.geom_pos[geom], model.geom_quat[geom])}"
        f'<geometry><box size="{_numbers(2 * model.geom_size[geom])}"/></geometry></collision>'
        for geom in range(model.ngeom)
        if model.geom_bodyid[geom] == body and model.geom_contype[geom]
    ]
    inertia = f'<inertia ixx="{ixx:.9g}" iyy="{iyy:.9g}" izz="{izz:.9g}" ixy="0" ixz="0" iyz="0"/>'
    inertial = f'<inertial>{place}<mass value="{model.body_mass[body]:.9g}"/>{inertia}</inertial>'
    return f'<link name="{model.body(body).name}">{inertial}{"".join(boxes)}</link>'


def _joint(model: mujoco.MjModel, body: int) -> str:
    joint = model.joint(int(model.body_jntadr[body]))
    dof = int(joint.dofadr[0])
    low, high = joint.range
    parent = model.body(int(model.body_parentid[body])).name
    return (
        f'<joint name="{joint.name}" type="revolute">{_origin(model.body_pos[body], model.body_quat[body])}'
        f'<parent link="{parent}"/><child link="{model.body(body).name}"/><axis xyz="{_numbers(joint.axis)}"/>'
        f'<limit lower="{low}" upper="{high}" effort="3" velocity="8"/>'
        f'<dynamics damping="{model.dof_damping[dof]}" friction="{model.dof_frictionloss[dof]}"/></joint>'
    )


def _origin(pos: NDArray[np.float64], quat: NDArray[np.float64]) -> str:
    w, x, y, z = quat
    rpy = (
        math.atan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y)),
        math.asin(np.clip(2 * (w * y - z * x), -1, 1)),
        math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)),
    )
    return f'<origin xyz="{_numbers(pos)}" rpy="{_numbers(rpy)}"/>'


def _numbers(values: NDArray[np.float64] | tuple[float, ...]) -> str:
    return " ".join(f"{float(value):.9g}" for value in values)
