"""The robot and its ground as a compiled MuJoCo model."""

import itertools
import math
from typing import Any

import numpy as np

from biped.base.errors import MachineError
from biped.config.robot import Place
from biped.config.task import EnvConfig
from biped.sim.mujoco_file import import_mujoco
from biped.sim.mujoco_robot import FIRST_PAIR_BIT
from biped.sim.terrain import Terrain, make_terrain

CORNER_RADIUS_M = 0.003
"""Radius of the spheres that replace a box's corners in contacts with bumps (m)."""
CAMERA_RESOLUTION = (960, 720)
"""Width and height of rendered pictures, pixels."""
FOOT_SENSORS = ("force", "pos", "vel")
"""Quantities sensed at each foot: three numbers each, of the sole's centre."""
_GROUND, _BUMPS = 1, 2
_PLAIN = {
    "condim": 3,
    "priority": 0,
    "margin": 0.0,
    "gap": 0.0,
    "friction": [1.0, 0.005, 0.0001],
    "solref": [0.02, 1.0],
    "solimp": [0.9, 0.95, 0.001, 0.5, 2.0],
    "solmix": 1.0,
}
"""Contacts of the ground: MuJoCo's defaults, whatever the defaults of the robot's file are."""
_INERTIAL = ("body_mass", "body_inertia", "body_ipos", "body_iquat")


class ModelBuilder:
    """Puts a robot on the ground, with the configured motors and with sensors at its feet."""

    def __init__(self, cfg: EnvConfig) -> None:
        """Prepare to build models for an environment.

        Raises:
            MachineError: MuJoCo cannot be imported.
        """
        self._mujoco, self._cfg = import_mujoco(), cfg

    def build(self, spec: Any, *, keep_looks: bool) -> Any:
        """Return the compiled model of a robot's `mujoco.MjSpec`, which is modified.

        Args:
            spec: the result of `robot_spec`.
            keep_looks: keep geoms without collisions, for a camera.

        Raises:
            MachineError: the model lacks a joint or a link.
            Exception: MuJoCo's compiler rejects the model, with its own exception types.
        """
        mujoco, cfg, robot = self._mujoco, self._cfg, self._cfg.robot
        # As in Genesis, the links of a robot do not collide with each other, except pairs that the robot's file names.
        pairs = -1 << FIRST_PAIR_BIT if robot.self_collisions else 0
        for geom in spec.geoms:
            ground = _GROUND if geom.contype or geom.conaffinity else 0
            geom.contype, geom.conaffinity = (geom.contype & pairs) | ground, geom.conaffinity & pairs
        spec.option.timestep = cfg.sim.control_dt_s / cfg.sim.substeps
        spec.visual.global_.offwidth, spec.visual.global_.offheight = CAMERA_RESOLUTION
        spec.worldbody.add_geom(
            name="ground", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1], contype=0, conaffinity=_GROUND, **_PLAIN
        )
        if (terrain := make_terrain(cfg.randomization.bumps)) is not None:
            self._add_terrain(spec, terrain)
        self._add_motors(spec)
        # In this order the readings of both feet are contiguous and are read without gathering.
        for name in FOOT_SENSORS:
            for foot, sole in zip(robot.foot_links, robot.sole_offsets_m, strict=True):
                self._add_sensor(spec, foot, sole, name)
        model = spec.compile()
        if not keep_looks:
            model = self._without_looks(spec, model)
        flags = mujoco.mjtDisableBit
        # A robot whose simulation diverges must be reported, not reset silently.
        model.opt.disableflags |= flags.mjDSBL_AUTORESET
        # For speed: a robot is one island with few geoms, and two steps gain little from a warm start.
        model.opt.disableflags |= flags.mjDSBL_ISLAND | flags.mjDSBL_MIDPHASE | flags.mjDSBL_WARMSTART
        model.opt.jacobian = mujoco.mjtJacobian.mjJAC_DENSE
        return model

    def _without_looks(self, spec: Any, model: Any) -> Any:
        """Return the model without non-colliding geoms if masses and inertias stay the same, else unchanged."""
        spec.compiler.discardvisual = True
        spec.compiler.inertiafromgeom = self._mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_AUTO
        light = spec.compile()
        same = (np.array_equal(getattr(light, name), getattr(model, name)) for name in _INERTIAL)
        return light if all(same) else model

    def _add_terrain(self, spec: Any, terrain: Terrain) -> None:
        # Geom types and sizes are known only after compilation: a file may give end points or a mesh to fit.
        for index, geom in enumerate(spec.geoms):
            geom.name = geom.name or f"geom {index}"
        compiled = spec.copy().compile()
        for geom in [geom for geom in spec.geoms if geom.contype]:
            if compiled.geom(geom.name).type[0] == self._mujoco.mjtGeom.mjGEOM_BOX:
                self._add_corners(geom, compiled.geom(geom.name))
            else:
                geom.contype |= _BUMPS
        # MuJoCo and Genesis cut cells along different diagonals; turned by 90 degrees, MuJoCo cuts like Genesis.
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
            **_PLAIN,
        )

    def _add_corners(self, box: Any, compiled: Any) -> None:
        """Let a box touch bumps at its corners and at the middle of its edges along x.

        Between a box and a height field MuJoCo finds one contact per triangle, on which a sole would tip.
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
                **{**_PLAIN, "friction": box.friction},
            )

    def _add_sensor(self, spec: Any, foot: str, sole: Place, name: str) -> None:
        kinds, fields, objects = self._mujoco.mjtSensor, self._mujoco.mjtConDataField, self._mujoco.mjtObj
        if name == "force":
            spec.add_sensor(
                name=f"{foot} force",
                type=kinds.mjSENS_CONTACT,
                objtype=objects.mjOBJ_BODY,
                objname=foot,
                intprm=[1 << int(fields.mjCONDATA_FORCE), 3, 1],  # sum of all contact forces, in the world frame
            )
            return
        if spec.site(f"{foot} sole") is None:
            link = spec.body(foot)
            if link is None:
                raise MachineError(f"the model has no link {foot}: see python -m biped check-robot")
            link.add_site(name=f"{foot} sole", pos=sole)
        kind = kinds.mjSENS_FRAMEPOS if name == "pos" else kinds.mjSENS_FRAMELINVEL
        spec.add_sensor(name=f"{foot} {name}", type=kind, objtype=objects.mjOBJ_SITE, objname=f"{foot} sole")

    def _add_motors(self, spec: Any) -> None:
        """Add the configured motors, in the order of actions."""
        mujoco, robot = self._mujoco, self._cfg.robot
        for name, motor in zip(robot.joint_names, robot.motors, strict=True):
            if name not in {joint.name for joint in spec.joints}:
                raise MachineError(f"the model has no joint {name}: see python -m biped check-robot")
            actuator = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
            # Whatever the model's defaults have put there, such as a gear or a range of controls.
            actuator.gear, actuator.ctrlrange = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0]
            actuator.ctrllimited = actuator.actlimited = mujoco.mjtLimited.mjLIMITED_FALSE
            actuator.gainprm, actuator.biasprm = [0.0] * len(actuator.gainprm), [0.0] * len(actuator.biasprm)
            actuator.dyntype = mujoco.mjtDyn.mjDYN_NONE
            actuator.set_to_position(kp=motor.kp_nm_per_rad, kv=motor.kd_nm_s_per_rad)
            actuator.forcelimited = mujoco.mjtLimited.mjLIMITED_TRUE
            actuator.forcerange = [-motor.effort_limit_nm, motor.effort_limit_nm]
