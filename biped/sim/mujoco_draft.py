"""Writes a robot's file from its model: `python -m biped robot MODEL --draft robot.json`.

Everything that the file names is found in the model: the base is its root, feet are what touches the ground, legs are
the chains of joints in between, and a joint is a roll, a pitch or a yaw by its axis. What is not certain is said, for a
person to correct; `check-robot` judges the result.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from biped.base.command_line import as_word
from biped.base.errors import UsageError, disk_error
from biped.base.files import write_whole
from biped.config.actuators import ActuatorConfig
from biped.config.robot import RobotConfig
from biped.config.run import Config
from biped.config.scale import Scale, merged, scaled_sections
from biped.config.settings import as_settings, with_settings
from biped.config.task import EnvConfig
from biped.robot.state import GRAVITY_M_S2
from biped.sim.check_stance import stand
from biped.sim.draft_actuators import GUESSED_EFFORT, Limits, draft_actuators, stated_limits
from biped.sim.mujoco_crouch import CROUCH, Leg, crouch
from biped.sim.mujoco_file import compiled, hinges_of, parse_model
from biped.sim.mujoco_geometry import Sole, axis_w, in_link, mirror_alignment, posed, sole_of
from biped.sim.mujoco_robot import read_robot

KINDS = ("roll", "pitch", "yaw")
"""What a joint does, by the axis of the base frame that it turns about."""
FALLEN = 0.75
"""Height under which the robot has fallen, over that of the base in the standing pose."""
WALKING = 0.985
"""Height to walk at, over that of the base in the standing pose."""
SUBSTEPS = (1, 2, 4, 8, 16)
"""Times as many physics steps per action as by default, of which the first at which the robot is calm is taken."""
MISSED_M = 0.01
"""How far the standing pose may miss what it should be (m)."""


@dataclass(frozen=True)
class Draft:
    """A robot's file, and what is not certain about it."""

    content: Mapping[str, Any]
    """What robot.json holds."""
    found: tuple[str, ...]
    """One line each about what was found, and how."""
    guesses: tuple[str, ...]
    """One line each about what is a guess, for a person to check."""


def draft(file: Path) -> Draft:
    """Draft the file of a robot from its MJCF or URDF.

    Raises:
        UsageError: the model is no biped that could be understood; the message says what is missing.
        MachineError: the model cannot be read, or has what is not supported.
    """
    return _Drafter(file).draft()


