"""Where a robot's soles are, and which forces a motion takes: from its model alone, without ground and contacts.

For logs of real robots, which have joint positions, gravity and angular velocity in the base frame, and nothing else.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from biped.base.errors import MachineError
from biped.config.task import EnvConfig
from biped.robot.model import model_file
from biped.sim.mujoco_file import compiled, import_mujoco
from biped.sim.mujoco_geometry import colliding_geoms, posed, sole_of
from biped.sim.mujoco_robot import robot_spec
from biped.sim.mujoco_scene import BASE_QPOS, BASE_QVEL

Array = NDArray[np.float64]
_QUAT = 4


class MujocoKinematics:
    """A robot's body. Degrees of freedom: the base's 6 as MuJoCo has them, then the joints in the order of actions."""

    def __init__(self, cfg: EnvConfig) -> None:
        """Compile the robot's model.

        Raises:
            MachineError: MuJoCo or the model is missing, or MuJoCo cannot read it.
        """
        self._mujoco = import_mujoco()
        robot = cfg.robot
        self._model = model = compiled(robot_spec(cfg), model_file(cfg))
        flags = self._mujoco.mjtDisableBit
        # What stops of joints and dry friction do is for whoever compares with a log.
        model.opt.disableflags |= flags.mjDSBL_CONTACT | flags.mjDSBL_LIMIT | flags.mjDSBL_FRICTIONLOSS
        self._data = self._mujoco.MjData(model)
        joints = [model.joint(name) for name in robot.joint_names]
        self._qpos = [int(joint.qposadr[0]) for joint in joints]
        self._order = [*range(BASE_QVEL), *(int(joint.dofadr[0]) for joint in joints)]
        self._feet = [model.body(foot).id for foot in robot.foot_links]
        default = posed(model, dict(zip(robot.joint_names, robot.default_joint_pos_rad, strict=True)))
        self._corners = [self._corners_of(default, foot) for foot in self._feet]
        ranges = [joint.range if model.jnt_limited[joint.id] else (-np.inf, np.inf) for joint in joints]
        self.ranges_rad: Array = np.array(ranges, float).reshape(-1, 2)
        """What each joint can reach, (num_joints, 2), rad."""
        self.mass_kg = float(model.body_mass.sum())
        """The robot's mass (kg)."""

    def _corners_of(self, default: Any, foot: int) -> Array:
        """Return the corners of a sole in its foot's frame, (4, 3), m."""
        sole = sole_of(self._model, default, foot)
        if sole is None or not colliding_geoms(self._model, foot):
            raise MachineError(f"nothing of {self._model.body(foot).name} touches the ground")
        low, high = sole.low_w, sole.high_w
        corners = np.array([[x, y, low[2]] for x in (low[0], high[0]) for y in (low[1], high[1])])
        return (corners - default.xpos[foot]) @ default.xmat[foot].reshape(3, 3)

    def soles(self, pos_rad: Array) -> Array:
        """Return where the corners of the soles are in the base frame, (n, 2, 4, 3), m: left, then right.

        Args:
            pos_rad: joint positions, (n, num_joints), rad.
        """
        data, found = self._data, np.empty((len(pos_rad), 2, 4, 3))
        data.qpos[:BASE_QPOS] = 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0
        for row, pose in enumerate(pos_rad):
            data.qpos[self._qpos] = pose
            self._mujoco.mj_kinematics(self._model, data)
            for foot, body in enumerate(self._feet):
                found[row, foot] = data.xpos[body] + self._corners[foot] @ data.xmat[body].reshape(3, 3).T
        return found

    def forces(self, pos: Array, vel: Array, acc: Array) -> tuple[Array, Array]:
        """Return what a motion takes, and what forces at the soles do: inverse dynamics of the free body.

        Featherstone 2008, "Rigid Body Dynamics Algorithms", chapters 5 and 9.

        Args:
            pos: the base's quaternion, wxyz, then joint positions, (n, 4 + num_joints).
            vel: velocity of the base in the world, angular velocity in the base, joint velocities, (n, 6 + num_joints).
            acc: their rates, shaped alike.

        Returns:
            Generalised forces, (n, 6 + num_joints), N and N·m, and Jacobians of the soles' corners in the world,
            (n, 8, 3, 6 + num_joints); left foot, then right.
        """
        mujoco, model, data = self._mujoco, self._model, self._data
        forces = np.empty((len(pos), len(self._order)))
        jacobians = np.empty((len(pos), 2, 4, 3, len(self._order)))
        jac = np.zeros((3, model.nv))
        for row in range(len(pos)):
            data.qpos[:BASE_QPOS] = (0.0, 0.0, 0.0, *pos[row, :_QUAT])
            data.qpos[self._qpos] = pos[row, _QUAT:]
            data.qvel[self._order], data.qacc[self._order] = vel[row], acc[row]
            mujoco.mj_inverse(model, data)
            forces[row] = data.qfrc_inverse[self._order]
            for foot, body in enumerate(self._feet):
                places = data.xpos[body] + self._corners[foot] @ data.xmat[body].reshape(3, 3).T
                for corner, place in enumerate(places):
                    mujoco.mj_jac(model, data, jac, None, place, body)
                    jacobians[row, foot, corner] = jac[:, self._order]
        return forces, jacobians.reshape(len(pos), 8, 3, -1)
