"""The reward: one pure function per term, the table of terms, and their weighted sum.

Every term maps one control step to a rate, (num_envs,), which is multiplied by the term's weight (per second) and by
the control step. An event is a rate over that one step, so that it is worth its weight once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from biped.config.task import EnvConfig, RewardWeights
from biped.mdp.gait import GaitReference, StepEvents
from biped.mdp.imitation import Stride, stride_of
from biped.robot.actuators import Motors, torque_range
from biped.robot.rotations import quat_rotate_inverse
from biped.robot.state import BipedState


@dataclass(frozen=True)
class RewardInputs:
    """Inputs of all reward terms."""

    state: BipedState
    """The physical state after the control step."""
    command: Tensor
    """Velocity commands during the step, (num_envs, 3): m/s, m/s, rad/s in the base frame."""
    action: Tensor
    """Clipped actions of this step, (num_envs, num_joints)."""
    previous_action: Tensor
    """Clipped actions of the previous step, (num_envs, num_joints)."""
    swing: Tensor
    """How high each leg is to swing by the gait clock, (num_envs, 2), from 0 to 1; see `gait.swing_height`."""
    contacts: Tensor
    """Feet on the ground, (num_envs, 2), bool."""
    steps: StepEvents
    """Touchdowns and steps in this control step."""
    fell: Tensor
    """Whether the episode ended in a fall, (num_envs,), bool."""
    moving: Tensor
    """Whether the command asks for motion rather than for standing, (num_envs,), bool."""
    progress: Tensor
    """Share of the commanded velocity that is achieved, (num_envs,); see `commands.command_progress`."""
    following: Tensor
    """How well each commanded velocity is followed, (num_envs, 3), from 0 to 1; see `follow`."""
    phase: Tensor
    """The gait clock, (num_envs,), from 0 to 1."""
    deviation_rad: Tensor
    """Joint positions minus the default pose, (num_envs, num_joints), rad, those that the gait swings first; see
    `deviation`."""

    @cached_property
    def squares_b(self) -> Tensor:
        """Squares of gravity's direction, angular velocity and linear velocity in the base frame, (3, num_envs, 3)."""
        state = self.state
        return torch.stack((state.projected_gravity_b, state.base_ang_vel_b, state.base_lin_vel_b)).square()


