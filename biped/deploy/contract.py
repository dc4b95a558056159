"""The contract of an exported policy: all that a robot's computer must know, as JSON, independent of this project.

`docs/export.md` documents it as a table.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any

from biped.base.shipped import PROJECT, version
from biped.config.robot import RobotConfig
from biped.config.run import Config
from biped.config.task import EnvConfig
from biped.deploy.contract_file import FORMAT, VERSION
from biped.env.groups import estimate_scales
from biped.mdp.observations import MEASURED, TERMS, ObservationLayout, ObservationTerm

ESTIMATE = "estimate"
"""Name of the output that a policy without a velocity head lacks."""
LARGEST_SUM = 1e12
"""Largest sum of the magnitudes of an observation, or of a memory, for which no sum in the network overflows."""
MAX_HELD_S = 0.1
"""How long a robot may continue without a valid observation (s)."""

_XYZ = ("x", "y", "z")


@dataclass(frozen=True)
class TensorNames:
    """Names and shapes that a runtime expects of an ONNX file."""

    inputs: tuple[str, str, str]
    """Of observation, hidden state and cell state."""
    outputs: tuple[str, ...]
    """Of the action, both states and, where the runtime takes one, the estimate."""
    any_batch: bool
    """Whether the size of the batch is left open; it is 1 otherwise."""

    @property
    def has_estimate(self) -> bool:
        """Whether the velocity head's guess is among the outputs."""
        return ESTIMATE in self.outputs


OURS = TensorNames(("obs", "h", "c"), ("action", "h_out", "c_out", ESTIMATE), any_batch=True)
"""Names that this project has always used."""
RSL_RL = TensorNames(("obs", "h_in", "c_in"), ("actions", "h_out", "c_out"), any_batch=False)
"""As rsl_rl exports an LSTM (`_OnnxRNNModel` in rsl_rl/models/rnn_model.py, version 5).

Three outputs and a batch of one, because its users' programs unpack three and take sizes from the file: Unitree's
`OrtRunner` (unitree_rl_mjlab, deploy/include/isaaclab/algorithms/algorithms.h) multiplies a shape's numbers, of which
an open one is -1.
"""
NAMES: Mapping[str, TensorNames] = MappingProxyType({"biped": OURS, "rsl_rl": RSL_RL})
"""What `--names` of `biped_export.py` may be."""


@dataclass(frozen=True)
class Provenance:
    """The origin of a policy."""

    model_file: str
    """Name of the checkpoint, without its folder."""
    model_sha256: str
    """SHA-256 hash of the checkpoint, in hexadecimal."""
    trained_steps: int
    """Environment steps of its training."""

    @classmethod
    def of(cls, model: Path, trained_steps: int) -> "Provenance":
        """Read a checkpoint's name and hash.

        Raises:
            OSError: the checkpoint cannot be read.
        """
        return cls(model.name, hashlib.sha256(model.read_bytes()).hexdigest(), trained_steps)


