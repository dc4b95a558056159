"""The randomisation between environment and scene: differences between robots, disturbances, sensor errors."""

from collections.abc import Mapping
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from biped.config.randomization import (
    DYNAMICS,
    ContactSensorConfig,
    NoiseConfig,
    StartConfig,
)
from biped.config.sensors import EncoderConfig, ImuConfig
from biped.config.task import EnvConfig
from biped.env.snapshot import attributes, pack, set_attributes, unpack
from biped.mdp.disturbances import (
    ContactSensors,
    Pushes,
    pushes_are_on,
)
from biped.mdp.observations import ObservationLayout
from biped.mdp.randomization import (
    is_drawn_at_reset,
    is_nominal,
    redrawn,
    sample_dynamics,
)
from biped.mdp.sensors import Encoders, Imu
from biped.robot.actuators import Actuation
from biped.robot.dynamics import DynamicsSample
from biped.robot.rotations import (
    leaning,
    quat_rotate,
    quat_rotate_inverse,
)
from biped.robot.state import BipedState
from biped.sim.scene import Scene
from biped.sim.terrain import field_starts

_SNAPSHOT: Mapping[str, str] = MappingProxyType(
    {"dynamics": "dynamics", "_actuation": "actuation", "_sensors": "_sensors", "_pushes": "_pushes"}
)
"""Names in a checkpoint, which must not change, and the attributes with the running episodes."""


