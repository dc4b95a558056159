"""Recurrent PPO whose data stays on the device: sb3-contrib's, with its own buffer, rollout and update.

Same arguments, losses, log names and checkpoints. Differences:

- a minibatch has all steps of some environments, so one LSTM state per environment is kept, not one per step;
- episode starts cut those steps into blocks of sequences (`biped.ppo.sequences`): one LSTM call per block;
- the host reads nothing within a step or a minibatch. Statistics are read once per update, and once per epoch where
  the host decides by them (`target_kl`, the adaptive rate);
- on a CPU, an actor and a critic that share nothing are updated in parallel (`biped.ppo.side_by_side`).
"""

import math
import sys
from collections.abc import Callable
from typing import Any, cast

import torch
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.utils import FloatSchedule, update_learning_rate
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from biped.ppo.buffer import DeviceRolloutBuffer, map_observations
from biped.ppo.distributed import Team
from biped.ppo.env_edge import EndedEpisodes, clip_bounds, edge_of, to_device
from biped.ppo.gradients import APPROX_KL, KL, LOSSES, PpoGradient, summarise, with_used
from biped.ppo.guard import TOLERATED_IN_A_ROW, LastGood, StepGuard
from biped.ppo.host_view import HostArray
from biped.ppo.kl_schedule import KlSchedule, next_learning_rate
from biped.ppo.losses import explained_variance
from biped.ppo.mirror import Mirror
from biped.ppo.normalizer import Observer
from biped.ppo.precision import Precision, usable_precision
from biped.ppo.recurrent_pass import (
    Observations,
    are_independent,
    single_precision,
    unchecked_distributions,
    without_non_finite,
)
from biped.ppo.sampling import CutOffs, Graph, Sample, Sampler
from biped.ppo.side_by_side import SideBySide
from biped.ppo.style import Style

GIVE_UP_AFTER = 10
"""Number of consecutive undone updates after which training ends with an error."""
RECOVER_AFTER = 100
"""Number of consecutive good updates after which a halved learning rate doubles, up to the scheduled rate."""


