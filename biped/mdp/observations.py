"""Observations of actor and critic: one table of terms, and the layouts used by environment, exports and checks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

import torch
from torch import Tensor

from biped.config.observation import Term
from biped.config.randomization import NOMINAL
from biped.config.task import EnvConfig
from biped.robot.dynamics import DynamicsSample
from biped.robot.state import BipedState

Source = Literal["imu", "joint encoders", "foot switches", "controller", "state estimator", "simulator"]
"""Origin of an observation; a small robot has neither of the last two."""
MEASURED: frozenset[Source] = frozenset(("imu", "joint encoders", "foot switches", "controller"))
"""Origins that a robot can have; foot switches only if its configuration says so."""
Mirrored = tuple[float, ...] | Literal["joints", "joint sizes", "feet"]
"""How a term changes in the mirror: a sign per number; like the joints, with or without their signs; or by swapping
the two feet."""


@dataclass(frozen=True)
class ObservationInputs:
    """Inputs of the observations: with sensor errors for the actor, true values for the critic."""

    state: BipedState
    """The physical state of the robots."""
    command: Tensor
    """Velocity commands, (num_envs, 3)."""
    contacts: Tensor
    """Feet on the ground, (num_envs, 2), bool."""
    previous_action: Tensor
    """The clipped action of the previous step, (num_envs, num_joints)."""
    gait_clock: Tensor
    """Sine and cosine of the gait's phase, (num_envs, 2), zero while standing is asked for."""
    dynamics: DynamicsSample
    """Differences of the robots from the model."""
    into_ground_b: Tensor
    """Unit vector that points into the ground, (num_envs, 3), in the base frame."""
    push_force_b: Tensor
    """Force of a push in progress, (num_envs, 3), N in the base frame."""
    bump_height_m: Tensor
    """Largest bump height of the field that the episode started on, (num_envs,), m; 0 on the plane."""


@dataclass(frozen=True)
class TermSpec:
    """Definition of a term, independent of the robot."""

    meaning: str
    """Description in one phrase, for builders of robots."""
    source: Source
    """Origin of the term."""
    unit: str
    """Unit of the physical value."""
    value: Callable[[ObservationInputs], Tensor]
    """The physical value before `zero` is subtracted, (num_envs, width) or (num_envs,)."""
    mirrored: Mirrored
    """How the term changes in the mirror."""
    scale: Callable[[EnvConfig], float] = lambda _: 1.0
    """Factor on the physical value."""
    zero: Callable[[EnvConfig], float | tuple[float, ...]] = lambda _: 0.0
    """What is subtracted from the value: one number, or one per joint. It costs less for all terms at once."""
    noise: str | None = None
    """Field of `NoiseConfig` with the standard deviation of the term's noise."""

    def width(self, cfg: EnvConfig) -> int:
        """Return how many numbers the term has."""
        if isinstance(self.mirrored, tuple):
            return len(self.mirrored)
        return 2 if self.mirrored == "feet" else len(cfg.robot.joint_names)


def _command_scale(axis: int) -> Callable[[EnvConfig], float]:
    return lambda cfg: cfg.observation.command_scale[axis]


def _constant(scale: float) -> Callable[[EnvConfig], float]:
    return lambda _: scale


def _force_scale(cfg: EnvConfig) -> float:
    """Return a factor that scales foot forces to about 1; the contact threshold is a fifth of the robot's weight."""
    return 0.2 / cfg.gait.contact_on_n


def _nominal(name: str) -> Callable[[EnvConfig], float]:
    return lambda _: NOMINAL[name]