@dataclass(frozen=True)
class RewardModel:
    """Constants that terms need besides the inputs: the configuration, and joints looked up once by name."""

    cfg: EnvConfig
    """The environment's configuration: weights, widths, targets."""
    gait_reference: GaitReference
    """Sinusoidal reference of the pitch joints."""
    default_joint_pos_rad: Tensor
    """(num_joints,), rad."""
    motors: Motors
    """Gains and limits of each joint."""
    joint_order: Tensor
    """Indices of the joints that the gait swings, then of those that `similar_to_default` keeps in place."""
    ordered_joint_pos_rad: Tensor
    """The default pose in that order, (num_joints,), rad."""
    num_swung: int
    """How many joints the gait swings."""
    minus_velocity_scales: Tensor
    """Minus the error of each commanded velocity that earns 1/e of the reward, (3,): m/s, m/s, rad/s."""
    target_height_m: Tensor
    """Height of the base that `height_maintenance` asks for, ()."""
    clip: Stride | None
    """A stride to follow; None: there is none."""
    steps_per_s: Tensor
    """Control steps per second, (): a tensor, since a truth value times a number has whatever type is the default."""
    prices: Tensor
    """Weight of each active term for one control step, (num_active_terms,)."""

    @classmethod
    def build(cls, cfg: EnvConfig, device: torch.device) -> "RewardModel":
        """Look up the joints by name.

        Raises:
            ConfigError: a joint that the gait moves is not one of the robot's, or the clip to follow is no stride.
            UsageError: there is no such clip.
        """
        robot = cfg.robot
        reference = GaitReference.build(cfg.gait, robot, device)
        swung = reference.joint_indices.tolist()
        order = [*swung, *(joint for joint in range(len(robot.joint_names)) if joint not in swung)]
        default, motors = robot.default_joint_pos_rad, Motors.build(robot, device)
        _ = motors.envelope  # made now, not in the first step
        return cls(
            cfg=cfg,
            gait_reference=reference,
            default_joint_pos_rad=torch.tensor(default, device=device, dtype=torch.float32),
            motors=motors,
            joint_order=torch.tensor(order, device=device, dtype=torch.int64),
            ordered_joint_pos_rad=torch.tensor([default[i] for i in order], device=device, dtype=torch.float32),
            num_swung=len(swung),
            minus_velocity_scales=-torch.tensor(
                (cfg.reward.lin_vel_x_scale_m_s, cfg.reward.lin_vel_y_scale_m_s, cfg.reward.ang_vel_scale_rad_s),
                device=device,
                dtype=torch.float32,
            ),
            target_height_m=torch.tensor(cfg.reward.target_height_m, device=device, dtype=torch.float32),
            clip=stride_of(cfg, device),
            steps_per_s=torch.tensor(1.0 / cfg.sim.control_dt_s, device=device, dtype=torch.float32),
            prices=torch.tensor(
                [getattr(cfg.reward.weights, name) * cfg.sim.control_dt_s for name in active_terms(cfg.reward.weights)],
                device=device,
                dtype=torch.float32,
            ),
        )

    def strayed(self, state: BipedState, phase: Tensor, moving: Tensor) -> Tensor | None:
        """Return where a robot is too far from the clip that it is to follow, (num_envs,), bool; None: nowhere.

        Args:
            state: the state after the control step.
            phase: the gait clock, (num_envs,), from 0 to 1.
            moving: whether the command asks for motion, (num_envs,), bool.
        """
        if self.clip is None or self.cfg.imitation.max_error_rad == 0.0:
            return None
        return (self.clip.error_rad(state.joint_pos_rad, phase) > self.cfg.imitation.max_error_rad) & moving


RewardTerm = Callable[[RewardInputs, RewardModel], Tensor]
"""Maps a control step to the term's rate, (num_envs,)."""


def follow(velocities: Tensor, model: RewardModel) -> Tensor:
    """exp(-|error| / scale) of each commanded velocity, (num_envs, 3): 1 when the command is met.

    The usual exp(-error² / width) is flat both near the command and far from it; this function is not. `velocities` are
    the commanded and the achieved ones, (num_envs, 2, 3); see `commands.asked_and_done`.
    """
    wanted, achieved = velocities.unbind(dim=1)
    return torch.exp((wanted - achieved).abs() / model.minus_velocity_scales)


def deviation(joint_pos_rad: Tensor, model: RewardModel) -> Tensor:
    """Return joint positions minus the default pose, (num_envs, num_joints), rad, in the order of the model."""
    return joint_pos_rad.index_select(1, model.joint_order) - model.ordered_joint_pos_rad


def ones_where(comparison: Callable[..., Tensor], *operands: Tensor) -> Tensor:
    """Return a comparison of truth values (num_envs,) as a rate: 1 where it holds, else 0; one kernel, not two."""
    rate = torch.empty(operands[0].shape, device=operands[0].device, dtype=torch.float32)
    return comparison(*operands, out=rate)


def tracking_lin_vel_x(inputs: RewardInputs, _: RewardModel) -> Tensor:
    """exp(-|error| / scale) of the forward velocity; see `follow`."""
    return inputs.following[:, 0]


def tracking_lin_vel_y(inputs: RewardInputs, _: RewardModel) -> Tensor:
    """exp(-|error| / scale) of the velocity to the left."""
    return inputs.following[:, 1]


def tracking_ang_vel(inputs: RewardInputs, _: RewardModel) -> Tensor:
    """exp(-|error| / scale) of the yaw rate."""
    return inputs.following[:, 2]


