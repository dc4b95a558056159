"""A robot's model as it was downloaded, made into the one model that both simulators build from.

Public models bring their own ground, motors, contact pairs, joint limits and integrators, and each simulator reads them
in its own way. `robot_spec` reads a file and takes away what the configuration replaces; what is left means the same in
MuJoCo and in Genesis (`genesis_file`).
"""

import contextlib
import importlib
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from biped.base.errors import MachineError, first_line
from biped.config.section import suggestion
from biped.config.task import EnvConfig
from biped.robot.model import is_urdf, model_file
from biped.sim.mujoco_links import move_frame, rotation_of, turn_link
from biped.sim.mujoco_warnings import show_warnings_once

_PACKAGE = "package://"


def import_mujoco() -> Any:
    """Return the module of MuJoCo, with `mujoco.rollout` loaded.

    Raises:
        MachineError: MuJoCo cannot be imported.
    """
    try:
        mujoco = importlib.import_module("mujoco")
        importlib.import_module("mujoco.rollout")
    except Exception as error:  # an unavailable MUJOCO_GL raises AttributeError in PyOpenGL
        raise MachineError(f"MuJoCo cannot be imported ({error}): run ./install_genesis.sh --check") from error
    show_warnings_once(mujoco)
    return mujoco


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


def parse_model(file: Path, base: str = "") -> Any:
    """Return what is in a model file as a `mujoco.MjSpec`, unchanged but for paths of meshes.

    Args:
        file: an MJCF or a URDF.
        base: link of a URDF that becomes its root if only fixed links are above it; empty: its own root.

    Raises:
        MachineError: MuJoCo is missing or cannot read the file, or a mesh is nowhere.
    """
    kind = import_mujoco().MjSpec
    try:
        return kind.from_string(_urdf_text(file, base)) if is_urdf(file) else kind.from_file(str(file))
    except (ValueError, OSError, ET.ParseError) as error:
        raise MachineError(f"MuJoCo cannot read {file} ({first_line(error)})") from error


def compiled(spec: Any, file: Path) -> Any:
    """Return the `mujoco.MjModel` of a robot.

    Args:
        spec: its `mujoco.MjSpec`.
        file: where it is from, for the message.

    Raises:
        MachineError: MuJoCo's compiler rejects it.
    """
    try:
        return spec.compile()
    except ValueError as error:
        raise MachineError(f"MuJoCo cannot read {file} ({first_line(error)})") from error


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
        spec.option.integrator = self._mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        self._keep_named(spec)
        return RobotModel(spec, tuple(self._changes))

    def _parse(self) -> Any:
        if is_urdf(self._file):
            self._changes.append("read from a URDF")
        return parse_model(self._file, self._robot.base_link)

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

    def _keep_named(self, spec: Any) -> None:
        """Refer to the links that the configuration names: MuJoCo fuses all others that are fixed to their parents."""
        robot, objects = self._robot, self._mujoco.mjtObj
        for name in dict.fromkeys((robot.torso_link, *robot.foot_links)):
            link = spec.body(name)
            if link is not None and not link.joints and spec.compiler.fusestatic:
                kind = self._mujoco.mjtSensor.mjSENS_FRAMEPOS
                spec.add_sensor(name=f"keep {name}", type=kind, objtype=objects.mjOBJ_XBODY, objname=name)


def _urdf_text(file: Path, base: str) -> str:
    """Return a URDF with paths that MuJoCo finds, without looks whose meshes are missing, the base link as its root.

    Raises:
        OSError, xml.etree.ElementTree.ParseError: the file cannot be read.
        MachineError: a mesh that collides is nowhere.
    """
    root = ET.parse(file).getroot()
    for link in root.iter("link"):
        for visual in link.findall("visual"):
            if any(_find_mesh(mesh.get("filename", ""), file) is None for mesh in visual.iter("mesh")):
                link.remove(visual)  # nothing of the physics
    for mesh in root.iter("mesh"):
        mesh.set("filename", str(_mesh_file(mesh.get("filename", ""), file)))
    _make_root(root, base)
    for element in root.findall("mujoco"):
        root.remove(element)
    settings = {"fusestatic": "true", "strippath": "false", "discardvisual": "false", "balanceinertia": "true"}
    ET.SubElement(ET.SubElement(root, "mujoco"), "compiler", settings)
    return ET.tostring(root, encoding="unicode")


def _mesh_file(name: str, urdf: Path) -> Path:
    """Find a mesh.

    Raises:
        MachineError: it is nowhere.
    """
    if (found := _find_mesh(name, urdf)) is None:
        raise MachineError(f"{urdf} needs the mesh {name}, which is in no folder above it: put it there")
    return found


def _find_mesh(name: str, urdf: Path) -> Path | None:
    """Find a mesh: beside the URDF, or below one of the folders above it, as ROS's packages lie; else None."""
    parts = Path(name.removeprefix(_PACKAGE).removeprefix("file://"))
    tails = [parts, Path(*parts.parts[1:])] if name.startswith(_PACKAGE) and len(parts.parts) > 1 else [parts]
    for folder in urdf.resolve().parents:
        for tail in tails:
            if (found := folder / tail).is_file():
                return found
    return None


def _make_root(urdf: ET.Element, base: str) -> None:
    """Turn the fixed joints between a URDF's root and the base link around, so that the base link is the root."""
    joints = {joint.find("child").get("link"): joint for joint in urdf.findall("joint")}  # pyright: ignore[reportOptionalMemberAccess]
    path, link = [], base
    while (joint := joints.get(link)) is not None:
        if joint.get("type") != "fixed":
            return
        path.append(joint)
        link = joint.find("parent").get("link")  # pyright: ignore[reportOptionalMemberAccess]
    for joint in path:
        _turn_around(joint)


def _turn_around(joint: ET.Element) -> None:
    """Make a fixed joint's child its parent, at the same place."""
    parent, child = joint.find("parent"), joint.find("child")
    assert parent is not None and child is not None
    above, below = parent.get("link", ""), child.get("link", "")
    parent.set("link", below)
    child.set("link", above)
    origin = joint.find("origin")
    if origin is None:
        return
    quat, angles = np.zeros(4), [float(value) for value in origin.get("rpy", "0 0 0").split()]
    import_mujoco().mju_euler2Quat(quat, angles, "XYZ")  # about fixed axes, as a URDF means it
    back = rotation_of(quat).T
    place = -back @ np.array([float(value) for value in origin.get("xyz", "0 0 0").split()])
    roll, pitch, yaw = np.arctan2(back[2, 1], back[2, 2]), -np.arcsin(back[2, 0]), np.arctan2(back[1, 0], back[0, 0])
    origin.set("xyz", " ".join(f"{value:.12g}" for value in place))
    origin.set("rpy", f"{roll:.12g} {pitch:.12g} {yaw:.12g}")


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