TERMS: Mapping[Term, TermSpec] = MappingProxyType(
    {
        "projected_gravity_b": TermSpec(
            "unit vector along gravity in the base frame; (0, 0, -1) when upright",
            "imu",
            "1",
            lambda inputs: inputs.state.projected_gravity_b,
            (1.0, -1.0, 1.0),
            noise="projected_gravity",
        ),
        "base_ang_vel_b": TermSpec(
            "angular velocity of the base in the base frame",
            "imu",
            "rad/s",
            lambda inputs: inputs.state.base_ang_vel_b,
            (-1.0, 1.0, -1.0),
            lambda cfg: cfg.observation.ang_vel_scale,
            noise="base_ang_vel_rad_s",
        ),
        "base_lin_vel_xy_b": TermSpec(
            "velocity of the base link's origin in the base frame, without its third number",
            "state estimator",
            "m/s",
            lambda inputs: inputs.state.base_lin_vel_b[:, :2],
            (1.0, -1.0),
            lambda cfg: cfg.observation.lin_vel_scale,
            noise="base_lin_vel_m_s",
        ),
        "base_height_m": TermSpec(
            "height of the base link's origin over the ground",
            "state estimator",
            "m",
            lambda inputs: inputs.state.base_height_m,
            (1.0,),
            noise="base_height_m",
        ),
        "command_lin_vel_x_b": TermSpec(
            "commanded velocity forward; see command",
            "controller",
            "m/s",
            lambda inputs: inputs.command[:, 0],
            (1.0,),
            _command_scale(0),
        ),
        "command_lin_vel_y_b": TermSpec(
            "commanded velocity to the left; see command",
            "controller",
            "m/s",
            lambda inputs: inputs.command[:, 1],
            (-1.0,),
            _command_scale(1),
        ),
        "command_ang_vel_b": TermSpec(
            "commanded yaw rate, counter-clockwise; see command",
            "controller",
            "rad/s",
            lambda inputs: inputs.command[:, 2],
            (-1.0,),
            _command_scale(2),
        ),
        "joint_pos_rad": TermSpec(
            "joint positions minus the default pose",
            "joint encoders",
            "rad from the default pose",
            lambda inputs: inputs.state.joint_pos_rad,
            "joints",
            zero=lambda cfg: cfg.robot.default_joint_pos_rad,
            noise="joint_pos_rad",
        ),
        "joint_vel_rad_s": TermSpec(
            "joint velocities",
            "joint encoders",
            "rad/s",
            lambda inputs: inputs.state.joint_vel_rad_s,
            "joints",
            lambda cfg: cfg.observation.joint_vel_scale,
            noise="joint_vel_rad_s",
        ),
        "foot_contact": TermSpec(
            "1 for a foot on the ground, else 0; see foot_contact",
            "foot switches",
            "1",
            lambda inputs: inputs.contacts.float(),
            "feet",
        ),
        "previous_action": TermSpec(
            "the action of the step before, as the policy returned it; zeros in the first step",
            "controller",
            "1",
            lambda inputs: inputs.previous_action,
            "joints",
        ),
        "gait_phase": TermSpec(
            "see gait_clock",
            "controller",
            "sine, cosine; zero while standing is asked for",
            lambda inputs: inputs.gait_clock,
            (-1.0, -1.0),
        ),
        "base_lin_vel_b": TermSpec(
            "velocity of the base link's origin in the base frame",
            "simulator",
            "m/s",
            lambda inputs: inputs.state.base_lin_vel_b,
            (1.0, -1.0, 1.0),
            lambda cfg: cfg.observation.lin_vel_scale,
        ),
        "ground_normal_b": TermSpec(
            "unit vector that points out of the ground, in the base frame",
            "simulator",
            "1",
            lambda inputs: inputs.into_ground_b,
            (1.0, -1.0, 1.0),
            _constant(-1.0),
        ),
        "foot_force": TermSpec(
            "vertical force of the ground on each foot",
            "simulator",
            "N",
            lambda inputs: inputs.state.foot_force_n,
            "feet",
            _force_scale,
        ),
        "push_force_b": TermSpec(
            "force of a push that is under way, in the base frame",
            "simulator",
            "N",
            lambda inputs: inputs.push_force_b,
            (1.0, -1.0, 1.0),
            _force_scale,
        ),
        "friction": TermSpec(
            "coefficient of friction between feet and ground, beyond the model's",
            "simulator",
            "1",
            lambda inputs: inputs.dynamics.friction,
            (1.0,),
            _constant(2.0),
            _nominal("friction"),
        ),
        "torso_mass_kg": TermSpec(
            "mass added to the torso",
            "simulator",
            "kg",
            lambda inputs: inputs.dynamics.torso_mass_kg,
            (1.0,),
            _constant(3.0),
        ),
        "torso_com_m": TermSpec(
            "shift of the torso's centre of mass",
            "simulator",
            "m",
            lambda inputs: inputs.dynamics.torso_com_m,
            (1.0, -1.0, 1.0),
            _constant(50.0),
        ),
        "strength": TermSpec(
            "factor on each motor's stiffness and torque, minus 1",
            "simulator",
            "1",
            lambda inputs: inputs.dynamics.strength,
            "joint sizes",
            _constant(5.0),
            _nominal("strength"),
        ),
        "damping": TermSpec(
            "factor on each motor's damping, minus 1",
            "simulator",
            "1",
            lambda inputs: inputs.dynamics.damping,
            "joint sizes",
            _constant(5.0),
            _nominal("damping"),
        ),
        "joint_friction_nm": TermSpec(
            "dry friction of each joint beyond the model's",
            "simulator",
            "N m",
            lambda inputs: inputs.dynamics.joint_friction_nm,
            "joint sizes",
            _constant(20.0),
        ),
        "armature": TermSpec(
            "factor on each motor's reflected inertia, minus 1",
            "simulator",
            "1",
            lambda inputs: inputs.dynamics.armature,
            "joint sizes",
            _constant(5.0),
            _nominal("armature"),
        ),
        "backlash_rad": TermSpec(
            "play of each joint's gear",
            "simulator",
            "rad",
            lambda inputs: inputs.dynamics.backlash_rad,
            "joint sizes",
            _constant(50.0),
        ),
        "latency_steps": TermSpec(
            "control steps by which actions are late",
            "simulator",
            "steps",
            lambda inputs: inputs.dynamics.latency,
            (1.0,),
        ),
        "bump_height_m": TermSpec(
            "largest height of the bumps of the field that the episode started on",
            "simulator",
            "m",
            lambda inputs: inputs.bump_height_m,
            (1.0,),
            _constant(50.0),
        ),
    }
)
"""Definition of each term. Scales bring the values to about 1."""
if set(TERMS) != set(get_args(Term)):
    raise ImportError(f"biped.config.observation.Term and TERMS differ: {sorted(set(TERMS) ^ set(get_args(Term)))}")


