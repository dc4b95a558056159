"""The robot and its world as a MuJoCo model: all that is said to MuJoCo's compiler."""

import importlib
import itertools
import math
from typing import Any

import numpy as np

from biped.base.errors import MachineError, first_line
from biped.config.task import EnvConfig
from biped.robot.model import is_urdf, model_file
from biped.sim.mujoco_warnings import show_warnings_once
from biped.sim.terrain import Terrain, make_terrain

CORNER_RADIUS_M = 0.003
"""Radius of the spheres with which boxes touch bumps (m)."""
CAMERA_RESOLUTION = (960, 720)
"""Width and height of rendered pictures, pixels."""
FOOT_SENSORS = ("force", "pos", "vel")
"""What is sensed of each foot: three numbers each, of the sole's centre."""
_GROUND, _BUMPS = 1, 2
_INERTIAL = ("body_mass", "body_inertia", "body_ipos", "body_iquat")


def import_mujoco() -> Any:
    """Return MuJoCo, with its rollouts.

    Raises:
        MachineError: it cannot be imported.
    """
    try:
        mujoco = importlib.import_module("mujoco")
        importlib.import_module("mujoco.rollout")
    except Exception as error:  # where MUJOCO_GL names what this machine has not, an AttributeError of PyOpenGL's
        raise MachineError(f"MuJoCo cannot be imported ({error}): run ./install_genesis.sh --check") from error
    show_warnings_once(mujoco)
    return mujoco


def robot_spec(cfg: EnvConfig) -> Any:
    """Return the robot's model as a `mujoco.MjSpec`, a URDF with the free joint and the motors' inertia that it lacks.

    Raises:
        MachineError: MuJoCo or the file is missing, or MuJoCo cannot read it.
    """
    mujoco, file, robot = import_mujoco(), model_file(cfg), cfg.robot
    try:
        spec = mujoco.MjSpec.from_file(str(file))
    except ValueError as error:
        raise MachineError(f"MuJoCo cannot read {file} ({first_line(error)})") from error
    if not is_urdf(file):
        return spec
    base = spec.body(robot.base_link)
    if base is None:
        raise MachineError(f"{file} has no link {robot.base_link}: see env.robot.base_link")
    for joint in spec.joints:
        joint.armature = robot.urdf_armature_kg_m2
    base.add_freejoint()
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    return spec


