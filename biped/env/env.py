"""The vectorised biped environment: batches of episodes on a scene's tensors."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from biped.config.task import EnvConfig
from biped.env.groups import Observations, in_groups, observation_space
from biped.env.randomizer import Randomizer
from biped.env.running import BEGUN, CONSTANT_AT_BEGIN, SNAPSHOT, Drive, graphed
from biped.env.snapshot import attributes, pack, selected, set_attributes, unpack
from biped.env.starts import Starts, all_go_on
from biped.env.vec_env import StableBaselinesVecEnv, as_actions
from biped.mdp.commands import (
    CommandState,
    advance_commands,
    asked_and_done,
    command_progress,
    curriculum_progress,
    held,
    is_moving,
    widened,
)
from biped.mdp.episode_stats import EpisodeStats, EpisodeSummary
from biped.mdp.gait import StepEvents, StepState, advance_phase, advance_steps, gait_clock, swing_height
from biped.mdp.imitation import Features
from biped.mdp.observations import ObservationInputs, ObservationLayout, group_widths
from biped.mdp.observer import Observer
from biped.mdp.rewards import RewardInputs, RewardModel, active_terms, compute_rewards, deviation, follow
from biped.mdp.terminations import check_terminations
from biped.robot.state import BipedState
from biped.sim.scene import Graph, ResetPose, Scene, make_scene


class BipedEnv(VectorEnv):
    """A batch of bipeds under velocity commands, stepped together on torch tensors.

    Observations have two groups: `policy` (num_envs, layout.width), what a robot can measure, and `critic` (num_envs,
    critic_layout.width), what only a simulator knows. If the critic has no group of its own, observations are the
    policy's tensor alone. Actions are (num_envs, num_joints), rewards (num_envs,); all float32 on `device`. An episode
    that ends is reset in the same step: the returned observation is the new episode's first, and the old episode's
    last one is `infos["final_obs"]` where `infos["_final_obs"]` is True.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, cfg: EnvConfig, scene: Scene, seed: int = 0) -> None:
        """Put `cfg.num_envs` robots on the scene's ground, standing.

        Args:
            cfg: the task and its robot.
            scene: the simulator, with `cfg.num_envs` robots.
            seed: seed of every random draw, such as starts and commands.

        Raises:
            ValueError: the scene has another number of robots.
            ConfigError: the robot lacks a joint that the gait moves.
        """
        if scene.num_envs != cfg.num_envs:
            raise ValueError(f"the scene has {scene.num_envs} robots, the configuration {cfg.num_envs}")
        self.cfg, self.scene = cfg, scene
        self.num_envs, self.device = cfg.num_envs, scene.device
        self.render_mode = "rgb_array"
        self.metadata = {**self.metadata, "render_fps": round(1.0 / cfg.sim.control_dt_s)}
        self.layout = ObservationLayout.build(cfg)
        self.critic_layout = ObservationLayout.of_critic(cfg)
        self._widths = group_widths(cfg)
        groups = (self.layout, self.critic_layout)
        self._observer = Observer.build([group for group in groups if group], cfg.observation, self.device)
        joints, clip = len(cfg.robot.joint_names), cfg.control.action_clip
        self.single_observation_space = observation_space(self.layout, self.critic_layout, cfg.observation.clip)
        self.single_action_space = gymnasium.spaces.Box(-clip, clip, (joints,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._rewards = RewardModel.build(cfg, self.device)
        self.stats = EpisodeStats.of(cfg, self.device)
        default_pos_rad = self._rewards.default_joint_pos_rad
        self._generator = torch.Generator(self.device)
        self._generator.manual_seed(seed)
        self._all = torch.ones(self.num_envs, dtype=torch.bool, device=self.device)
        self._starts = Starts(cfg, scene, default_pos_rad, self._generator)
        nothing = torch.zeros(3, self.num_envs, device=self.device, dtype=torch.float32)
        self._phase, self._episode_steps, self._episode_return = nothing
        self._max_episode_steps = round(cfg.termination.episode_s / cfg.sim.control_dt_s)
        self._previous_action = torch.zeros(self.num_envs, joints, device=self.device, dtype=torch.float32)
        self._randomizer = Randomizer(cfg, scene, default_pos_rad, self._generator)
        self._steps = StepState.initial(self.num_envs, self.device)
        self._events = StepEvents.none(self.num_envs, self.device)
        self._command = CommandState.initial(self.num_envs, self.device)
        self._fresh = {**attributes(self, CONSTANT_AT_BEGIN), "actuation": self._randomizer.actuation}
        self._shares = torch.zeros(self.num_envs, len(self.reward_names), device=self.device, dtype=torch.float32)
        self.features: Features | None = None
        """What each step hands over of the robots' motion, as `infos["features"]`; None: nothing."""
        self.command_share = 1.0
        """Share of the command ranges to draw from, around their middle; set by the curriculum."""
        self._drive_robots, self._judge_step = self._drive, self._judge
        self._start_everywhere()

    def use_graphs(self, graph: Graph) -> None:
        """Run what a step does before and after the simulator's part as a graph each, made by `graph`."""
        self._drive_robots = graphed(self, self._drive, graph, self._generator)
        self._judge_step = graphed(self, self._judge, graph, self._generator)
        self.scene.use_graph(graph)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Start a new episode in every environment; `seed` (one number for the whole batch) restarts the draws.

        Raises:
            ValueError: a list of seeds is given, but the batch has one generator.
        """
        del options
        if isinstance(seed, list):
            raise ValueError("the batch draws from one generator: give one seed, not a list")
        if seed is not None:
            self._generator.manual_seed(seed)
        self._events = StepEvents.none(self.num_envs, self.device)
        self._start_everywhere()
        return in_groups(self._observe(self._randomizer.noise()), self._widths), {}

    def step(self, actions: Tensor | np.ndarray) -> tuple[Observations, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Advance every robot by one control step.

        Args:
            actions: (num_envs, num_joints), tensor or numpy; clipped to the action space. A non-finite action or
                command ends its episode as an error.

        Returns:
            Observations, rewards, terminated, truncated, and infos: `final_obs` (observations) with its mask
            `_final_obs`, and `episode_return`, `episode_length` up to this step, (num_envs,) each.

        Raises:
            ValueError: the actions have another shape.
        """
        given = as_actions(actions, self._previous_action.shape, self.device)
        drive: Drive = self._drive_robots(given, self.difficulty)
        if drive.jump is not None:
            self.scene.set_base_velocity(*drive.jump, self._state.base_ang_vel_b)
        state = self.scene.step(drive.joint_targets_rad, drive.force_w)
        state = replace(state, error=state.error >= drive.accepted)  # an error, or not accepted
        results, start = self._judge_step(state, drive.actions, self.command_share, self.difficulty)
        observations, rewards, terminated, truncated, infos = results
        self.stats.count(self.num_envs)
        self._place(infos["_final_obs"], start)
        infos["final_obs"] = in_groups(infos["final_obs"], self._widths)
        return in_groups(observations, self._widths), rewards, terminated, truncated, infos

    def end_rollout(self, max_error_share: float = 1.0) -> EpisodeSummary:
        """Return the statistics since the last call, and widen the command ranges if the commands were followed well.

        Args:
            max_error_share: share of the environments in which the physics may have failed.

        Raises:
            FloatingPointError: the physics failed in more of them.
        """
        summary = self.stats.drain()
        summary.require_physics(self.num_envs * self.stats.processes, max_error_share)
        self.command_share = widened(self.command_share, summary.progress, self.cfg.command)
        return summary

    def render(self) -> tuple[np.ndarray | None, ...]:
        """Return a picture of the first robot, (height, width, 3), uint8, and None for each other robot.

        Raises:
            MachineError: the environment was made without a camera, or the machine cannot render.
        """
        return (self.scene.render(), *[None] * (self.num_envs - 1))

    def close_extras(self, **_: Any) -> None:
        """Free the simulator."""
        self.scene.close()

    def get_state(self) -> dict[str, Tensor]:
        """Return copies of everything that running episodes and future draws depend on, simulator state included."""
        return {
            **pack(attributes(self, SNAPSHOT)),
            **self._randomizer.get_state(),
            "generator": self._generator.get_state(),
            "command_share": torch.tensor(self.command_share, dtype=torch.float64),
            **{f"scene.{name}": value for name, value in self.scene.get_state().items()},
        }

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue exactly from what `get_state` returned: the same actions lead to the same results.

        Raises:
            KeyError, RuntimeError: it belongs to an environment of another kind or size.
        """
        # Checked before anything is restored: a GPU's generator has a state of another size.
        if state["generator"].shape != self._generator.get_state().shape:
            raise RuntimeError("the random draws are those of another kind of device")
        mine = unpack(attributes(self, SNAPSHOT), state)
        self._randomizer.set_state(state)
        self.scene.set_state({name.removeprefix("scene."): v for name, v in state.items() if name.startswith("scene.")})
        self._generator.set_state(state["generator"].cpu())
        self.command_share = float(state["command_share"])
        set_attributes(self, SNAPSHOT, mine)
        self._moving = is_moving(self._command.velocity, self.cfg.command)

    @property
    def state(self) -> BipedState:
        """The physical state of the running episodes."""
        return self._state

    @property
    def command(self) -> Tensor:
        """The current velocity commands, (num_envs, 3): m/s, m/s, rad/s."""
        return self._command.velocity

    @property
    def contacts(self) -> Tensor:
        """Feet on the ground in the running episodes, (num_envs, 2), bool; none at an episode's start."""
        return self._steps.contacts

    def hold_commands(self, velocity: Tensor) -> Observations:
        """Set velocity commands (num_envs, 3) until the episodes end; return the observations with them.

        Commands too small to ask for motion are set to zero, as for drawn commands. With a non-finite command the
        observation is zero, and the next step ends the episode as an error.
        """
        self._command, self._moving = held(velocity.to(self.device, torch.float32), self.cfg.command)
        refused = ~torch.isfinite(self._command.velocity).all(dim=1, keepdim=True)
        return in_groups(self._observe(self._randomizer.noise()).masked_fill(refused, 0.0), self._widths)

    @property
    def phase(self) -> Tensor:
        """The gait clock of the running episodes, (num_envs,), from 0 to 1."""
        return self._phase

    @property
    def reward_names(self) -> tuple[str, ...]:
        """Names of the active reward terms."""
        return active_terms(self.cfg.reward.weights)

    @property
    def reward_shares(self) -> Tensor:
        """Each active term's share of the last reward, (num_envs, num_terms), including episodes that ended."""
        return self._shares

    @property
    def events(self) -> StepEvents:
        """Touchdowns in the last control step, including episodes that ended with it."""
        return self._events

    @property
    def difficulty(self) -> float:
        """Progress of the curriculum, from 0 to 1, which scales pushes and bumps."""
        return curriculum_progress(self.command_share, self.cfg.command)

    @property
    def randomizer(self) -> Randomizer:
        """Differences between the robots, and disturbances."""
        return self._randomizer

    def _drive(self, actions: Tensor, difficulty: float) -> Drive:
        """Return what the simulator is told in a control step; a function of the running episodes."""
        given, clip = torch.cat((actions, self._command.velocity), dim=1), self.cfg.control.action_clip
        accepted = torch.linalg.vector_norm(given, dim=1) < torch.inf  # not where one is NaN
        actions = torch.where(accepted[:, None], actions.clamp(-clip, clip), 0.0)
        push = self._randomizer.push(self._state, difficulty)
        return Drive(actions, accepted, self._randomizer.joint_targets(actions), *push)

    def _judge(
        self, state: BipedState, actions: Tensor, command_share: float, difficulty: float
    ) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]], BipedState | None]:
        """Return the results of a step, and the states in which episodes start where one ended; None: none did."""
        cfg, dt_s, moving = self.cfg, self.cfg.sim.control_dt_s, self._moving
        self._episode_steps = self._episode_steps + 1
        self._phase = advance_phase(self._phase, cfg.gait.frequency_hz, dt_s)
        self._steps, self._events = advance_steps(self._steps, state.foot_force_n, dt_s, cfg.gait)
        strayed = self._rewards.strayed(state, self._phase, moving)
        ends = check_terminations(state, self._episode_steps, self._max_episode_steps, cfg.termination, strayed)
        velocities = asked_and_done(self._command.velocity, state)
        progress = command_progress(velocities, cfg.command)
        rewards, shares = compute_rewards(
            RewardInputs(
                state=state,
                command=self._command.velocity,
                action=actions,
                previous_action=self._previous_action,
                swing=swing_height(self._phase, cfg.gait.swing_share),
                contacts=self._steps.contacts,
                steps=self._events,
                fell=ends.fell,
                moving=moving,
                progress=progress,
                following=follow(velocities, self._rewards),
                phase=self._phase,
                deviation_rad=deviation(state.joint_pos_rad, self._rewards),
            ),
            self._rewards,
            failed=ends.error,
        )
        self._episode_return, lengths = self._episode_return + rewards, self._episode_steps
        self.stats.add(self._episode_return, lengths, shares, progress.clamp(-1.0, 1.0), moving > ends.error, ends)

        infos = {"_final_obs": ends.done, "episode_return": self._episode_return, "episode_length": lengths}
        if self.features is not None:
            infos["features"] = self.features.step(self._state, state, ends.error)
        self._state, self._previous_action, self._shares = state, actions, shares
        self._randomizer.feel(self._steps.contacts, state)
        noise, goes_on = self._randomizer.noise(), all_go_on(ends.done)
        if not goes_on:
            # Where the physics failed, the observation is zero.
            infos["final_obs"] = self._observe(noise).masked_fill(ends.error[:, None], 0.0)
        start = self._begin(ends.done, command_share, difficulty, nowhere=goes_on)
        observations = self._observe(self._randomizer.noise())
        return (observations, rewards, ends.terminated, ends.truncated, {"final_obs": observations, **infos}), start

    def _start_everywhere(self) -> None:
        self._state = self._starts.standing
        self._place(self._all, self._begin(self._all, self.command_share, self.difficulty))

    def _begin(
        self, mask: Tensor, command_share: float, difficulty: float, *, nowhere: bool = False
    ) -> BipedState | None:
        """Begin episodes where `mask` is True (`nowhere`: it never is), and return the states in which they start."""
        # Drawn in any case, so that a seed gives the same whether or not anybody looks at the mask.
        draws, start = self._starts.draw(), None
        if not nowhere or self._randomizer.draws_to_begin:
            start = self._begin_with(draws, mask, difficulty)
        self._command, self._moving = advance_commands(
            self._command, self.cfg.sim.control_dt_s, self.cfg.command, self._generator, command_share
        )
        return start

    def _begin_with(self, draws: Tensor, mask: Tensor, difficulty: float) -> BipedState:
        start, phase, late = self._starts.place(draws)
        self._randomizer.begin(mask, late, difficulty)
        start = self._randomizer.disturbed(start)
        self._randomizer.start_sensors(mask, start)
        before = {**attributes(self, BEGUN), "actuation": self._randomizer.actuation}
        after = selected(mask, {**self._fresh, "_state": start, "_phase": phase}, before)
        self._randomizer.actuation = after["actuation"]
        set_attributes(self, BEGUN, after)
        return start

    def _place(self, mask: Tensor, start: BipedState | None) -> None:
        """Put the simulator's robots where episodes begin."""
        if start is None:
            return
        self._randomizer.apply_draws()
        self.scene.reset(mask, ResetPose(start.base_pos_w, start.base_quat_w, start.joint_pos_rad))
        self._randomizer.set_in_motion(mask, start)

    def _observe(self, noise: Tensor | None) -> Tensor:
        """Return the actor's observation, with sensor errors and noise, and beside it the critic's, of the true state.

        They are (num_envs, width of all groups), and become groups by `in_groups`; `noise` is (num_envs, layout.width).
        """
        truth = ObservationInputs(
            state=self._state,
            command=self._command.velocity,
            contacts=self._steps.contacts,
            previous_action=self._previous_action,
            gait_clock=gait_clock(self._phase, self._moving),
            **self._randomizer.hidden(self._state),
        )
        felt, state = self._randomizer.felt(truth.contacts), self._randomizer.sensed(truth.state)
        sensed = replace(truth, contacts=felt, state=state)
        observations = self._observer(*(sensed, truth)[: len(self._widths)])
        if noise is not None:
            observations[:, : self.layout.width] += noise
        return observations


class BipedVecEnv(StableBaselinesVecEnv):
    """A `BipedEnv` as a Stable-Baselines3 `VecEnv`; `env` is the wrapped tensor environment."""

    env: BipedEnv

    def __init__(self, env: BipedEnv) -> None:
        """Wrap `env`."""
        super().__init__(env)


def make_env(
    cfg: EnvConfig,
    device: torch.device | str = "cpu",
    *,
    sim: str = "genesis",
    seed: int = 0,
    camera: bool = False,
    viewer: bool = False,
) -> BipedEnv:
    """Build the environment on a simulator, selected by name; `camera` and `viewer` are passed to `make_scene`.

    Raises:
        MachineError: the simulator cannot be imported or built on this machine.
    """
    return BipedEnv(cfg, make_scene(sim, cfg, torch.device(device), camera=camera, viewer=viewer), seed=seed)