def build_contract(
    config: Config,
    provenance: Provenance,
    names: TensorNames = OURS,
    directions: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Return the contract as builtin types, ready for JSON.

    Args:
        config: the configuration that the policy was trained with.
        provenance: the origin of the policy.
        names: what the tensors of the ONNX file are called.
        directions: what a person sees when each joint turns in its positive direction; None: not known.
    """
    env = config.env
    layout = ObservationLayout.build(env)
    return {
        "format": FORMAT,
        "version": VERSION,
        "conventions": {
            "base_frame": "x forward, y left, z up, fixed to robot.base_link",
            "quaternions": "wxyz",
            "units": "SI: m, rad, s, N, kg",
            "feet": "left, then right",
        },
        "policy": _policy(config, layout, names),
        "sensors": _sensors(layout),
        "observation": _observation(layout, env),
        "estimate": _estimate(config, names),
        "command": _command(env),
        "gait_clock": _gait_clock(env),
        "foot_contact": _foot_contact(env) if "foot_contact" in layout.slices() else None,
        "action": _action(env, directions),
        "motors": _motors(env.robot),
        "control": _control(env),
        "robot": _robot(env.robot),
        "fallen": {
            "min_base_height_m": env.termination.min_base_height_m,
            "max_tilt_rad": env.termination.max_tilt_rad,
        },
        "provenance": {
            "package": PROJECT,
            "package_version": version(),
            "model_file": provenance.model_file,
            "model_sha256": provenance.model_sha256,
            "trained_steps": provenance.trained_steps,
        },
    }


def _policy(config: Config, layout: ObservationLayout, named: TensorNames) -> dict[str, Any]:
    state = [config.policy.lstm_layers, 1, config.policy.lstm_hidden_size]
    _, hidden, cell = named.inputs
    joints = len(config.env.robot.joint_names)

    def axis_of(shape: list[int]) -> int | None:
        return int(shape is state) if named.any_batch else None

    def tensors(names: Sequence[str], *shapes: list[int]) -> list[dict[str, Any]]:
        return [
            {"name": name, "shape": shape, "dtype": "float32", "batch_axis": axis_of(shape)}
            for name, shape in zip(names, shapes, strict=False)
        ]

    scales = scales_of_head(config, named)
    estimates = [] if scales is None else [[1, len(scales)]]
    return {
        "inputs": tensors(named.inputs, [1, layout.width], state, state),
        "outputs": tensors(named.outputs, [1, joints], state, state, *estimates),
        "recurrence": f"{hidden} and {cell} are zeros in the first step; each later step gets h_out and c_out of the "
        "step before",
        "deterministic": True,
        "normalizer_inside": config.policy.normalize_observations,
        "clips_actions": True,
        "non_finite": {
            "largest_sum": LARGEST_SUM,
            "max_held_steps": max(1, round(MAX_HELD_S / config.env.sim.control_dt_s)),
            "rule": "an observation with a number that is not finite, or whose magnitudes sum to more than "
            f"largest_sum, is held: h_out and c_out are {hidden} and {cell}, and the action is that of the step "
            f"before, or of an empty memory in the first step; an {hidden} or {cell} that is so counts as zeros, both "
            "of them. Look for such "
            "numbers before clips and comparisons, which hide them, and pass them on as NaN. After max_held_steps "
            "such steps in a row, stop the robot",
        },
    }


def _sensors(layout: ObservationLayout) -> dict[str, Any]:
    """Return the sensors that a robot needs, and the observations that no sensor measures."""
    sources = {term.name: TERMS[term.name].source for term in layout.terms}
    return {
        "needed": sorted(set(sources.values()) & MEASURED - {"controller"}),
        "not_measured": [name for name, source in sources.items() if source not in MEASURED],
        "rule": "not_measured is empty for a policy that a robot with these sensors can run; what it lists must come "
        "from a state estimator of the robot's own",
    }


def scales_of_head(config: Config, names: TensorNames = OURS) -> tuple[float, ...] | None:
    """Return the training scale of each number of the velocity head; None without one, or if it is left out."""
    return estimate_scales(config.env) if config.policy.velocity_head and names.has_estimate else None


def _estimate(config: Config, names: TensorNames) -> dict[str, Any] | None:
    if scales_of_head(config, names) is None:
        return None
    return {
        "elements": ["forward m/s", "left m/s", "up m/s", "height m"],
        "rule": "the policy's own guess of the velocity of the base link's origin in the base frame, and of its height "
        "over the ground, after this observation; to use or to ignore: the policy itself never gets it back",
    }


def _observation(layout: ObservationLayout, env: EnvConfig) -> dict[str, Any]:
    where = layout.slices()
    return {
        "width": layout.width,
        "clip": env.observation.clip,
        "rule": "each value times its scale, side by side in this order, clipped to +- clip",
        "terms": [
            {
                "name": term.name,
                "start": where[term.name].start,
                "width": term.width,
                "scale": term.scale,
                "unit": term.unit,
                "sensor": TERMS[term.name].source,
                "elements": list(_elements(term, env.robot)),
                "meaning": TERMS[term.name].meaning,
            }
            for term in layout.terms
        ],
    }


def _elements(term: ObservationTerm, robot: RobotConfig) -> tuple[str, ...]:
    kind = TERMS[term.name].mirrored
    if kind in ("joints", "joint sizes"):
        return robot.joint_names
    if kind == "feet":
        return robot.foot_links
    if term.name == "gait_phase":
        return ("sine", "cosine")
    return _XYZ[: term.width] if term.width > 1 else (term.name,)


def _command(env: EnvConfig) -> dict[str, Any]:
    command = env.command
    return {
        "order": ["forward m/s", "left m/s", "counter-clockwise rad/s"],
        "ranges": [list(command.lin_vel_x_m_s), list(command.lin_vel_y_m_s), list(command.ang_vel_rad_s)],
        "turning_lever_m": command.turning_lever_m,
        "moving_threshold_m_s": command.moving_threshold_m_s,
        "rule": "size = sqrt(forward^2 + left^2 + (turning_lever_m * yaw rate)^2); a command whose size is less than "
        "moving_threshold_m_s is made zero: stand still",
    }


def _gait_clock(env: EnvConfig) -> dict[str, Any]:
    return {
        "frequency_hz": env.gait.frequency_hz,
        "initial_phase": 0.0,
        "rule": "phase in strides: any value in [0, 1) in the first step, then phase = (phase + frequency_hz * dt_s) "
        "modulo 1 each step, standing or not; features sin(2 pi phase), cos(2 pi phase); both 0 while the command is "
        "zero",
        "convention": "the left foot is at mid-swing at phase 0.25, the right foot at 0.75",
    }


def _foot_contact(env: EnvConfig) -> dict[str, Any]:
    return {
        "links": list(env.robot.foot_links),
        "on_n": env.gait.contact_on_n,
        "off_n": env.gait.contact_off_n,
        "initial": [0, 0],
        "rule": "vertical force of the ground on the foot, upward positive: a foot that was off counts as on from on_n "
        "newtons, one that was on counts as off under off_n; decided once a step",
    }


def _action(env: EnvConfig, directions: Sequence[str] | None) -> dict[str, Any]:
    return {
        "joint_names": list(env.robot.joint_names),
        "default_pose_rad": list(env.robot.default_joint_pos_rad),
        "scale_rad": env.control.action_scale_rad,
        "clip": env.control.action_clip,
        "rule": "joint target = default pose + scale * action, held until the next step",
        "positive_directions": None if directions is None else list(directions),
    }


def _motors(robot: RobotConfig) -> dict[str, Any]:
    motors = robot.motors
    return {
        "kp_nm_per_rad": [motor.kp_nm_per_rad for motor in motors],
        "kd_nm_s_per_rad": [motor.kd_nm_s_per_rad for motor in motors],
        "torque_limit_nm": [motor.effort_limit_nm for motor in motors],
        "stall_torque_nm": [motor.stall_torque_nm for motor in motors],
        "velocity_limit_rad_s": [motor.velocity_limit_rad_s for motor in motors],
        "servo": [motor.servo for motor in motors],
        "rule": "torque = kp * (target - position) - kd * velocity, clipped to +- limit, in the order of joint_names",
    }


def _control(env: EnvConfig) -> dict[str, Any]:
    late = env.randomization.latency_steps
    return {
        "rate_hz": 1.0 / env.sim.control_dt_s,
        "dt_s": env.sim.control_dt_s,
        "physics_substeps": env.sim.substeps,
        "physics_dt_s": env.sim.control_dt_s / env.sim.substeps,
        "trained_latency": {
            "share_of_episodes_one_step_late": env.control.latency_share if late.mode == "off" else None,
            "range_steps": None if late.mode == "off" else list(late.range),
        },
    }


def _robot(robot: RobotConfig) -> dict[str, Any]:
    return {
        # The name only: the path on this machine is private.
        "model_file": PurePath(robot.model_path).name,
        "base_link": robot.base_link,
        "foot_links": list(robot.foot_links),
        "foot_sole_offset_m": list(robot.foot_sole_offset_m),
        "default_base_height_m": robot.default_base_height_m,
    }
