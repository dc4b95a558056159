"""One evaluation: a separate batch of robots, judged by the gate and counted as trials."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from biped.config.randomization import RandomizationConfig
from biped.config.robot import RobotConfig
from biped.config.run import Config
from biped.env.env import make_env
from biped.eval.agents import Agent
from biped.eval.episodes import record_episodes, trial_commands
from biped.eval.figures import rewards_by_command, walking_from
from biped.eval.gate import Verdict, judge
from biped.eval.recording import Recording
from biped.eval.trials import Trials, count_trials

TRIAL_SEED = 10_000
"""Seed of the evaluations' commands and starts: the same in every evaluation of every run."""


@dataclass(frozen=True)
class Evaluation:
    """The results of one evaluation."""

    verdict: Verdict
    """Result of the gate."""
    trials: Trials
    """The episodes counted as trials."""
    rewards: Mapping[str, float] = field(default_factory=dict)
    """Mean reward per second by kind of command, of the kinds that there were: walking, turning, standing."""

    @classmethod
    def of(cls, record: Recording, robot: RobotConfig) -> "Evaluation":
        """Evaluate the episodes of a recording."""
        return cls(judge(record, robot), count_trials(record), rewards_by_command(record))

    @property
    def rank(self) -> tuple[float, float]:
        """Sort key, larger is better: the gate's score, then the share of successful trials."""
        return self.verdict.score, self.trials.success_rate

    def metrics(self) -> dict[str, float]:
        """Return the results under their canonical names; NaN where nothing could be measured."""
        trials = self.trials
        return {
            "eval/success_rate": trials.success_rate,
            "eval/success_precision": trials.success_precision,
            "eval/num_trials": trials.num_trials,
            "eval/success_trials": trials.success_trials,
            "eval/fail_trials": trials.fail_trials,
            "gate/score": self.verdict.score,
            "gate/passed": float(self.verdict.passed),
            **{f"eval/reward_{kind}": rate for kind, rate in self.rewards.items()},
            **{f"gate/{name}": value for name, value in self.verdict.figures().items()},
        }


class EvaluationBench:
    """A small separate batch of environments, to evaluate the policy during training."""

    def __init__(self, config: Config, device: str) -> None:
        """Build `config.train.eval_episodes` robots."""
        # Evaluations use the unchanged model, whatever the policy is trained with.
        cfg = replace(config.env, num_envs=config.train.eval_episodes, randomization=RandomizationConfig())
        self._env = make_env(cfg, device, sim=config.train.sim)
        self._commands = trial_commands(cfg.num_envs, cfg.command, TRIAL_SEED, walking_from(cfg.robot))
        self.num_envs = cfg.num_envs
        """Number of robots."""
        self.num_steps = round(cfg.termination.episode_s / cfg.sim.control_dt_s)
        """Control steps of an evaluation."""
        self.last_record: Recording | None = None
        """The episodes of the last evaluation."""

    def run(self, agent: Agent) -> Evaluation:
        """Evaluate a policy."""
        self.last_record = None  # frees its memory before the next one is recorded
        self.last_record = record_episodes(self._env, agent, self._commands, TRIAL_SEED)
        return Evaluation.of(self.last_record, self._env.cfg.robot)

    def close(self) -> None:
        """Free the simulator."""
        self._env.close()
