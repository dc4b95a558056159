"""Reads a robot's model file, an MJCF or a URDF, as a `mujoco.MjSpec`."""

import importlib
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np

from biped.base.errors import MachineError, first_line
from biped.base.packages import remedy
from biped.robot.model import is_urdf
from biped.sim.mujoco_links import rotation_of
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
        raise MachineError(f"MuJoCo cannot be imported ({error}): {remedy('mujoco', error)}") from error
    show_warnings_once(mujoco)
    return mujoco


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


def hinges_of(spec: Any) -> list[str]:
    """Return the names of the hinges of a `mujoco.MjSpec`, in its order."""
    kind = import_mujoco().mjtJoint.mjJNT_HINGE
    return [joint.name for joint in spec.joints if joint.type == kind and joint.name]


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


def drop_missing_looks(spec: Any, file: Path) -> list[str]:
    """Take away meshes of an MJCF that only looks use and that are nowhere; return their names.

    Raises:
        MachineError: a missing mesh collides, or is all that says what a link weighs.
    """
    folder, missing = file.resolve().parent / spec.meshdir, []
    for mesh in [mesh for mesh in spec.meshes if mesh.file and not (folder / mesh.file).is_file()]:
        users = [geom for geom in spec.geoms if geom.meshname == mesh.name]
        if any(geom.contype or geom.conaffinity or not geom.parent.explicitinertial for geom in users):
            raise MachineError(f"{file} needs the mesh {(folder / mesh.file).resolve()}: put it there")
        missing.append(mesh.name)
        for part in (*users, mesh):
            spec.delete(part)
    return missing


def _urdf_text(file: Path, base: str) -> str:
    """Return a URDF with paths that MuJoCo finds, without looks whose meshes are missing, the base link as its root.

    Raises:
        OSError, xml.etree.ElementTree.ParseError: the file cannot be read.
        MachineError: a mesh that collides is nowhere.
    """
    root = ET.parse(file).getroot()
    for link in root.iter("link"):
        for visual in link.findall("visual"):
            if any(find_mesh(mesh.get("filename", ""), file) is None for mesh in visual.iter("mesh")):
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
    if (found := find_mesh(name, urdf)) is None:
        raise MachineError(f"{urdf} needs the mesh {name}, which is in no folder above it: put it there")
    return found


def find_mesh(name: str, urdf: Path) -> Path | None:
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
