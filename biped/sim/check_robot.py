"""Reports what is wrong with a robot: `python -m biped check-robot FILE`, with its robot.json or its model.

One line per check, with the remedy if it fails. Exit codes: 0 everything is fine, 1 something is not.
"""

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from biped.config.recipes import is_recipe
from biped.config.robot import RobotConfig
from biped.config.run import Config
from biped.config.scale import SIZE_ERROR
from biped.config.section import suggestion
from biped.config.settings import robot_settings, with_settings
from biped.config.task import EnvConfig
from biped.robot.model import model_file
from biped.robot.symmetry import mirror_joints
from biped.sim.check_stance import Finding, check_standing
from biped.sim.mujoco_file import compiled
from biped.sim.mujoco_geometry import (
    Sole,
    axis_w,
    colliding_geoms,
    in_link,
    is_wheel,
    mirror_alignment,
    posed,
    sole_of,
    sole_pitch,
)
from biped.sim.mujoco_robot import read_robot

MAX_SOLE_ERROR = 0.025
"""Largest distance of the soles from the ground, and of their centres from what collides, as a share of the height."""
MAX_SOLE_PITCH_RAD = 0.05
"""Largest angle between a sole and the ground in the default pose, seen from the side (rad)."""
MIN_RISE = 0.025
"""How high the gait must lift a foot, as a share of the height."""
SYMMETRY_MASS, SYMMETRY_PLACE = 3e-3, 0.01
"""Largest difference of masses and places from their mirror images, as shares of the robot's mass and height."""


@dataclass(frozen=True)
class Subject:
    """The robot under test."""

    cfg: EnvConfig
    """The environment with this robot."""
    model: Any
    """Its `mujoco.MjModel`."""
    data: Any
    """Its `mujoco.MjData`, in the default pose at the default height."""
    soles: tuple[Sole | None, Sole | None]
    """What collides of each foot in this pose."""

    @property
    def height_m(self) -> float:
        """Distance of the hips from the soles in the default pose (m): what lengths are measured by."""
        hips = [self.data.xanchor[self.model.joint(name).id][2] for name in self.cfg.robot.swing_joints]
        return float(max(hips) - min(self.sole_w(foot)[2] for foot in (0, 1)))

    def sole_w(self, foot: int) -> np.ndarray:
        """Return the configured centre of a sole in the world, (3,), m."""
        body = self.data.body(self.cfg.robot.foot_links[foot])
        return body.xpos + body.xmat.reshape(3, 3) @ np.array(self.cfg.robot.sole_offsets_m[foot])

    @contextlib.contextmanager
    def turned(self, angles_rad: Mapping[str, float]) -> Iterator[None]:
        """Have joints, by name, turned by angles (rad) from the default pose for as long as the context lasts."""
        mujoco, pose = importlib.import_module("mujoco"), self.data.qpos.copy()
        for name, angle in angles_rad.items():
            self.data.joint(name).qpos[0] += angle
        mujoco.mj_forward(self.model, self.data)
        yield
        self.data.qpos[:] = pose
        mujoco.mj_forward(self.model, self.data)

    def swing_rad(self, foot: int) -> dict[str, float]:
        """Return by how much the gait turns each joint of a leg at mid-swing (rad)."""
        robot, gait = self.cfg.robot, self.cfg.gait
        per_leg = len(robot.swing_joints) // 2
        of_leg = slice(per_leg * foot, per_leg * (foot + 1))
        sizes = (gait.hip_amplitude_rad, gait.knee_amplitude_rad, gait.ankle_amplitude_rad)
        signed = zip(robot.swing_joints[of_leg], robot.swing_signs_of_both[of_leg], sizes, strict=False)
        return {name: sign * size for name, sign, size in signed}


def check_names(model: Any, robot: RobotConfig, held: tuple[str, ...]) -> Iterator[Finding]:
    """Report joints, links and feet that the model lacks, and joints of the model that nothing drives."""
    joints = [model.joint(index).name for index in range(model.njnt) if model.jnt_type[index] != 0]
    links = [model.body(index).name for index in range(1, model.nbody)]
    missing = [name for name in robot.joint_names if name not in joints]
    if missing:
        known = [*joints, *(text.partition(" at ")[0] for text in held)]
        lacks = "; ".join(f"the model has no joint {name}{suggestion(name, known)}" for name in missing)
        yield False, f"joints: {lacks}"
    else:
        rest = f", and these are held: {'; '.join(held)}" if held else ""
        yield True, f"joints: {len(joints)} driven{rest}"
    for what, names in (("base", [robot.base_link]), ("torso", [robot.torso_link]), ("feet", list(robot.foot_links))):
        absent = [name for name in names if name not in links]
        lacks = "; ".join(f"the model has no link {name}{suggestion(name, links)}" for name in absent)
        yield not absent, f"{what}: {lacks or ', '.join(names)}"
    unknown = [name for name in robot.swing_joints if name not in robot.joint_names]
    swinging = f"{len(robot.swing_joints)} joints swing"
    yield not unknown, "gait: " + (f"robot.swing_joints names {', '.join(unknown)}" if unknown else swinging)