class _Drafter:
    """Drafts one robot's file; each step finds one thing and says how."""

    def __init__(self, file: Path) -> None:
        self._file = file.resolve()
        self._found: list[str] = []
        self._guesses: list[str] = []

    def draft(self) -> Draft:
        base, limits, passive = self._base()
        # Everything is driven for now: nothing may be held before it is known what the legs are.
        spec = parse_model(self._file, base)
        joints = hinges_of(spec)
        robot = _robot(self._file, base, joints)
        model = compiled(read_robot(EnvConfig(robot=robot)).spec, self._file)
        data = posed(model, {})
        legs = self._legs(model, data)
        legs = self._without(legs, passive | (set(legs[0].joints) & set(legs[1].joints)))
        self._check(legs)
        held = [name for name in joints if name not in {*legs[0].joints, *legs[1].joints}]
        driven = [*legs[0].joints, *legs[1].joints]
        signs, mirror = self._swing_signs(model, data, legs), self._mirror_signs(data, legs)
        if held:
            self._guesses.append(
                f"held_joints: {', '.join(held)} are no part of the legs and are held at 0; put those that the policy "
                "shall drive into joint_names"
            )
        pose = self._crouch(model, legs, signs)
        data = posed(model, pose)
        soles = [sole_of(model, data, model.body(leg.foot).id) for leg in legs]
        assert soles[0] is not None and soles[1] is not None
        low = min(sole.low_w[2] for sole in soles if sole is not None)
        height = -float(low)
        hips = max(self._hip_height(data, leg, 0.0) for leg in legs)
        content = {
            "robot": {
                "model_path": self._file.name,
                "base_link": base,
                "torso_link": self._torso(model, base, {*legs[0].joints, *legs[1].joints}),
                "foot_links": [leg.foot for leg in legs],
                "foot_sole_offset_m": [
                    self._offset(data, leg.foot, sole) for leg, sole in zip(legs, soles, strict=True)
                ],
                "joint_names": driven,
                **({"held_joints": dict.fromkeys(held, 0.0)} if held else {}),
                "swing_joints": [*legs[0].pitch(), *legs[1].pitch()],
                "swing_signs": signs,
                "mirror_joints": [*legs[1].joints, *legs[0].joints],
                "mirror_signs": mirror,
                "default_joint_pos_rad": [round(pose.get(name, 0.0), 4) + 0.0 for name in driven],
                "default_base_height_m": round(height, 4),
                "actuators": self._actuators(model, driven, limits, hips - float(low)),
            },
            "termination": {"min_base_height_m": round(FALLEN * height, 3)},
            "reward": {"target_height_m": round(WALKING * height, 3)},
        }
        if height < 0.5 * (hips - float(low)):
            self._move_base(content, hips - float(low), height)
        leg_m, mass_kg = self._hip_height(data, legs[0], float(low)), float(model.body_mass.sum())
        content["robot"] |= {"leg_length_m": round(leg_m, 4), "mass_kg": round(mass_kg, 3)}
        content = merged(scaled_sections(Scale.of(round(leg_m, 4), round(mass_kg, 3))), content)
        self._found.append(f"size: legs of {leg_m:.3f} m, {mass_kg:.2f} kg; command, gait and reward are scaled by it")
        self._choose_substeps(content)
        return Draft(content, tuple(self._found), tuple(self._guesses))

    def _base(self) -> tuple[str, dict[str, Limits], set[str]]:
        """Return the root link, the limits that the model states, and joints that its own motors leave passive."""
        spec = parse_model(self._file)
        roots = list(spec.worldbody.bodies)
        if not roots:
            raise UsageError(f"{self._file} has no link: name a robot's model")
        root = max(roots, key=lambda body: len(body.find_all("joint")))
        while not root.find_all("geom") and len(root.bodies) == 1 and not root.bodies[0].joints:
            root = root.bodies[0]  # a root of ROS without mass
        self._found.append(f"base_link: {root.name}, the root")
        driven = {actuator.target for actuator in spec.actuators}
        passive = {joint.name for joint in spec.joints} - driven if driven else set()
        return root.name, stated_limits(spec, self._file), passive

    def _legs(self, model: Any, data: Any) -> tuple[Leg, Leg]:
        """Find the two chains of joints that end in what is lowest on the left and on the right."""
        lowest: dict[int, tuple[float, int]] = {}
        for link in range(1, model.nbody):
            sole = sole_of(model, data, link)
            if sole is None or not model.body_jntnum[link]:
                continue
            side = int(np.sign(round(float(sole.centre_w[1]), 3)))
            if side and (side not in lowest or sole.low_w[2] < lowest[side][0]):
                lowest[side] = float(sole.low_w[2]), link
        if set(lowest) != {1, -1}:
            raise UsageError(
                f"{self._file} has no two feet: nothing that collides is lowest on the left or on the right; give each "
                "sole a geom that collides"
            )
        left, right = (self._leg(model, data, lowest[side][1]) for side in (1, -1))
        return left, right

    def _check(self, legs: tuple[Leg, Leg]) -> None:
        """Check that the legs are a biped's.

        Raises:
            UsageError: they differ, or have too few or too many joints that pitch.
        """
        left, right = legs
        if left.kinds != right.kinds:
            raise UsageError(
                f"the legs differ: {', '.join(left.joints)} on the left, {', '.join(right.joints)} on the right"
            )
        if len(left.pitch()) not in (2, 3):
            raise UsageError(
                f"{left.foot} hangs on {len(left.pitch())} pitch joints ({', '.join(left.pitch())}); a leg has hip, "
                "knee and, if there is one, ankle"
            )
        for leg in (left, right):
            self._found.append(
                f"leg: {', '.join(f'{name} ({kind})' for name, kind in zip(leg.joints, leg.kinds, strict=True))} "
                f"to {leg.foot}"
            )

    def _without(self, legs: tuple[Leg, Leg], others: set[str]) -> tuple[Leg, Leg]:
        """Take joints away from the legs: a waist that both hang on, the play of gears."""

        def rest(leg: Leg) -> Leg:
            kept = [(name, kind) for name, kind in zip(leg.joints, leg.kinds, strict=True) if name not in others]
            return Leg(leg.foot, [name for name, _ in kept], [kind for _, kind in kept])

        return rest(legs[0]), rest(legs[1])

    def _leg(self, model: Any, data: Any, foot: int) -> Leg:
        joints, kinds, link = [], [], foot
        while link and model.body_parentid[link]:
            for index in range(model.body_jntnum[link])[::-1]:
                joint = model.joint(int(model.body_jntadr[link]) + index)
                joints.append(joint.name)
                axis = np.abs(axis_w(data, joint))
                kinds.append(KINDS[int(np.argmax(axis))])
                if axis.max() < 0.9:
                    self._guesses.append(f"{joint.name} turns about a slanted axis: taken for a {kinds[-1]}")
            link = int(model.body_parentid[link])
        return Leg(model.body(foot).name, joints[::-1], kinds[::-1])

    def _swing_signs(self, model: Any, data: Any, legs: Sequence[Leg]) -> list[float]:
        """Return for each swing joint the sign that moves the hip forward, bends the knee and lifts the toes."""
        signs: list[float] = []
        for leg in legs:
            for place, name in enumerate(leg.pitch()):
                about_y = float(np.sign(axis_w(data, model.joint(name))[1]))
                sign = about_y if place == 1 else -about_y
                if place == 1 and (bends := self._bends(model, name)) and bends != sign:
                    self._guesses.append(f"{name} bends forward by its limits, as a bird's knee does")
                    sign = bends
                signs.append(sign)
        return signs

    def _bends(self, model: Any, knee: str) -> float:
        """Return the sign of the direction in which a knee can turn further; 0 without limits."""
        joint = model.joint(knee)
        low, high = model.jnt_range[joint.id]
        return float(np.sign(low + high)) if model.jnt_limited[joint.id] and abs(low + high) > 0.2 else 0.0

    def _mirror_signs(self, data: Any, legs: Sequence[Leg]) -> list[float]:
        pairs = [*zip(legs[0].joints, legs[1].joints, strict=True), *zip(legs[1].joints, legs[0].joints, strict=True)]
        return [float(np.sign(mirror_alignment(data, name, other))) for name, other in pairs]

    def _crouch(self, model: Any, legs: Sequence[Leg], signs: Sequence[float]) -> dict[str, float]:
        pose, missed_m = crouch(model, legs, signs)
        text = f"default_joint_pos_rad: legs bent to {CROUCH:.0%} of their length, feet flat, centre of mass over them"
        if missed_m > MISSED_M:
            self._guesses.append(f"{text}, missed by {1000 * missed_m:.0f} mm: choose a better pose")
        else:
            self._found.append(text)
        return pose

    def _torso(self, model: Any, base: str, in_legs: set[str]) -> str:
        """Return the heaviest link that is no part of a leg."""
        others = []
        for link in range(1, model.nbody):
            above, is_leg = link, False
            while above:
                first, count = int(model.body_jntadr[above]), int(model.body_jntnum[above])
                is_leg |= any(model.joint(first + index).name in in_legs for index in range(count))
                above = int(model.body_parentid[above])
            if not is_leg:
                others.append(link)
        heaviest = max(others, key=lambda link: float(model.body_mass[link]), default=model.body(base).id)
        name = model.body(heaviest).name
        self._found.append(f"torso_link: {name}, the heaviest link besides the legs")
        return name

    def _offset(self, data: Any, foot: str, sole: Sole | None) -> list[float]:
        assert sole is not None
        return [round(float(value), 4) + 0.0 for value in in_link(data, foot, sole.centre_w)]

    def _actuators(
        self, model: Any, driven: Sequence[str], limits: Mapping[str, Limits], leg_m: float
    ) -> list[dict[str, Any]]:
        weight_n = float(model.body_mass.sum()) * GRAVITY_M_S2
        made = draft_actuators(driven, limits, guess_nm=round(GUESSED_EFFORT * weight_n * leg_m / 2.0, 2))
        self._guesses += made.guesses
        return made.groups

    def _hip_height(self, data: Any, leg: Leg, low_m: float) -> float:
        return float(data.xanchor[data.joint(leg.pitch()[0]).id][2]) - low_m

    def _choose_substeps(self, content: dict[str, Any]) -> None:
        """Find out by how many physics steps per action the robot stands calmly in MuJoCo."""
        robot = {**content["robot"], "model_path": str(self._file)}
        cfg = with_settings(Config(), as_settings({**content, "robot": robot})).env
        for substeps in (factor * cfg.sim.substeps for factor in SUBSTEPS):
            if stand(cfg, substeps=substeps).is_calm:
                break
        else:
            self._guesses.append("sim.substeps: the robot is calm at none: check-robot looks for the cause")
            return
        if substeps != cfg.sim.substeps:
            content["sim"] = {"substeps": substeps}
            self._found.append(f"sim.substeps: with fewer than {substeps} physics steps per action the robot shakes")

    def _move_base(self, content: dict[str, Any], leg_m: float, height_m: float) -> None:
        """Measure heights at the hips, for a base whose frame lies near the ground."""
        up = round(leg_m - height_m, 4)
        content["robot"] |= {"base_point_m": [0.0, 0.0, up], "default_base_height_m": round(height_m + up, 4)}
        content["termination"]["min_base_height_m"] = round(FALLEN * (height_m + up), 3)
        content["reward"]["target_height_m"] = round(WALKING * (height_m + up), 3)
        self._found.append(
            f"base_point_m: the frame of the base link is near the ground; heights are measured {up} m up"
        )


