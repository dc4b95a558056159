"""A robot's model as it was downloaded, made into the one model that both simulators build from.

Public models bring their own ground, motors, contact pairs, joint limits and integrators, and each simulator reads them
in its own way. `robot_spec` reads a file and takes away what the configuration replaces; what is left means the same in
MuJoCo and in Genesis (`genesis_file`).
"""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from biped.base.errors import MachineError
from biped.config.section import suggestion
from biped.config.task import EnvConfig
from biped.robot.model import is_urdf, model_file
from biped.sim.mujoco_file import compiled, drop_missing_looks, import_mujoco, parse_model
from biped.sim.mujoco_geometry import in_link, posed, rigid_links, sole_box
from biped.sim.mujoco_links import move_frame, turn_link

_ROD_SHARE, _ROD_RGBA = 0.05, [0.55, 0.6, 0.68, 1.0]
"""Radius of a rod that stands in for looks, in leg lengths, and its colour."""
_CONTACT = {"condim": 3, "priority": 0, "margin": 0.0, "gap": 0.0}
"""Settings of every geom that collides: those of Genesis."""
LAST_SHOWN_GROUP = 2
"""Last group of geoms that MuJoCo shows unless it is told otherwise."""
FIRST_PAIR_BIT = 2
"""Lowest bit of contype and conaffinity that says which links collide; lower ones are of the ground."""


@dataclass(frozen=True)
class RobotModel:
    """A robot's model after `read_robot`."""

    spec: Any
    """The `mujoco.MjSpec`."""
    changes: tuple[str, ...]
    """What was changed, one phrase each; empty: the file is what both simulators read."""


def robot_spec(cfg: EnvConfig) -> Any:
    """Return the robot's model as a `mujoco.MjSpec`, in the form that both simulators share.

    Raises:
        MachineError: MuJoCo or the file is missing, MuJoCo cannot read it, or the model has what is not supported.
    """
    return read_robot(cfg).spec


def read_robot(cfg: EnvConfig) -> RobotModel:
    """Read a robot's model and put it into the form that both simulators share.

    Raises:
        MachineError: MuJoCo or the file is missing, MuJoCo cannot read it, or the model has what is not supported.
    """
    return _Reader(cfg).read()


@contextlib.contextmanager
def genesis_file(cfg: EnvConfig) -> Iterator[Path]:
    """Yield a model file for Genesis: the robot's own if nothing in it had to be changed, else one written for now.

    Raises:
        MachineError: as of `read_robot`.
    """
    file, model = model_file(cfg), read_robot(cfg)
    if not model.changes:
        yield file
        return
    with tempfile.TemporaryDirectory(prefix="biped-model-") as folder:
        out = Path(folder) / f"{file.stem}.xml"
        out.write_text(_as_xml(model.spec, file), encoding="utf-8")
        yield out