def check_contacts(subject: Subject) -> Finding:
    """Check that something of each foot collides, and that it is no wheel."""
    model, data, robot = subject.model, subject.data, subject.cfg.robot
    for foot, sole in zip(robot.foot_links, subject.soles, strict=True):
        if sole is None:
            remedy = "give its sole a geom that collides (contype and conaffinity 1), or a contact pair with a floor"
            return False, f"contacts: nothing of {foot} collides, it falls through the ground: {remedy}"
        link = model.body(foot).id
        while not model.body_jntnum[link]:
            link = model.body_parentid[link]
        joint = data.joint(model.joint(int(model.body_jntadr[link])).name)
        if any(is_wheel(model, data, geom, joint) for geom in colliding_geoms(model, model.body(foot).id)):
            return False, (
                f"contacts: {foot} is round and turns about {model.joint(joint.id).name} like a wheel, which is not "
                "supported: a robot that rolls needs another task"
            )
    return True, "contacts: the feet collide with the ground"


def check_mirror(subject: Subject) -> Finding:
    """Compare the signs by which the mirror changes each joint with the joints' axes."""
    robot, data = subject.cfg.robot, subject.data
    try:
        index, signs = mirror_joints(robot)
    except ValueError as error:
        return False, f"mirror: {error}; name the counterparts in robot.mirror_joints"
    right = []
    for name, other in zip(robot.joint_names, (robot.joint_names[i] for i in index), strict=True):
        alike = mirror_alignment(data, name, other)
        if abs(alike) < 0.98:
            return False, f"mirror: {name} and {other} do not turn about mirrored axes: see robot.mirror_joints"
        right.append(float(np.sign(alike)))
    wrong = [name for name, sign, true in zip(robot.joint_names, signs, right, strict=True) if sign != true]
    if wrong:
        values = ", ".join(f"{sign:g}" for sign in right)
        return False, f"mirror: the axes of {', '.join(wrong)} say otherwise: set robot.mirror_signs to [{values}]"
    return True, "mirror: the signs fit the joints' axes"


def check_symmetry(subject: Subject) -> Finding:
    """Compare each leg with the mirror image of the other, link by link."""
    model, data, robot = subject.model, subject.data, subject.cfg.robot
    index, _ = mirror_joints(robot)
    most_kg = SYMMETRY_MASS * float(model.body_mass.sum())
    most_m = SYMMETRY_PLACE * subject.height_m
    for name, other in zip(robot.joint_names, (robot.joint_names[i] for i in index), strict=True):
        mine, theirs = (int(model.joint(joint).bodyid[0]) for joint in (name, other))
        mass = abs(model.body_mass[mine] - model.body_mass[theirs])
        place = np.abs(data.xipos[mine] - data.xipos[theirs] * (1.0, -1.0, 1.0)).max()
        if mass > most_kg or place > most_m:
            pair = f"{model.body(mine).name} is no mirror image of {model.body(theirs).name}"
            apart = f"{1000 * mass:.1f} g, {1000 * place:.1f} mm apart"
            return False, f"symmetry: {pair} ({apart}): correct it, or train with --set ppo.mirror=false"
    return True, "symmetry: masses and places of the legs are mirror images"


def check_soles(subject: Subject) -> Finding:
    """Compare the soles' centres with what collides, and their height with the ground, in the default pose."""
    robot, most_m = subject.cfg.robot, MAX_SOLE_ERROR * subject.height_m
    points = [subject.sole_w(foot) for foot in (0, 1)]
    apart = []
    for point, sole in zip(points, subject.soles, strict=True):
        assert sole is not None
        half = 0.5 * (sole.high_w - sole.low_w)[:2]
        apart.append(np.abs(point - sole.centre_w) - (*0.5 * half, 0.0))
    if max(map(float, np.max(apart, axis=0))) > most_m:
        links = zip(robot.foot_links, subject.soles, strict=True)
        found = [in_link(subject.data, foot, sole.centre_w) for foot, sole in links if sole]
        values = ", ".join(
            f"[{', '.join(f'{round(float(value), 3) + 0.0:.3f}' for value in point)}]" for point in found
        )
        foot = robot.foot_links[int(np.argmax(np.max(apart, axis=1)))]
        return False, (
            f"soles: robot.foot_sole_offset_m is not where {foot} touches the ground: set it to [{values}], "
            "one for each foot"
        )
    worst = max((float(point[2]) for point in points), key=abs)
    if (leaning := _leaning(subject)) is not None:
        return False, leaning
    if abs(worst) <= most_m:
        return True, f"soles: on the ground in the default pose (within {1000 * abs(worst):.0f} mm)"
    off = f"{1000 * abs(worst):.0f} mm {'under' if worst < 0 else 'over'} the ground"
    return False, f"soles: {off}: default_base_height_m {robot.default_base_height_m - worst:.3f} puts them on it"