class Randomizer:
    """Randomises robots and episodes; makes no random draws for anything that is off."""

    def __init__(self, cfg: EnvConfig, scene: Scene, default_joint_pos_rad: Tensor, generator: torch.Generator) -> None:
        """Draw the values for the whole run, and apply them to the scene.

        Args:
            cfg: the environment's configuration; `cfg.randomization` has the ranges.
            scene: the simulator with the robots.
            default_joint_pos_rad: joint positions of the default pose, (num_joints,), rad.
            generator: the environment's random generator.
        """
        self._cfg, self._scene, self._generator = cfg, scene, generator
        random = cfg.randomization
        self._default_joint_pos = default_joint_pos_rad.expand(cfg.num_envs, -1)
        self.dynamics = sample_dynamics(random, cfg.robot, cfg.num_envs, generator)
        """Differences of the robots in the running episodes from the model."""
        late = random.latency_steps
        self.actuation = Actuation.at(self._default_joint_pos, depth=1 + max(1, int(late.range[1])))
        """Actions under way to the motors, and where the gears are; the environment begins it anew."""
        self._sensors = ContactSensors.initial(cfg.num_envs, scene.device)
        self._pushes = Pushes.initial(cfg.num_envs, scene.device)
        self._has_pushes = pushes_are_on(random.push)
        self._has_sensor_faults = random.contact_sensors != ContactSensorConfig()
        self._has_imu = random.imu != ImuConfig()
        self._has_encoders = random.encoders != EncoderConfig()
        self._imu: Imu | None = None
        self._encoders: Encoders | None = None
        self._has_start_motion = random.start != StartConfig()
        self._is_tilted = self._has_start_motion or random.slope_rad.mode != "off"
        self._has_backlash = random.backlash_rad.mode != "off"
        self._draws = any(is_drawn_at_reset(item.name, random) for item in fields(DynamicsSample))
        self._has_bumps = bool(random.bumps.heights_m)
        self._field_starts = field_starts(cfg, scene.device)
        self._no_height_m = torch.zeros(cfg.num_envs, device=scene.device, dtype=torch.float32)
        # Without dynamics of its own, no robot is on a slope: there gravity points straight into the ground.
        self._may_slope = random.changes_dynamics
        self._down_w = torch.zeros_like(self._pushes.force_w)
        self._down_w[:, 2] = -1.0
        self._applies_draws = any(getattr(random, name).mode == "reset" for name in DYNAMICS)
        self.is_nominal = is_nominal(random.nominal_share, cfg.num_envs, scene.device)
        """Robots without any randomisation, (num_envs,), bool."""
        noise = ObservationLayout.build(cfg).noise(scene.device) * ~self.is_nominal[:, None]
        self._noise = noise if random.noise != NoiseConfig() else None
        # Robots without randomised latency use `control.latency_share`; None: those are all.
        self._latency_by_share = None if late.mode == "off" else self.is_nominal
        self._apply()

    def hold(self, sample: DynamicsSample) -> None:
        """Set other dynamics; values drawn per episode are kept until the episode ends.

        Raises:
            MachineError: the scene was built without per-robot dynamics.
        """
        self.dynamics, self._has_backlash = sample, True
        self._apply()

    def begin(self, mask: Tensor, late: Tensor, difficulty: float) -> None:
        """Draw the values for an episode where `mask` (num_envs,) is True.

        Args:
            mask: episodes that begin, (num_envs,), bool.
            late: uniform draws that are compared with `control.latency_share`, (num_envs,).
            difficulty: progress of the curriculum, from 0 to 1.
        """
        cfg, random = self._cfg, self._cfg.randomization
        if self._draws:
            fresh = sample_dynamics(random, cfg.robot, cfg.num_envs, self._generator, difficulty)
            self.dynamics = redrawn(self.dynamics, fresh, mask, random)
        again = mask if self._latency_by_share is None else mask & self._latency_by_share
        before = self.dynamics.latency_steps
        is_late = torch.lt(late, cfg.control.latency_share, out=torch.empty_like(before))
        steps = torch.where(again, is_late, before)
        self.dynamics = replace(self.dynamics, latency_steps=steps)
        if self._has_sensor_faults:
            self._sensors = self._sensors.reset(mask, random.contact_sensors, self._generator)
        if self._has_pushes:
            self._pushes = self._pushes.reset(mask & ~self.is_nominal, random.push, self._generator)

    def disturbed(self, start: BipedState) -> BipedState:
        """Return start states with random tilt and motion, on the robots' own slopes and fields."""
        cfg = self._cfg.randomization.start
        if self._has_bumps:
            place = self._field_starts[self.dynamics.bump_field]
            spread = (
                torch.rand(
                    self._cfg.num_envs, 2, generator=self._generator, device=self._scene.device, dtype=torch.float32
                )
                - 0.5
            )
            place[:, :2] += spread  # so that robots start on different bumps
            start = replace(start, base_pos_w=start.base_pos_w + place, foot_pos_w=start.foot_pos_w + place[:, None])
        if self._has_start_motion:
            shape = (3, self._cfg.num_envs, 3)
            drawn = (
                2.0 * torch.rand(shape, generator=self._generator, device=self._scene.device, dtype=torch.float32) - 1.0
            )
            vel, ang, lean = drawn.masked_fill(self.is_nominal[:, None], 0.0)
            vel = torch.cat((cfg.lin_vel_m_s * vel[:, :2], torch.zeros_like(vel[:, 2:])), dim=1)
            quat = leaning(start.base_quat_w, cfg.tilt_rad * lean[:, 0], cfg.tilt_rad * lean[:, 1])
            start = replace(start, base_quat_w=quat, base_lin_vel_b=vel, base_ang_vel_b=cfg.ang_vel_rad_s * ang)
        if self._is_tilted:
            gravity_b = quat_rotate_inverse(start.base_quat_w, self.dynamics.gravity_direction)
            start = replace(start, projected_gravity_b=gravity_b)
        return start

    def start_sensors(self, mask: Tensor, start: BipedState) -> None:
        """Redraw IMU and encoder errors where `mask` (num_envs,) is True, for episodes that begin with `start`."""
        random = self._cfg.randomization
        if self._has_imu:
            imu = self._imu or Imu.initial(start)
            self._imu = imu.reset(mask, start, random.imu, self._generator)
        if self._has_encoders:
            encoders = self._encoders or Encoders.initial(start)
            self._encoders = encoders.reset(mask, start, random.encoders, self._generator)

    def apply_draws(self) -> None:
        """Tell the scene of dynamics that are drawn per episode."""
        if self._applies_draws:
            self._apply()

    def set_in_motion(self, mask: Tensor, start: BipedState) -> None:
        """Set the initial velocity of the robots where `mask` (num_envs,) is True."""
        if self._has_start_motion:
            vel_w = quat_rotate(start.base_quat_w, start.base_lin_vel_b)
            self._scene.set_base_velocity(mask, vel_w, start.base_ang_vel_b)

    def joint_targets(self, actions: Tensor) -> Tensor:
        """Return the joint targets after latency and backlash, (num_envs, num_joints), rad.

        Args:
            actions: clipped actions, (num_envs, num_joints).
        """
        self.actuation = self.actuation.with_action(actions)
        applied = self.actuation.delayed(self.dynamics.latency_steps)
        targets = torch.add(self._default_joint_pos, applied, alpha=self._cfg.control.action_scale_rad)
        if not self._has_backlash:
            self.actuation = replace(self.actuation, joint_targets_rad=targets)
            return targets
        self.actuation = self.actuation.driven_to(targets, self.dynamics.backlash_rad)
        return self.actuation.joint_targets_rad

    def push(self, state: BipedState, share: float) -> tuple[Tensor | None, tuple[Tensor, Tensor] | None]:
        """Advance the push timers, and push where due.

        Args:
            state: the state before the control step.
            share: share of the pushes' full size.

        Returns:
            Forces on the bases, (num_envs, 3), N in the world; and where velocities jump, (num_envs,), bool, with the
            velocities after that, (num_envs, 3), m/s in the world. None for a kind of push that is off.
        """
        if not self._has_pushes:
            return None, None
        cfg, dt_s = self._cfg.randomization.push, self._cfg.sim.control_dt_s
        self._pushes, jumps, change_w = self._pushes.advance(dt_s, cfg, share, self._generator)
        force_w = self._pushes.force_w if cfg.force_n else None
        if not cfg.velocity_m_s:
            return force_w, None
        return force_w, (jumps, quat_rotate(state.base_quat_w, state.base_lin_vel_b) + change_w)

    def feel(self, contacts: Tensor, state: BipedState) -> None:
        """Read the sensors at the true contacts (num_envs, 2), bool, and the true state of a control step."""
        random, dt_s = self._cfg.randomization, self._cfg.sim.control_dt_s
        if self._has_sensor_faults:
            self._sensors = self._sensors.feel(contacts, random.contact_sensors, self._generator)
        if self._imu is not None:
            self._imu = self._imu.feel(state, dt_s, random.imu, self._generator)
        if self._encoders is not None:
            self._encoders = self._encoders.feel(state, dt_s, random.encoders)

    def sensed(self, state: BipedState) -> BipedState:
        """Return the state as measured by IMU and encoders; sensors of nominal robots have no errors."""
        nominal = self.is_nominal[:, None]
        if self._imu is not None:
            gravity, ang_vel = self._imu.sensed()
            state = replace(
                state,
                projected_gravity_b=torch.where(nominal, state.projected_gravity_b, gravity),
                base_ang_vel_b=torch.where(nominal, state.base_ang_vel_b, ang_vel),
            )
        if self._encoders is not None:
            position, velocity = self._encoders.sensed()
            state = replace(
                state,
                joint_pos_rad=torch.where(nominal, state.joint_pos_rad, position),
                joint_vel_rad_s=torch.where(nominal, state.joint_vel_rad_s, velocity),
            )
        return state

    def felt(self, contacts: Tensor) -> Tensor:
        """Return the contacts that the switches report, (num_envs, 2), bool; the true `contacts` for nominal robots."""
        if not self._has_sensor_faults:
            return contacts
        return torch.where(self.is_nominal[:, None], contacts, self._sensors.felt)

    def noise(self) -> Tensor | None:
        """Draw the noise of the actor's observation, (num_envs, its width); None if there is none."""
        if self._noise is None:
            return None
        shape, device = self._noise.shape, self._noise.device
        return self._noise * torch.randn(shape, generator=self._generator, device=device, dtype=torch.float32)

    @property
    def draws_to_begin(self) -> bool:
        """Whether anything is drawn for each episode that begins."""
        sensors = self._has_sensor_faults or self._has_imu or self._has_encoders
        return self._draws or sensors or self._has_pushes or self._has_bumps or self._has_start_motion

    def hidden(self, state: BipedState) -> dict[str, Any]:
        """Return values known only to the simulator, under the names of `biped.mdp.observations.ObservationInputs`."""
        down_b, push_b = state.projected_gravity_b, self._pushes.force_w
        if self._may_slope:
            vectors_w = torch.stack((self._down_w, self._pushes.force_w))
            down_b, push_b = quat_rotate_inverse(state.base_quat_w[None], vectors_w)
        elif self._has_pushes:
            push_b = quat_rotate_inverse(state.base_quat_w, self._pushes.force_w)
        heights_m = self._field_starts[:, 2]
        return {
            "dynamics": self.dynamics,
            "into_ground_b": down_b,
            "push_force_b": push_b,
            "bump_height_m": heights_m[self.dynamics.bump_field] if self._has_bumps else self._no_height_m,
        }

    def get_state(self) -> dict[str, Tensor]:
        """Return copies of everything that the running episodes depend on."""
        return pack(attributes(self, self._snapshot))

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from what `get_state` returned; restore the scene's own state after this call.

        Raises:
            KeyError, RuntimeError: it belongs to a randomisation of another kind or size.
        """
        set_attributes(self, self._snapshot, unpack(attributes(self, self._snapshot), state))
        self._apply()

    def running(self) -> dict[str, Any]:
        """Return all that a step changes, but for the draws."""
        return attributes(self, self._snapshot)

    def set_running(self, running: Mapping[str, Any]) -> None:
        """Set what `running` returned."""
        set_attributes(self, self._snapshot, running)

    @property
    def _snapshot(self) -> Mapping[str, str]:
        sensors = {"imu": "_imu", "encoders": "_encoders"}
        return {**_SNAPSHOT, **{key: name for key, name in sensors.items() if getattr(self, name) is not None}}

    def _apply(self) -> None:
        if self._cfg.randomization.changes_dynamics:
            self._scene.apply(self.dynamics)