class _Reader:
    """Reads one model; each step takes one thing away and says so."""

    def __init__(self, cfg: EnvConfig) -> None:
        self._mujoco, self._robot = import_mujoco(), cfg.robot
        self._file = model_file(cfg)
        self._changes: list[str] = []

    def read(self) -> RobotModel:
        spec = self._parse()
        base = self._find_base(spec)
        self._refuse_loops(spec)
        self._drop_surroundings(spec, base)
        self._let_float(spec, base)
        self._hold_undriven(spec)
        self._move_origin(spec, base)
        self._drop_motors(spec)
        self._keep_named(spec)
        self._box_soles(spec)
        self._reset_contacts(spec)
        self._pair_links(spec)
        self._reset_options(spec)
        self._give_looks(spec)
        return RobotModel(spec, tuple(self._changes))

    def _parse(self) -> Any:
        if is_urdf(self._file):
            self._changes.append("read from a URDF")
        spec = parse_model(self._file, self._robot.base_link)
        if not is_urdf(self._file) and (missing := drop_missing_looks(spec, self._file)):
            self._changes.append(f"left out the looks of {', '.join(missing)}, whose meshes are nowhere")
        return spec

    def _find_base(self, spec: Any) -> Any:
        names = [body.name for body in spec.bodies if body.name != "world"]
        base = spec.body(self._robot.base_link)
        if base is None or base.name == "world":
            roots = ", ".join(body.name for body in spec.worldbody.bodies)
            raise MachineError(
                f"{self._file} has no link {self._robot.base_link}{suggestion(self._robot.base_link, names)}; "
                f"its root is {roots}: see env.robot.base_link"
            )
        if base.parent.name != "world":
            root = base
            while root.parent.name != "world":
                root = root.parent
            raise MachineError(f"{base.name} hangs on {root.name}: set env.robot.base_link to {root.name}")
        return base

    def _refuse_loops(self, spec: Any) -> None:
        kinds = self._mujoco.mjtEq
        for equality in list(spec.equalities):
            ends = f"{equality.name1} and {equality.name2}"
            if equality.type in (kinds.mjEQ_CONNECT, kinds.mjEQ_WELD):
                raise MachineError(
                    f"{self._file} closes a loop ({ends} are tied together), which is not supported: leave out the "
                    "rod, or drive the joint that it moves directly"
                )
            if equality.type == kinds.mjEQ_JOINT and equality.name1 not in self._robot.held_joints:
                raise MachineError(
                    f"the joint {equality.name1} follows {equality.name2}, which is not supported: fix it with "
                    f'robot.held_joints, such as {{"{equality.name1}": 0}}'
                )
            spec.delete(equality)

    def _drop_surroundings(self, spec: Any, base: Any) -> None:
        """Take away what is not the robot: ground and things in the world, keyframes, tendons, contact pairs.

        A geom that is paired with a ground collides by itself from then on, also if the ground is in another file.
        """
        world = spec.worldbody
        for thing in [body for body in world.bodies if body.name != base.name]:
            self._changes.append(f"left out {thing.name or 'a thing'} beside the robot")
            spec.delete(thing)
        if spec.tendons:
            self._changes.append("left out its tendons")
        if world.geoms:
            names = ", ".join(geom.name or "unnamed" for geom in world.geoms)
            self._changes.append(f"left out its own ground ({names})")
        paired = {geom.name for geom in world.geoms if geom.name}
        for pair in spec.pairs:
            ours = [
                geom for name in (pair.geomname1, pair.geomname2) if (geom := spec.geom(name)) and name not in paired
            ]
            if len(ours) == 1:
                self._collide(ours[0])
        for thing in (*spec.pairs, *spec.excludes, *spec.keys, *spec.tendons, *world.geoms):
            spec.delete(thing)

    def _collide(self, geom: Any) -> None:
        if not geom.contype and not geom.conaffinity:
            geom.contype = geom.conaffinity = 1
            self._changes.append(f"let {geom.name} collide, as its contact pair says")

    def _let_float(self, spec: Any, base: Any) -> None:
        """Give the base a free joint, in place of slides and a ball."""
        kinds = self._mujoco.mjtJoint
        joints = list(base.joints)
        if [joint.type for joint in joints] == [kinds.mjJNT_FREE]:
            return
        floats = {kinds.mjJNT_SLIDE, kinds.mjJNT_BALL, kinds.mjJNT_HINGE}
        if joints and not (len(joints) in (4, 6) and {joint.type for joint in joints} <= floats):
            raise MachineError(f"the model's {base.name} does not float: it needs a free joint")
        for joint in joints:
            spec.delete(joint)
        base.add_freejoint()
        self._changes.append(f"let {base.name} float by a free joint")

    def _hold_undriven(self, spec: Any) -> None:
        """Fix the joints that nothing drives, at the positions that the robot's file names, or at 0."""
        kinds, robot = self._mujoco.mjtJoint, self._robot
        for joint in list(spec.joints):
            if joint.type == kinds.mjJNT_FREE or joint.name in robot.joint_names:
                continue
            if joint.type == kinds.mjJNT_HINGE:
                to_rad = np.pi / 180.0 if spec.compiler.degree else 1.0
                angle = robot.held_joints.get(joint.name, 0.0)
                turn_link(spec, joint, angle - float(joint.ref) * to_rad)
                self._changes.append(f"held {joint.name} at {angle:g} rad")
            else:
                self._changes.append(f"held {joint.name or 'a joint without a name'}")
            spec.delete(joint)

    def _move_origin(self, spec: Any, base: Any) -> None:
        """Move the frame of the base link to the configured point."""
        point = np.array(self._robot.base_point_m)
        if not point.any():
            return
        move_frame(spec, base, point)
        self._changes.append("moved the frame of the base link")

    def _give_looks(self, spec: Any) -> None:
        """Let a robot be seen of which nothing would be: the shapes that collide, and a rod from each link to the next.

        Models for fast training often have no looks, or looks in meshes that are left out; films would be empty.
        """
        if any(geom.group <= LAST_SHOWN_GROUP and geom.rgba[3] > 0.0 for geom in spec.geoms):
            return
        for geom in spec.geoms:
            geom.group, geom.rgba = 0, _ROD_RGBA
        thick_m = _ROD_SHARE * self._robot.leg_length_m
        for body in spec.bodies:
            if body.name == "world" or body.parent.name == "world" or np.linalg.norm(body.pos) < thick_m:
                continue
            body.parent.add_geom(
                type=self._mujoco.mjtGeom.mjGEOM_CAPSULE,
                fromto=[0.0, 0.0, 0.0, *body.pos],
                size=[thick_m, 0.0, 0.0],
                contype=0,
                conaffinity=0,
                mass=0.0,
                group=0,
                rgba=_ROD_RGBA,
            )
        self._changes.append("gave it looks: nothing of it would be seen")

    def _drop_motors(self, spec: Any) -> None:
        """Take away motors and force limits of the joints: the configured ones replace them."""
        for part in (*spec.sensors, *spec.actuators):
            spec.delete(part)
        motors = dict(zip(self._robot.joint_names, self._robot.motors, strict=True))
        for joint in spec.joints:
            joint.actfrclimited, joint.actfrcrange = self._mujoco.mjtLimited.mjLIMITED_FALSE, [0.0, 0.0]
            if (motor := motors.get(joint.name)) is None:
                continue
            if is_urdf(self._file):
                joint.armature = self._robot.urdf_armature_kg_m2
            for name, value in (
                ("armature", motor.armature_kg_m2),
                ("frictionloss", motor.friction_nm),
                ("damping", motor.damping_nm_s_per_rad),
            ):
                if value is None:
                    continue
                before = np.atleast_1d(getattr(joint, name))  # damping is a polynomial of the speed
                after = np.array([value, *[0.0] * (len(before) - 1)])
                if not np.array_equal(before, after):
                    setattr(joint, name, after if len(after) > 1 else value)
                    self._changes.append(f"set {name} of {joint.name}")

    def _reset_contacts(self, spec: Any) -> None:
        """Let every geom that collides do so in the same way: MuJoCo alone knows these settings."""
        changed = set()
        for geom in spec.geoms:
            if not geom.contype and not geom.conaffinity:
                continue
            for name, value in _CONTACT.items():
                if getattr(geom, name) != value:
                    setattr(geom, name, value)
                    changed.add(name)
        if changed:
            self._changes.append(f"left out {', '.join(sorted(changed))} of its contacts")

    def _box_soles(self, spec: Any) -> None:
        """Let one box under each foot collide in place of what does, if the configuration wants that."""
        robot = self._robot
        if not robot.sole_boxes:
            return
        model = compiled(spec.copy(), self._file)
        pose = zip(robot.joint_names, robot.default_joint_pos_rad, strict=True)
        present = {spec_joint.name for spec_joint in spec.joints}
        data = posed(model, {name: angle for name, angle in pose if name in present}, robot.default_base_height_m)
        for foot in robot.foot_links:
            link = spec.body(foot)
            if link is None or (box := sole_box(model, data, model.body(foot).id)) is None:
                continue  # check-robot and the scenes say what is missing
            if box[1].min() <= 0.0:
                raise MachineError(f"{foot} touches the ground at a point or a line: leave out robot.sole_boxes")
            below = {model.body(number).name for number in rigid_links(model, model.body(foot).id)}
            replaced = [geom for geom in spec.geoms if geom.parent.name in below and (geom.contype or geom.conaffinity)]
            upright = data.body(foot).xquat * (1.0, -1.0, -1.0, -1.0)
            drawn = link.add_geom(
                name=f"{foot} sole",
                type=self._mujoco.mjtGeom.mjGEOM_BOX,
                size=box[1],
                pos=in_link(data, foot, box[0]),
                quat=upright,
                mass=0.0,
                group=3,
                contype=1,
                conaffinity=1,
            )
            for name in ("friction", "solref", "solimp"):
                setattr(drawn, name, getattr(replaced[0], name))
            for geom in replaced:
                geom.contype = geom.conaffinity = 0
            self._changes.append(f"drew a box around the sole of {foot}")

    def _pair_links(self, spec: Any) -> None:
        """Let those links collide that the configuration pairs, each pair by a bit of its own."""
        pairs = self._robot.self_collisions
        if not pairs:
            return
        touching = [geom for geom in spec.geoms if geom.contype or geom.conaffinity]
        for geom in touching:
            geom.contype, geom.conaffinity = 1, 0
        names = [body.name for body in spec.bodies if body.name != "world"]
        model = compiled(spec.copy(), self._file)
        for number, pair in enumerate(pairs):
            links = [spec.body(name) for name in pair]
            for name, link in zip(pair, links, strict=True):
                if link is None:
                    raise MachineError(
                        f"{self._file} has no link {name}{suggestion(name, names)}: see env.robot.self_collisions"
                    )
                if not any(geom.parent.name == name for geom in touching):
                    raise MachineError(f"nothing of {name} collides: leave it out of env.robot.self_collisions")
            one, other = pair
            if _joined(model, *pair):
                raise MachineError(
                    f"{one} and {other} are joined and cannot collide: leave them out of env.robot.self_collisions"
                )
            for geom in touching:
                geom.contype |= (1 << FIRST_PAIR_BIT + number) * (geom.parent.name == one)
                geom.conaffinity |= (1 << FIRST_PAIR_BIT + number) * (geom.parent.name == other)
        self._changes.append(f"let {', '.join(' and '.join(pair) for pair in pairs)} collide")

    def _reset_options(self, spec: Any) -> None:
        """Set the simulator's options to MuJoCo's defaults: a model brings few iterations, or no gravity."""
        option, default, changed = spec.option, self._mujoco.MjSpec().option, []
        for name in (name for name in dir(default) if not name.startswith("_")):
            value = getattr(default, name)
            if not np.array_equal(getattr(option, name), value):
                setattr(option, name, value)
                changed.append(name)
        option.integrator = self._mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        if odd := [name for name in changed if name not in ("timestep", "integrator")]:
            self._changes.append(f"left out its own options of MuJoCo ({', '.join(odd)})")

    def _keep_named(self, spec: Any) -> None:
        """Refer to the links that the configuration names: MuJoCo fuses all others that are fixed to their parents."""
        robot, objects = self._robot, self._mujoco.mjtObj
        for name in dict.fromkeys((robot.torso_link, *robot.foot_links)):
            link = spec.body(name)
            if link is not None and not link.joints and spec.compiler.fusestatic:
                kind = self._mujoco.mjtSensor.mjSENS_FRAMEPOS
                spec.add_sensor(name=f"keep {name}", type=kind, objtype=objects.mjOBJ_XBODY, objname=name)


def _joined(model: Any, one: str, other: str) -> bool:
    """Return whether two links are one rigid body, or joint neighbours: both simulators leave out their contacts."""
    welds = [int(model.body_weldid[model.body(name).id]) for name in (one, other)]
    above = [int(model.body_weldid[model.body_parentid[weld]]) for weld in welds]
    return welds[0] == welds[1] or welds[0] == above[1] or welds[1] == above[0]


def _as_xml(spec: Any, file: Path) -> str:
    """Return a model as the text of an MJCF that names its meshes by absolute paths."""
    spec = spec.copy()
    folder = file.resolve().parent
    for mesh in spec.meshes:
        if mesh.file:
            mesh.file = str((folder / spec.meshdir / mesh.file).resolve())
    spec.meshdir = ""
    spec.compile()
    return spec.to_xml()