def alive_bonus(inputs: RewardInputs, _: RewardModel) -> Tensor:
    """1 while the robot has not fallen."""
    return ones_where(torch.logical_not, inputs.fell)


def sinusoidal_gait(inputs: RewardInputs, model: RewardModel) -> Tensor:
    """exp(-Σ error² / width) of the pitch joints against their phase-clocked reference, gated by progress.

    The gate is the achieved share of the commanded velocity, fully open from `gait_full_pay_progress` on. A robot that
    stands still or marches in place under a command to walk earns nothing, nor does a robot whose command is to
    stand, because its progress is 0.
    """
    error = model.gait_reference.error(inputs.deviation_rad[:, : model.num_swung], inputs.swing)
    match = torch.exp(error.square().sum(dim=1) / -model.cfg.reward.gait_variance_rad2)
    gate = (inputs.progress / model.cfg.reward.gait_full_pay_progress).clamp(0.0, 1.0)
    return match * gate


def foot_alternation(inputs: RewardInputs, model: RewardModel) -> Tensor:
    """Length in seconds of a swing that ends in a touchdown of the other foot than last time, paid at the touchdown.

    At most the clock's own swing is paid, because paying for longer swings would reward running. Walking by the clock
    earns 0.8 per second at a swing share of 0.4; `gait.advance_steps` defines what counts.
    """
    gait = model.cfg.gait
    swing_s = inputs.steps.alternated_swing_s.clamp_max(gait.swing_share / gait.frequency_hz)
    return swing_s / model.cfg.sim.control_dt_s * inputs.moving


def contact_schedule(inputs: RewardInputs, _: RewardModel) -> Tensor:
    """1 while exactly those feet are on the ground that the phase clock prescribes.

    Each foot is to be in the air for `swing_share` of the stride and on the ground for the rest, so that there is a
    moment of double support between two swings (after the clock-scheduled contacts of Siekmann et al. 2021,
    arXiv:2011.01387).
    """
    # Each foot either stands or swings.
    are_right = torch.logical_xor(inputs.contacts, inputs.swing).all(dim=1)
    return ones_where(torch.logical_and, are_right, inputs.moving)


def standing_still(inputs: RewardInputs, _: RewardModel) -> Tensor:
    """1 while both feet are on the ground and the command is to stand."""
    return ones_where(torch.gt, inputs.contacts.all(dim=1), inputs.moving)


def height_maintenance(inputs: RewardInputs, model: RewardModel) -> Tensor:
    """Squared deviation of the base height from its target, m²."""
    height = inputs.state.base_height_m
    return mse_loss(height, model.target_height_m.expand_as(height), reduction="none")


def torso_stability(inputs: RewardInputs, model: RewardModel) -> Tensor:
    """Squared tilt (horizontal part of projected gravity) plus scaled squared roll and pitch rate."""
    tilt, rocking = inputs.squares_b[:2, :, :2].sum(dim=2)
    return torch.add(tilt, rocking, alpha=model.cfg.reward.rocking_scale_s2)


def lin_vel_z(inputs: RewardInputs, _: RewardModel) -> Tensor:
    """Squared vertical velocity of the base, (m/s)²."""
    return inputs.squares_b[2, :, 2]


def action_rate(inputs: RewardInputs, _: RewardModel) -> Tensor:
    """Squared change of the actions since the previous step."""
    return mse_loss(inputs.action, inputs.previous_action, reduction="none").sum(dim=1)


def similar_to_default(inputs: RewardInputs, model: RewardModel) -> Tensor:
    """Sum of |deviation| from the default pose over the joints that the gait does not swing, rad."""
    return inputs.deviation_rad[:, model.num_swung :].abs().sum(dim=1)