class DeviceRecurrentPPO(RecurrentPPO):
    """`RecurrentPPO` on tensors that stay on the policy's device.

    Takes any recurrent policy of sb3-contrib and any Stable-Baselines3 `VecEnv`; an environment with `step_tensor`
    (`biped.ppo.env_edge.TensorVecEnv`) is stepped without copies. Stock `RecurrentPPO.load` opens the files of `save`
    if this package can be imported.
    """

    policy: RecurrentActorCriticPolicy
    rollout_buffer: DeviceRolloutBuffer
    precision: Precision
    runs_in: Precision
    two_streams: bool = False
    """Whether actor and critic learn on a stream each of a GPU; not saved."""
    team: Team | None = None
    """The processes that train this policy together; None: this one alone. Not saved."""
    style: Style | None = None
    """What pays for moving as demonstrations do; None: nothing. Not saved with the model."""

    def __init__(
        self,
        policy: str | type[RecurrentActorCriticPolicy],
        env: VecEnv | GymEnv | str | None,
        learning_rate: float | Schedule = 3e-4,
        *args: Any,
        kl_schedule: KlSchedule | None = None,
        precision: Precision = "fp32",
        std_range: tuple[float, float] = (1e-3, 1e3),
        mirror: Mirror | None = None,
        **kwargs: Any,
    ) -> None:
        """Set up the learner; arguments not listed here are `RecurrentPPO`'s.

        Args:
            policy: a recurrent policy of sb3-contrib, or its name.
            env: the environments.
            learning_rate: the rate or a schedule of it; the adaptive rate starts from its first value.
            *args: further arguments of `RecurrentPPO`.
            kl_schedule: adapt the rate to the KL divergence of each update.
            precision: `bf16` runs the networks up to their heads in bfloat16; see `biped.ppo.precision`.
            std_range: lower and upper bound of the Gaussian's standard deviation.
            mirror: a symmetry of the task; half of the sequences that the policy learns from are mirrored.
            **kwargs: further arguments of `RecurrentPPO`.

        Raises:
            ValueError: the policy is not recurrent, `precision` is unknown, or `std_range` is not a range above 0.
        """
        if precision not in ("fp32", "bf16"):
            raise ValueError(f"precision is {precision!r}, but it must be 'fp32' or 'bf16'")
        if not 0.0 < std_range[0] <= std_range[1]:
            raise ValueError(f"std_range is {std_range}, but it must be (floor, ceiling) above 0")
        self.kl_schedule, self.precision = kl_schedule, precision
        self.std_range, self.mirror = tuple(std_range), mirror
        self.rate_scale = 1.0
        """Factor on the scheduled learning rate, halved by the guard."""
        self.should_break_off: Callable[[], bool] = lambda: False
        """Called before each optimizer step after an update's first; if it returns True, the update ends early."""
        self._undone_in_a_row, self._good_in_a_row, self._rate_before = 0, 0, 0.0
        super().__init__(policy, cast("Any", env), learning_rate, *args, **kwargs)

    def _setup_model(self) -> None:
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        settings = {"use_sde": self.use_sde, **self.policy_kwargs}
        with single_precision():
            policy = self.policy_class(self.observation_space, self.action_space, self.lr_schedule, **settings)
        if not isinstance(policy, RecurrentActorCriticPolicy):
            raise ValueError(f"{self.policy_class.__name__} is not a RecurrentActorCriticPolicy")
        self.policy = policy.to(self.device)
        self.runs_in = usable_precision(self.policy, self.precision)
        lstm = self.policy.lstm_actor
        zeros = torch.zeros(lstm.num_layers, self.n_envs, lstm.hidden_size, device=self.device, dtype=torch.float32)
        self._last_lstm_states = RNNStates((zeros, zeros), (zeros, zeros))
        self._mirrored_states = None if self.mirror is None else self._last_lstm_states
        self._sampler = Sampler(lambda: self.policy, self.n_envs, self.runs_in, self.mirror)
        self.rollout_buffer = DeviceRolloutBuffer(
            self.n_steps,
            self.n_envs,
            self.observation_space,
            self.action_space,
            self.device,
            keep_means=type(self.policy.action_dist) is DiagGaussianDistribution,
            mirror=self.mirror,
        )
        self._last_good = LastGood()
        self._bounds = clip_bounds(self.action_space, self.device)
        if self.kl_schedule is not None and self.n_epochs * self.n_minibatches < 2:
            raise ValueError("kl_schedule: an update of one step shows no divergence; use more epochs or minibatches")
        self.std_range = tuple(self.std_range)  # a checkpoint keeps it as a list
        self.clip_range = FloatSchedule(self.clip_range)
        if self.clip_range_vf is not None:
            if isinstance(self.clip_range_vf, float | int) and self.clip_range_vf <= 0:
                raise ValueError(f"clip_range_vf is {self.clip_range_vf}, but it must be above 0, or None for no clip")
            self.clip_range_vf = FloatSchedule(self.clip_range_vf)

    @property
    def n_minibatches(self) -> int:
        """Minibatches per epoch: as many as `batch_size` gives per rollout, with at least one environment each."""
        transitions = self.n_steps * self.n_envs
        return min(self.n_envs, -(-transitions // (self.batch_size or transitions)))

    @property
    def steps_at_once(self) -> int:
        """Environment steps that are made at a time, those of other processes included."""
        return self.n_envs if self.team is None else self.n_envs * self.team.size

    # ---- rollout ----------------------------------------------------------------------------------------------------

    def collect_rollouts(  # pyright: ignore[reportIncompatibleMethodOverride] - another buffer type
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: DeviceRolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Fill the buffer with `n_rollout_steps`; return False if the callback (with stock's `locals`) ended it."""
        self.policy.set_training_mode(False)
        edge = edge_of(env, self.device, 1e-9 * self.start_time)
        self._last_obs = to_device(self._last_obs, self.device)
        self._last_episode_starts = cast("Any", torch.as_tensor(self._last_episode_starts, device=self.device))
        assert self._last_lstm_states is not None
        ended, cut_offs = EndedEpisodes(), CutOffs(self._sampler, rollout_buffer.rewards, self.gamma)
        rollout_buffer.begin(self._last_lstm_states, self._log_std(), self._mirrored_states)
        if self.use_sde:
            self.policy.reset_noise(env.num_envs)
        callback.on_rollout_start()
        try:
            for n_steps in range(n_rollout_steps):
                if self.use_sde and self.sde_sample_freq > 0 and n_steps % self.sde_sample_freq == 0:
                    self.policy.reset_noise(env.num_envs)
                obs_tensor, episode_starts = self._last_obs, cast("Tensor", self._last_episode_starts)
                actions, values, log_probs, means, lstm_states, mirrored = self._act(obs_tensor, episode_starts)
                clipped_actions = actions if self._bounds is None else actions.clamp(*self._bounds)
                step = edge.step(clipped_actions)
                self.num_timesteps += self.steps_at_once
                # Must come before the callback, which may end the rollout: the next one continues from here.
                self._last_obs, self._last_lstm_states = step.observations, lstm_states
                self._mirrored_states = mirrored
                self._last_episode_starts = cast("Any", step.dones)
                if isinstance(step.infos, list):
                    self._update_info_buffer(step.infos, step.returned["dones"])
                else:
                    ended.note(step)
                on_host = {"actions": HostArray(actions), "clipped_actions": HostArray(clipped_actions)}
                callback.update_locals({**locals(), **on_host, **step.returned})
                if not callback.on_step():
                    return False
                rollout_buffer.add(obs_tensor, actions, step.rewards, episode_starts, values, log_probs, means)
                cut_offs.note(rollout_buffer.pos - 1, step, lstm_states)
                if self.style is not None:
                    self.style.note(n_steps, step.infos)
        finally:
            self._drain(ended)
        cut_offs.pay()
        if self.style is not None:
            self.style.pay(rollout_buffer.rewards)
        last_values = self._sampler.values(self._last_obs, self._last_lstm_states.vf)  # unused where an episode ended
        last_dones = cast("Tensor", self._last_episode_starts)
        rollout_buffer.compute_returns_and_advantage(last_values, last_dones, self.gamma, self.gae_lambda)
        callback.on_rollout_end()
        return True

    def _act(self, observations: Observations, episode_starts: Tensor) -> Sample:
        """Sample actions, given everything that was observed before."""
        assert self._last_lstm_states is not None
        return self._sampler(observations, episode_starts, self._last_lstm_states, self._mirrored_states)

    def use_graphs(self, graph: Graph) -> None:
        """Act in rollouts as a graph, made by `graph` of a function of tensors, such as a CUDA graph."""
        if not self.use_sde:
            self._sampler.use_graph(graph)

    def _drain(self, ended: EndedEpisodes) -> None:
        """Pass the episodes of a rollout to Stable-Baselines3's statistics."""
        assert self.ep_info_buffer is not None
        self.ep_info_buffer.extend(ended.drain(self._stats_window_size))

    # ---- update -----------------------------------------------------------------------------------------------------

    def train(self) -> None:
        """Update the policy with the rollout in the buffer."""
        self.policy.set_training_mode(True)
        optimizer = self.policy.optimizer
        self._update_learning_rate(optimizer)
        guard = StepGuard(list(self.policy.parameters()), optimizer, self.device)
        self._last_good.note(self.policy, optimizer)
        gradient = self._gradient()
        goes_on = torch.ones((), dtype=torch.bool, device=self.device)
        rows: list[Tensor] = []
        used: list[Tensor] = []
        halves = SideBySide(self.device, independent=are_independent(self.policy), two_streams=self.two_streams)
        with halves, unchecked_distributions():
            for epoch in range(self.n_epochs):
                first_row = len(rows)
                for minibatch in self.rollout_buffer.minibatches(self.n_minibatches):
                    if rows[first_row:] and self.should_break_off():
                        break
                    optimizer.zero_grad()
                    row, live = gradient.add(minibatch, halves), goes_on
                    if self.target_kl is not None:
                        goes_on = goes_on & (row[APPROX_KL] <= 1.5 * self.target_kl)
                    finite = guard.step(row[LOSSES].sum(), self.max_grad_norm, allowed=goes_on)
                    rows.append(row)
                    used.append(finite if self.target_kl is None else finite & live)
                    self._bound_std()
                self._n_updates += 1
                latest = rows[first_row:], used[first_row:]
                if not self._goes_on(epoch, *latest, goes_on) or self.should_break_off():
                    break
        self._finish_update(with_used(rows, used), first_row, guard, gradient)
        if self.style is not None:
            self.style.learn(self.logger.record)
        self.logger.record("train/clip_range", gradient.clip_range)
        if gradient.clip_range_vf is not None:
            self.logger.record("train/clip_range_vf", gradient.clip_range_vf)

    def _goes_on(self, epoch: int, rows: list[Tensor], used: list[Tensor], goes_on: Tensor) -> bool:
        """Adapt the rate to an epoch's KL divergence, and return whether to run the next epoch."""
        if self.kl_schedule is None and self.target_kl is None:
            return True
        counts = torch.stack(used)
        kls = torch.where(counts, torch.stack(rows)[:, KL], 0.0)
        kl, count, runs = torch.stack((kls.sum(), counts.sum(), goes_on)).tolist()
        if self.kl_schedule is not None and count:
            # The log shows the last epoch's rate, and the divergence that changed the rate afterwards.
            self.logger.record("train/learning_rate", self._rate)
            rate = next_learning_rate(self._rate, kl / count, self.kl_schedule)
            update_learning_rate(self.policy.optimizer, rate)
        if not runs and self.verbose >= 1:
            print(f"Early stopping at step {epoch} due to reaching max kl")
        return bool(runs)

    def _finish_update(self, rows: Tensor, last_epoch: int, guard: StepGuard, gradient: PpoGradient) -> None:
        """Log the update, and undo it if it failed.

        Args:
            rows: logged values of the minibatches, (n, USED + 1).
            last_epoch: first row of the last epoch.
            guard: the guard of the steps.
            gradient: how the losses add up.
        """
        buffer, policy = self.rollout_buffer, self.policy
        std = policy.log_std.exp().mean() if hasattr(policy, "log_std") else buffer.values.new_zeros(())
        finite = nn.utils.get_total_norm(policy.parameters()).isfinite()
        figures = (explained_variance(buffer.values, buffer.returns), std, *guard.counts(), finite)
        explained, std, skipped, in_a_row, finite = torch.stack(figures).tolist()
        table = rows.cpu().numpy()
        record = self.logger.record
        has_estimates = getattr(policy, "estimator", None) is not None
        for name, value in summarise(table, gradient.totals(table), last_epoch, has_estimates).items():
            record(f"train/{name}", value)
        record("train/explained_variance", explained)
        record("train/skipped_steps", int(skipped))
        if hasattr(policy, "log_std"):
            record("train/std", std)
        record("train/n_updates", self._n_updates, exclude="tensorboard")

        if not finite:
            self._undo("weights are not finite after this update")
        elif in_a_row >= TOLERATED_IN_A_ROW or skipped == len(table):
            self._undo(f"{int(skipped)} of {len(table)} optimizer steps had a loss or gradient that is not finite")
        else:
            self._confirm()

    def _confirm(self) -> None:
        """Record a good update."""
        self._last_good.confirm()
        self._undone_in_a_row = 0
        self._good_in_a_row += 1
        if self._good_in_a_row % RECOVER_AFTER == 0:
            self.rate_scale = min(1.0, 2.0 * self.rate_scale)
        if isinstance(self.policy, Observer):
            # Only now, because the update needs the same normalisation as the rollout.
            seen = map_observations(lambda tensor: tensor.flatten(0, 1), self.rollout_buffer.observations)
            self.policy.observe(seen, *([] if self.team is None else [self.team.merged]))

    def _undo(self, why: str) -> None:
        """Return to the last good weights at half the rate.

        Raises:
            FloatingPointError: this has failed several times in a row.
        """
        self._undone_in_a_row, self._good_in_a_row = self._undone_in_a_row + 1, 0
        # First return to the start of this update. If that does not help, return to confirmed weights.
        self._last_good.restore(self.policy, self.policy.optimizer, confirmed=self._undone_in_a_row > 1)
        assert self._last_lstm_states is not None
        self._last_lstm_states = without_non_finite(self._last_lstm_states)
        if self._mirrored_states is not None:
            self._mirrored_states = without_non_finite(self._mirrored_states)
        if self._undone_in_a_row >= GIVE_UP_AFTER:
            raise FloatingPointError(
                f"loss or gradient was not finite in {GIVE_UP_AFTER} updates in a row, at ever smaller learning rates: "
                "look for rewards or observations that are not finite"
            )
        rate = 0.5 * self._rate_before
        if self.kl_schedule is None:
            self.rate_scale *= 0.5
        else:
            rate = max(rate, self.kl_schedule.minimum)
        update_learning_rate(self.policy.optimizer, rate)
        print(f"{why}: back to the last good weights, learning rate halved to {rate:.3g}", file=sys.stderr, flush=True)

    @property
    def _rate(self) -> float:
        """The learning rate, which is stored only in the optimizer."""
        return self.policy.optimizer.param_groups[0]["lr"]

    def _update_learning_rate(self, optimizers: list[torch.optim.Optimizer] | torch.optim.Optimizer) -> None:
        """Write the scheduled rate into the optimizers; an adaptive rate is already there."""
        if self.kl_schedule is None:
            rate = self.lr_schedule(self._current_progress_remaining) * self.rate_scale
            for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
                update_learning_rate(optimizer, rate)
        self._rate_before = self._rate
        self.logger.record("train/learning_rate", self._rate)

    def _gradient(self) -> PpoGradient:
        clip_range, clip_range_vf = cast("Schedule", self.clip_range), cast("Schedule | None", self.clip_range_vf)
        return PpoGradient(
            policy=self.policy,
            old_log_std=self.rollout_buffer.log_std,
            clip_range=clip_range(self._current_progress_remaining),
            clip_range_vf=None if clip_range_vf is None else clip_range_vf(self._current_progress_remaining),
            ent_coef=self.ent_coef,
            vf_coef=self.vf_coef,
            normalize_advantage=self.normalize_advantage,
            precision=self.runs_in,
            team=self.team,
        )

    def _log_std(self) -> Tensor | None:
        """Return the Gaussian's log standard deviations, (action_width,); None for any other distribution."""
        return self.policy.log_std if self.rollout_buffer.means is not None else None

    def _bound_std(self) -> None:
        if (log_std := self._log_std()) is not None:
            with torch.no_grad():
                log_std.clamp_(math.log(self.std_range[0]), math.log(self.std_range[1]))

    def set_parameters(self, *args: Any, **kwargs: Any) -> None:
        """Load weights and optimizer state, like Stable-Baselines3, and forget the earlier good weights."""
        super().set_parameters(*args, **kwargs)
        self._last_good = LastGood()

    def _excluded_save_params(self) -> list[str]:
        # Excludes copies of the weights, and tensors on a device that another machine may not have.
        on_device = ["_last_obs", "_last_episode_starts", "_last_good", "_bounds", "mirror", "_mirrored_states"]
        of_process = ["runs_in", "should_break_off", "two_streams", "team", "style", "_sampler"]
        return [*super()._excluded_save_params(), *on_device, *of_process]