def write(made: Draft, model: Path, out: Path) -> None:
    """Write a draft as a robot's file; the model's path in it is relative to the file.

    Raises:
        UsageError: there is a file already.
        MachineError: the disk refuses the write.
    """
    if out.exists():
        raise UsageError(f"{out} is there already: name another file with --draft, or move it away")
    where = os.path.relpath(model.resolve(), out.resolve().parent)
    content = {**made.content, "robot": {**made.content["robot"], "model_path": where}}
    try:
        write_whole(out, (json.dumps(content, indent=2) + "\n").encode())
    except OSError as error:
        raise disk_error(out, error, "--draft") from error


def draft_file(model: Path, out: Path | None) -> None:
    """Write a robot's file from its model, and say what was found and what is guessed; without `out` it is printed.

    Raises:
        UsageError: the model is no biped that could be understood, or there is a file already.
        MachineError: the model cannot be read, or the disk refuses the write.
    """
    made = draft(model)
    for text in made.found:
        print(f"found    {text}", file=sys.stderr)
    for text in made.guesses:
        print(f"GUESSED  {text}", file=sys.stderr)
    if out is None:
        print(json.dumps(made.content, indent=2))
        return
    write(made, model, out)
    print(f"{out}: correct what is guessed, then run: python -m biped check-robot {as_word(out)}")


def _robot(file: Path, base: str, joints: Sequence[str]) -> RobotConfig:
    """Return a robot that drives every joint, to read the model by."""
    names = tuple(joints)
    if not names:
        raise UsageError(f"{file} has no joint that turns")
    return replace(
        RobotConfig(),
        model_path=str(file),
        base_link=base,
        torso_link=base,
        foot_links=(base, base),
        joint_names=names,
        swing_joints=(names[0],) * 6,
        default_joint_pos_rad=(0.0,) * len(names),
        actuators=(ActuatorConfig(),),
    )