def feet_apart(inputs: RewardInputs, model: RewardModel) -> Tensor:
    """Shortfall of the feet's sideways distance from `feet_apart_m`, as a share of it.

    A robot that is pushed sideways tips over its outer foot, and the push that it takes grows with the distance.
    Humanoid-Gym (Gu et al. 2024, arXiv:2404.05695) keeps the distance within bounds by a reward.
    """
    state = inputs.state
    apart = quat_rotate_inverse(state.base_quat_w, state.foot_pos_w[:, 0] - state.foot_pos_w[:, 1])[:, 1]
    return (1.0 - apart / model.cfg.reward.feet_apart_m).clamp_min(0.0)


def foot_slip(inputs: RewardInputs, _: RewardModel) -> Tensor:
    """Sum of the horizontal speeds of the feet that are on the ground, m/s."""
    speed = torch.linalg.vector_norm(inputs.state.foot_vel_w[..., :2], dim=-1)
    return (speed * inputs.contacts).sum(dim=1)


def imitation(inputs: RewardInputs, model: RewardModel) -> Tensor:
    """exp(-error / scale) of the joints against the clip at this phase of the gait clock, while moving.

    The error is the mean over the joints of their distance to the clip, rad; see `biped.mdp.imitation.Stride`.
    """
    assert model.clip is not None, "the configuration asks for a clip where the weight is not 0"
    error = model.clip.error_rad(inputs.state.joint_pos_rad, inputs.phase)
    return torch.exp(error / -model.cfg.imitation.scale_rad) * inputs.moving


def actuator_constraint(inputs: RewardInputs, model: RewardModel) -> Tensor:
    """Sum of the torques beyond each motor's torque-speed envelope, N·m; see `biped.robot.actuators`."""
    torque = inputs.state.joint_torque_nm
    low, high = torque_range(inputs.state.joint_vel_rad_s, model.motors)
    return (torque - torque.clamp(low, high)).abs().sum(dim=1)


def fall_penalty(inputs: RewardInputs, model: RewardModel) -> Tensor:
    """1 per fall, at the step that ends the episode."""
    return inputs.fell * model.steps_per_s


def terms_of(weights: type[RewardWeights], functions: Mapping[str, Any]) -> Mapping[str, RewardTerm]:
    """Return the term for each field of the weights: the function of the same name, in the order of the fields.

    Raises:
        ValueError: a field has no function, or a term has no field; the message names them.
    """
    names = [item.name for item in fields(weights)]
    terms = {name: function for name, function in functions.items() if _is_term(function)}
    if odd := set(names) ^ set(terms):
        raise ValueError(f"reward terms and fields of RewardWeights differ in: {', '.join(sorted(odd))}")
    return MappingProxyType({name: terms[name] for name in names})


def _is_term(function: Any) -> bool:
    hints = getattr(function, "__annotations__", {})
    return hints.get("inputs") is RewardInputs and hints.get("return") is Tensor


TERMS = terms_of(RewardWeights, globals())
"""Every reward term by its name, which is also its field in `RewardWeights`."""


def active_terms(weights: RewardWeights) -> tuple[str, ...]:
    """Return the names of the terms that are computed: those whose weight is not 0, in the order of `TERMS`."""
    return tuple(name for name in TERMS if getattr(weights, name) != 0.0)


def compute_rewards(inputs: RewardInputs, model: RewardModel, failed: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the weighted sum of the active terms.

    Args:
        inputs: the control step.
        model: constants.
        failed: where the physics failed, (num_envs,), bool; there everything is 0, so that no NaN spreads.

    Returns:
        The reward of the step, (num_envs,), and each active term's share of it, (num_envs, len(active_terms)).
    """
    names = active_terms(model.cfg.reward.weights)
    if not names:
        return torch.zeros_like(inputs.progress), inputs.progress.new_zeros(len(inputs.progress), 0)
    # One row per term: they are put together in one piece each.
    shares = torch.stack([TERMS[name](inputs, model) for name in names]) * model.prices[:, None]
    if failed is not None:
        shares = shares.masked_fill(failed, 0.0)
    return shares.sum(dim=0), shares.T