class ModelBuilder:
    """Puts a robot on the ground, with the configured motors and the sensors under its feet."""

    def __init__(self, cfg: EnvConfig) -> None:
        """Build for an environment.

        Raises:
            MachineError: MuJoCo cannot be imported.
        """
        self._mujoco, self._cfg = import_mujoco(), cfg

    def build(self, spec: Any, *, keep_looks: bool) -> Any:
        """Return the compiled model of a robot's `mujoco.MjSpec`, which this changes.

        Args:
            spec: of `robot_spec`.
            keep_looks: geoms that nothing collides with stay, for a camera.

        Raises:
            MachineError: the model lacks a joint or a link.
            Exception: MuJoCo's compiler refuses it; it says so in its own types.
        """
        mujoco, cfg, robot = self._mujoco, self._cfg, self._cfg.robot
        for geom in spec.geoms:
            # As in Genesis, a robot does not collide with itself.
            geom.contype, geom.conaffinity = (_GROUND if geom.contype or geom.conaffinity else 0), 0
        spec.option.timestep = cfg.sim.control_dt_s / cfg.sim.substeps
        spec.visual.global_.offwidth, spec.visual.global_.offheight = CAMERA_RESOLUTION
        spec.worldbody.add_geom(
            name="ground", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1], contype=0, conaffinity=_GROUND
        )
        if (terrain := make_terrain(cfg.randomization.bumps)) is not None:
            self._add_terrain(spec, terrain)
        self._add_motors(spec)
        # In this order what is sensed of both feet lies together, and is read without gathering.
        for name in FOOT_SENSORS:
            for foot in robot.foot_links:
                self._add_sensor(spec, foot, name)
        model = spec.compile()
        if not keep_looks:
            model = self._without_looks(spec, model)
        flags = mujoco.mjtDisableBit
        # A robot that comes apart must be seen to, not put back on its feet.
        model.opt.disableflags |= flags.mjDSBL_AUTORESET
        # For speed: one robot is one island with few geoms, and two steps gain little from a warm start.
        model.opt.disableflags |= flags.mjDSBL_ISLAND | flags.mjDSBL_MIDPHASE | flags.mjDSBL_WARMSTART
        model.opt.jacobian = mujoco.mjtJacobian.mjJAC_DENSE
        return model

    def _without_looks(self, spec: Any, model: Any) -> Any:
        """Return the model without geoms that nothing collides with, if masses and inertias stay what they are."""
        spec.compiler.discardvisual = True
        spec.compiler.inertiafromgeom = self._mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_AUTO
        light = spec.compile()
        same = (np.array_equal(getattr(light, name), getattr(model, name)) for name in _INERTIAL)
        return light if all(same) else model

    def _add_terrain(self, spec: Any, terrain: Terrain) -> None:
        # Where geoms are is known once they are compiled: a file may give angles, end points or a mesh to fit.
        for index, geom in enumerate(spec.geoms):
            geom.name = geom.name or f"geom {index}"
        compiled = spec.copy().compile()
        for geom in [geom for geom in spec.geoms if geom.contype]:
            if compiled.geom(geom.name).type[0] == self._mujoco.mjtGeom.mjGEOM_BOX:
                self._add_corners(geom, compiled.geom(geom.name))
            else:
                geom.contype |= _BUMPS
        # MuJoCo and Genesis cut cells into triangles along different diagonals: turned by 90 degrees, along the same.
        highest, (along_x, along_y) = float(terrain.heights_m.max()), terrain.size_m
        spec.add_hfield(
            name="bumps",
            nrow=terrain.heights_m.shape[0],
            ncol=terrain.heights_m.shape[1],
            size=[0.5 * along_y, 0.5 * along_x, highest, 0.1],
            userdata=(terrain.heights_m[::-1] / highest).flatten(),
        )
        spec.worldbody.add_geom(
            type=self._mujoco.mjtGeom.mjGEOM_HFIELD,
            hfieldname="bumps",
            contype=0,
            conaffinity=_BUMPS,
            pos=[terrain.corner_m[0] + 0.5 * along_x, terrain.corner_m[1] + 0.5 * along_y, 0.0],
            quat=[math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5)],
        )

    def _add_corners(self, box: Any, compiled: Any) -> None:
        """Let a box touch bumps at its corners and at the middle of its edges along x.

        Between a box and a height field MuJoCo finds one contact a triangle: a sole would tip.
        """
        radius = min(CORNER_RADIUS_M, *compiled.size)
        rotation = np.zeros(9)
        self._mujoco.mju_quat2Mat(rotation, compiled.quat)
        for x, y, z in itertools.product((-1.0, 0.0, 1.0), (-1.0, 1.0), (-1.0, 1.0)):
            corner = rotation.reshape(3, 3) @ ((compiled.size - radius) * (x, y, z))
            box.parent.add_geom(
                type=self._mujoco.mjtGeom.mjGEOM_SPHERE,
                size=[radius, 0, 0],
                pos=compiled.pos + corner,
                mass=0.0,
                contype=_BUMPS,
                conaffinity=0,
                friction=box.friction,
            )

    def _add_sensor(self, spec: Any, foot: str, name: str) -> None:
        kinds, fields, objects = self._mujoco.mjtSensor, self._mujoco.mjtConDataField, self._mujoco.mjtObj
        if name == "force":
            spec.add_sensor(
                name=f"{foot} force",
                type=kinds.mjSENS_CONTACT,
                objtype=objects.mjOBJ_BODY,
                objname=foot,
                intprm=[1 << int(fields.mjCONDATA_FORCE), 3, 1],  # the sum of all contacts' forces, in the world
            )
            return
        if spec.site(f"{foot} sole") is None:
            link = spec.body(foot)
            if link is None:
                raise MachineError(f"the model has no link {foot}: see python -m biped check-robot")
            link.add_site(name=f"{foot} sole", pos=self._cfg.robot.foot_sole_offset_m)
        kind = kinds.mjSENS_FRAMEPOS if name == "pos" else kinds.mjSENS_FRAMELINVEL
        spec.add_sensor(name=f"{foot} {name}", type=kind, objtype=objects.mjOBJ_SITE, objname=f"{foot} sole")

    def _add_motors(self, spec: Any) -> None:
        """Replace the model's motors by the configured ones, in the order of actions."""
        mujoco, robot = self._mujoco, self._cfg.robot
        for motor in list(spec.actuators):
            spec.delete(motor)
        for name in robot.joint_names:
            if name not in {joint.name for joint in spec.joints}:
                raise MachineError(f"the model has no joint {name}: see python -m biped check-robot")
            motor = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
            motor.set_to_position(kp=robot.kp_nm_per_rad, kv=robot.kd_nm_s_per_rad)
            motor.forcelimited = True
            motor.forcerange = [-robot.servo.stall_torque_nm, robot.servo.stall_torque_nm]