@dataclass(frozen=True)
class ObservationTerm:
    """One named part of an observation, for one robot."""

    name: Term
    """Name of the term, with its frame."""
    width: int
    """How many numbers the term has."""
    scale: float
    """Factor on the physical value."""
    unit: str
    """Unit of the physical value."""
    noise: float = 0.0
    """Standard deviation of the Gaussian noise on the physical value."""
    zeros: tuple[float, ...] = ()
    """What is subtracted from the value, one entry per number."""


@dataclass(frozen=True)
class ObservationLayout:
    """The terms of one group's observation, in order."""

    terms: tuple[ObservationTerm, ...]

    @classmethod
    def build(cls, cfg: EnvConfig) -> "ObservationLayout":
        """Return the actor's layout, which the robot's computer has to assemble."""
        has_switches = cfg.robot.foot_switches
        names: list[Term] = [name for name in cfg.observation.policy if name != "foot_contact" or has_switches]
        return cls._of(names, cfg, noisy=True)

    @classmethod
    def of_critic(cls, cfg: EnvConfig) -> "ObservationLayout | None":
        """Return the critic's layout, without noise; None if the critic observes what the actor observes."""
        return cls._of(cfg.observation.critic, cfg, noisy=False) if cfg.observation.critic else None

    @classmethod
    def _of(cls, names: Sequence[Term], cfg: EnvConfig, *, noisy: bool) -> "ObservationLayout":
        noise = cfg.randomization.noise
        terms = []
        for name in names:
            spec = TERMS[name]
            deviation = getattr(noise, spec.noise) if noisy and spec.noise else 0.0
            width, zero = spec.width(cfg), spec.zero(cfg)
            zeros = zero if isinstance(zero, tuple) else (zero,) * width
            terms.append(ObservationTerm(name, width, spec.scale(cfg), spec.unit, deviation, zeros))
        return cls(tuple(terms))

    @property
    def width(self) -> int:
        """How many numbers one observation has."""
        return sum(term.width for term in self.terms)

    def slices(self) -> dict[str, slice]:
        """Return the place of each term in the observation."""
        where, start = {}, 0
        for term in self.terms:
            where[term.name] = slice(start, start + term.width)
            start += term.width
        return where

    def noise(self, device: torch.device) -> Tensor:
        """Return the standard deviation of the noise on each scaled value, (width,)."""
        return torch.cat(
            [torch.full((term.width,), term.noise * term.scale, dtype=torch.float32) for term in self.terms]
        ).to(device)


def group_widths(cfg: EnvConfig) -> dict[str, int]:
    """Return the width of each observation group: `policy`, and `critic` if it has its own."""
    critic = ObservationLayout.of_critic(cfg)
    return {"policy": ObservationLayout.build(cfg).width} | ({} if critic is None else {"critic": critic.width})