def _leaning(subject: Subject) -> str | None:
    """Return what is wrong with a foot that does not lie flat in the default pose; None if both do."""
    robot, model, data = subject.cfg.robot, subject.model, subject.data
    per_leg = len(robot.swing_joints) // 2
    for foot, link in enumerate(robot.foot_links):
        pitch = sole_pitch(model, data, model.body(link).id)
        if abs(pitch) <= MAX_SOLE_PITCH_RAD or per_leg < 3:
            continue
        ankle = robot.swing_joints[foot * per_leg + per_leg - 1]
        about_y = float(np.sign(axis_w(data, model.joint(ankle))[1]))
        angle = dict(zip(robot.joint_names, robot.default_joint_pos_rad, strict=True))[ankle] - about_y * pitch
        return (
            f"soles: {link} leans {'forward' if pitch > 0 else 'back'} by {abs(pitch):.2f} rad in the default pose: "
            f"{angle:.3f} in default_joint_pos_rad for {ankle} lays it flat"
        )
    return None


def check_sides(subject: Subject) -> Finding:
    """Check that the first foot is on the left."""
    left, right = (subject.sole_w(foot)[1] for foot in (0, 1))
    if left > right:
        return True, "sides: left foot to the left"
    return False, "sides: foot_links must name the left foot first"


def check_size(subject: Subject) -> Finding:
    """Compare leg length and mass with the file's: other sizes are allowed, but then the scale is another robot's."""
    robot, model = subject.cfg.robot, subject.model
    hip = subject.data.joint(robot.swing_joints[0]).id
    leg_m = float(subject.data.xanchor[hip][2]) - subject.sole_w(0)[2]
    mass_kg = float(model.body_mass.sum())
    size = f"size: legs of {leg_m:.3f} m, {mass_kg:.2f} kg"
    apart = [
        f"robot.{name} is {said:g}"
        for name, said, found in (
            ("leg_length_m", robot.leg_length_m, leg_m),
            ("mass_kg", robot.mass_kg, mass_kg),
        )
        if abs(found / said - 1.0) > SIZE_ERROR
    ]
    if not apart:
        return True, size
    return True, f"{size}, but {' and '.join(apart)}: the gate's bars, --randomize and --robustness are scaled by these"


def check_swing(subject: Subject) -> Finding:
    """Swing each leg as the gait does: the hip must move the foot forward, the knee shorten the leg, the foot rise."""
    robot = subject.cfg.robot
    per_leg, signs = len(robot.swing_joints) // 2, robot.swing_signs_of_both
    right = list(signs)
    rises = []
    for foot in (0, 1):
        leg = subject.swing_rad(foot)
        for place, (name, angle) in enumerate(leg.items()):
            if not _moves_rightly(subject, foot, place, name, angle):
                right[per_leg * foot + place] *= -1
        rises.append(_swung(subject, foot, leg)[2])
    if wrong := [name for name, sign, true in zip(robot.swing_joints, signs, right, strict=True) if sign != true]:
        values = ", ".join(f"{sign:g}" for sign in right)
        return False, f"gait: {', '.join(wrong)} would swing the wrong way: set robot.swing_signs to [{values}]"
    if min(rises) < MIN_RISE * subject.height_m:
        low = robot.foot_links[int(np.argmin(rises))]
        text = f"gait: at mid-swing {low} is {1000 * min(rises):.0f} mm higher"
        return False, f"{text}: see robot.swing_joints, swing_signs and the amplitudes in gait"
    return True, f"gait: at mid-swing the feet are {1000 * min(rises):.0f} mm up"


def check_heights(subject: Subject) -> Finding:
    """Compare the task's heights with the robot's own."""
    height, low = subject.cfg.robot.default_base_height_m, subject.cfg.termination.min_base_height_m
    target, size_m = subject.cfg.reward.target_height_m, subject.height_m
    text = f"heights: fallen below {low} m, target {target} m, standing at {height} m"
    if height < 0.5 * size_m:
        point = [0.0, 0.0, round(size_m - height, 3)]
        return False, f"{text}: the base's frame is near the ground: set robot.base_point_m to {point}, and the heights"
    if low < 0.9 * height and abs(target - height) < 0.1 * height:
        return True, text
    return False, f"{text}: set termination.min_base_height_m and reward.target_height_m"


def _moves_rightly(subject: Subject, foot: int, place: int, name: str, angle_rad: float) -> bool:
    """Return whether an angle moves the hip forward, bends the knee or lifts the toes."""
    data, sole = subject.data, subject.sole_w(foot)
    if place == 0:
        return _swung(subject, foot, {name: angle_rad})[0] > 0.0
    if place == 1:
        hip = subject.cfg.robot.swing_joints[foot * (len(subject.cfg.robot.swing_joints) // 2)]
        anchor = data.xanchor[subject.model.joint(hip).id].copy()
        moved = sole + _swung(subject, foot, {name: angle_rad})
        return bool(np.linalg.norm(moved - anchor) < np.linalg.norm(sole - anchor))
    # Lifting the toes turns the foot about -y.
    return angle_rad * float(axis_w(data, data.joint(name))[1]) < 0.0


def _swung(subject: Subject, foot: int, angles_rad: dict[str, float]) -> np.ndarray:
    """Return how far a sole moves when joints turn from the default pose, (3,), m."""
    before = subject.sole_w(foot)
    with subject.turned(angles_rad):
        return subject.sole_w(foot) - before


def findings(cfg: EnvConfig, sims: Sequence[str] = ("mujoco",)) -> Iterator[Finding]:
    """Run the checks in order; the later ones run only if joints and links are complete.

    Args:
        cfg: the environment with the robot.
        sims: the simulators in which it must stand.

    Raises:
        MachineError: the model file is missing, or a simulator cannot read it.
    """
    robot = read_robot(cfg)
    model = compiled(robot.spec, model_file(cfg))
    held = tuple(change.removeprefix("held ") for change in robot.changes if change.startswith("held "))
    named = list(check_names(model, cfg.robot, held))
    yield from named
    if others := [change for change in robot.changes if not change.startswith("held ")]:
        yield True, f"model: {'; '.join(others)}"
    if not all(fine for fine, _ in named):
        return
    subject = subject_of(cfg, model)
    left, right = subject.soles
    touching = check_contacts(subject)
    yield touching
    mirrored = check_mirror(subject)
    yield mirrored
    checks: list[Callable[[Subject], Finding]] = [check_symmetry] if mirrored[0] else []
    checks += [check_size, check_sides, *([check_soles] if left and right else []), check_heights, check_swing]
    for check in checks:
        yield check(subject)
    if touching[0]:
        for sim in sims:
            yield from check_standing(cfg, model, subject.data, subject.soles, sim)


def subject_of(cfg: EnvConfig, model: Any) -> Subject:
    """Put a robot into its default pose.

    Args:
        cfg: the environment with the robot.
        model: its compiled model, which has all joints and links that the configuration names.
    """
    pose = dict(zip(cfg.robot.joint_names, cfg.robot.default_joint_pos_rad, strict=True))
    data = posed(model, pose, cfg.robot.default_base_height_m)
    left, right = (sole_of(model, data, model.body(foot).id) for foot in cfg.robot.foot_links)
    return Subject(cfg, model, data, (left, right))


def env_of(file: Path) -> EnvConfig:
    """Return an environment of one robot, from its robot.json, its model, or a recipe.

    Raises:
        ConfigError: the file is not a robot's file.
    """
    env = replace(EnvConfig(), num_envs=1)
    if file.suffix == ".json" or is_recipe(file):
        return replace(with_settings(Config(), robot_settings(file)).env, num_envs=1)
    return replace(env, robot=replace(env.robot, model_path=str(file.resolve())))


def check(file: Path, sims: Sequence[str] = ("mujoco",)) -> bool:
    """Print the findings about a robot; return whether all checks passed.

    Args:
        file: its robot.json, its model, or a recipe.
        sims: the simulators in which it must stand.

    Raises:
        ConfigError: the file is not a robot's file.
        MachineError: the model is missing or cannot be read.
    """
    all_fine = True
    for fine, text in findings(env_of(file), sims):
        print(f"{'ok     ' if fine else 'WRONG  '}{text}", flush=True)
        all_fine &= fine
    return all_fine
