"""Adversarial motion priors (Peng et al. 2021, arXiv:2104.02180): a reward for moving as demonstrations do.

A discriminator sees what describes a body before and after a step, as two vectors of features that the environment
hands over; it knows no robot. The learner has a `Style`, or None: without one it runs nothing of this.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from biped.ppo.distributed import Team
from biped.ppo.guard import StepGuard
from biped.ppo.mirror import Reflection
from biped.ppo.normalizer import RunningNormalizer
from biped.ppo.recurrent_pass import single_precision

FEATURES = "features"
"""Name in the environment's infos of the features before and after each step; see `biped.ppo.env_edge`."""
REMEMBERED = 20
"""Rollouts that the replay remembers steps of."""
MAX_GRAD_NORM = 1.0
"""Upper bound of the discriminator's gradient."""
METRICS = (
    "losses/disc_loss",
    "info/disc_agent_acc",
    "info/disc_demo_acc",
    "info/disc_agent_logit",
    "info/disc_demo_logit",
    "info/disc_grad_penalty",
    "info/disc_reward_mean",
    "info/disc_reward_std",
)
"""What is logged, all as means over an update's minibatches but for the reward, which is over the rollout."""


@dataclass(frozen=True)
class StyleSettings:
    """How the discriminator learns, and what the style pays."""

    weight: float
    """Factor on the style's reward of a step."""
    hidden_sizes: tuple[int, ...]
    """Widths of its layers."""
    learning_rate: float
    """Step size of Adam."""
    updates: int
    """Minibatches per rollout."""
    batch_size: int
    """Steps of agents per minibatch, and steps of demonstrations."""
    replay_size: int
    """Steps of earlier rollouts that are kept."""
    gradient_penalty: float
    """Weight of the gradient penalty."""
    noise: float
    """Standard deviation of noise on the normalised features that it learns from; 0: none."""
    weight_decay: float
    """Weight of half the squared weights."""


class Losses(NamedTuple):
    """The discriminator's loss on a minibatch: scalars on the device."""

    loss: Tensor
    """Least squares and gradient penalty."""
    penalty: Tensor
    """Mean squared length of the gradient at demonstrations, without its weight."""


class Discriminator(nn.Module):
    """Maps steps (n, 2 × width) to logits (n,): 1 for what demonstrations do, -1 for what agents do."""

    def __init__(self, width: int, hidden_sizes: tuple[int, ...]) -> None:
        """Draw the weights.

        Args:
            width: width of the features, before and after together.
            hidden_sizes: widths of the layers.
        """
        super().__init__()
        self.normalizer = RunningNormalizer(width)
        widths = (width, *hidden_sizes)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    def forward(self, normalised: Tensor) -> Tensor:
        """Return the logits of steps that `see` has normalised."""
        return self.net(normalised)[:, 0]

    def see(self, pairs: Tensor) -> Tensor:
        """Return what the networks see of steps (n, 2 × width): the features before, and their change, normalised."""
        return self.normalizer(as_changes(pairs))


def as_changes(pairs: Tensor) -> Tensor:
    """Return features before a step and their change, of features before and after; both are (n, 2 × width).

    The change is a small part of the features, so that only apart from them it has a scale of its own.
    """
    before, after = pairs.chunk(2, dim=1)
    return torch.cat((before, after - before), dim=1)


def least_squares(agent_logits: Tensor, demo_logits: Tensor) -> Tensor:
    """Return the mean squared distances of logits from -1 (agents) and 1 (demonstrations), each halved: equation 6."""
    return 0.5 * (agent_logits + 1.0).square().mean() + 0.5 * (demo_logits - 1.0).square().mean()


def style_reward(logits: Tensor) -> Tensor:
    """Return the reward of steps, 0 to 1: 1 - (logit - 1)² / 4, at least 0: equation 7."""
    return (1.0 - 0.25 * (logits - 1.0).square()).clamp_min(0.0)


def losses(agent_logits: Tensor, demo_logits: Tensor, demos: Tensor, weight: float) -> Losses:
    """Return the discriminator's loss with the gradient penalty: equation 8.

    Args:
        agent_logits: logits of the agents' steps, (n,).
        demo_logits: logits of steps of demonstrations, (n,).
        demos: these steps, (n, width), which require a gradient.
        weight: weight of the penalty.
    """
    (slope,) = torch.autograd.grad(demo_logits.sum(), demos, create_graph=True)
    penalty = slope.square().sum(dim=1).mean()
    return Losses(least_squares(agent_logits, demo_logits) + 0.5 * weight * penalty, penalty)


class Replay:
    """Steps of earlier rollouts: a ring on the device."""

    def __init__(self, size: int, width: int, device: torch.device) -> None:
        """Start empty."""
        self.steps = torch.zeros(size, width, device=device, dtype=torch.float32)
        self.count, self.next = 0, 0
        """How many steps there are, and where the next one goes."""

    def add(self, steps: Tensor) -> None:
        """Keep steps (n, width), at most as many as there is room for, in place of the oldest."""
        size, n = len(self.steps), len(steps)
        places = (self.next + torch.arange(n, device=steps.device, dtype=torch.int64)) % size
        self.steps.index_copy_(0, places, steps)
        self.count, self.next = min(size, self.count + n), (self.next + n) % size


class Style:
    """The discriminator of a learner, its data, and its optimizer; all on the learner's device."""

    def __init__(
        self, demos: Tensor, settings: StyleSettings, n_steps: int, n_envs: int, *, mirror: Reflection | None, seed: int
    ) -> None:
        """Draw the discriminator's weights.

        Args:
            demos: steps of demonstrations, (n, 2 × width), on the learner's device.
            settings: how it learns.
            n_steps: steps of a rollout.
            n_envs: environments.
            mirror: reflection of the features before and after a step; agents' steps are reflected as often as not, so
                that demonstrations should have their mirror images too; None: there is none.
            seed: seed of its weights and draws.
        """
        device, width = demos.device, demos.shape[1]
        self.settings, self.demos, self.mirror = settings, demos, mirror
        self.team: Team | None = None
        """The processes that train together; None: this one alone."""
        with single_precision(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.discriminator = Discriminator(width, settings.hidden_sizes).to(device)
        self.optimizer = torch.optim.Adam(
            self.discriminator.net.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self._generator = torch.Generator(device).manual_seed(seed)
        self._rollout = torch.zeros(n_steps, n_envs, width, device=device, dtype=torch.float32)
        self.replay = Replay(settings.replay_size, width, device)
        self._paid = torch.zeros(2, device=device, dtype=torch.float32)
        self.discriminator.normalizer.observe(as_changes(demos))

    def join(self, team: Team, seed: int) -> None:
        """Learn with other processes, from the leader's weights; `seed` is of what this process alone draws."""
        self.team = team
        team.same_weights(self.discriminator)
        self._generator.manual_seed(seed)

    def note(self, step: int, infos: Any) -> None:
        """Keep the features of a step of all environments, which the environment hands over.

        Raises:
            ValueError: it hands over none.
        """
        if FEATURES not in infos:
            raise ValueError("a style needs an environment with step_tensor, whose infos have `features`")
        self._rollout[step].copy_(infos[FEATURES])

    @torch.no_grad()
    def pay(self, rewards: Tensor) -> None:
        """Add the style's reward to those of a rollout, (n_steps, n_envs)."""
        logits = self.discriminator(self.discriminator.see(self._rollout.flatten(0, 1)))
        paid = style_reward(logits).nan_to_num(0.0)  # what is no number is worth nothing
        self._paid = torch.stack((paid.mean(), paid.std()))
        rewards.add_(paid.view_as(rewards), alpha=self.settings.weight)

    def learn(self, record: Callable[[str, float], None]) -> None:
        """Learn to tell the rollout's steps from demonstrations.

        Args:
            record: gets the values to log by name, read from the device in one go.
        """
        settings, rollout = self.settings, self._rollout.flatten(0, 1)
        guard = StepGuard(list(self.discriminator.net.parameters()), self.optimizer, rollout.device)
        allowed = torch.ones((), dtype=torch.bool, device=rollout.device)
        rows = []
        for _ in range(settings.updates):
            agents, demos = self._agents(rollout), self._draw(self.demos, settings.batch_size)
            rows.append(self._step(agents, demos, guard, allowed))
        self._observe(rollout)
        keep = min(len(rollout), max(1, settings.replay_size // REMEMBERED))
        self.replay.add(self._draw(rollout, keep))
        for name, value in zip(METRICS, torch.cat((torch.stack(rows).mean(0), self._paid)).tolist(), strict=True):
            record(name, value)

    def _step(self, agents: Tensor, demos: Tensor, guard: StepGuard, allowed: Tensor) -> Tensor:
        """Take one step on a minibatch; return its values to log, (6,)."""
        net = self.discriminator
        self.optimizer.zero_grad()
        seen = self._blurred(net.see(demos)).requires_grad_()
        agent_logits, demo_logits = net(self._blurred(net.see(agents))), net(seen)
        loss, penalty = losses(agent_logits, demo_logits, seen, self.settings.gradient_penalty)
        loss.backward()
        with torch.no_grad():
            shares = ((agent_logits < 0.0).float().mean(), (demo_logits > 0.0).float().mean())
            row = torch.stack((loss, *shares, agent_logits.mean(), demo_logits.mean(), penalty)).detach()
        if self.team is not None:
            row = self.team.average(net.net.parameters(), row)
        guard.step(row[0], MAX_GRAD_NORM, allowed)
        return row

    def _blurred(self, seen: Tensor) -> Tensor:
        """Return normalised features with noise."""
        if self.settings.noise == 0.0:
            return seen
        noise = torch.randn(seen.shape, generator=self._generator, device=seen.device, dtype=torch.float32)
        return torch.add(seen, noise, alpha=self.settings.noise)

    def _observe(self, rollout: Tensor) -> None:
        """Let the normaliser see as many steps of demonstrations as of the rollout."""
        both = torch.cat((rollout, self._draw(self.demos, len(rollout))))
        self.discriminator.normalizer.observe(as_changes(both), *([] if self.team is None else [self.team.merged]))

    def _agents(self, rollout: Tensor) -> Tensor:
        """Draw steps of agents: of this rollout, and half of them of earlier ones once there are any."""
        half = self.settings.batch_size // 2
        old = self.replay.steps[: self.replay.count] if self.replay.count else rollout
        agents = torch.cat((self._draw(rollout, half), self._draw(old, half)))
        if self.mirror is None:
            return agents
        draws = torch.rand(len(agents), 1, generator=self._generator, device=agents.device, dtype=torch.float32)
        return torch.where(draws < 0.5, self.mirror(agents), agents)

    def _draw(self, steps: Tensor, count: int) -> Tensor:
        places = torch.randint(len(steps), (count,), generator=self._generator, device=steps.device)
        return steps.index_select(0, places)

    def get_state(self) -> dict[str, Tensor]:
        """Return copies of everything that the discriminator's future depends on, between an update and a rollout."""
        moments = {
            f"optimizer.{place}.{name}": value.clone()
            for place, state in self.optimizer.state_dict()["state"].items()
            for name, value in state.items()
        }
        return {
            **{f"discriminator.{name}": value.clone() for name, value in self.discriminator.state_dict().items()},
            **moments,
            "replay": self.replay.steps[: self.replay.count].clone(),
            "replay_next": torch.tensor(self.replay.next, dtype=torch.int64),
            "generator": self._generator.get_state(),
        }

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from what `get_state` returned.

        Raises:
            KeyError, RuntimeError: it belongs to another discriminator.
        """
        if len(state["replay"]) > len(self.replay.steps) or state["replay"].shape[1:] != self.replay.steps.shape[1:]:
            raise RuntimeError("the replay is that of another discriminator")
        self.discriminator.load_state_dict(_part(state, "discriminator."))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _part(state, "optimizer.").items():
            place, _, kind = name.partition(".")
            moments.setdefault(int(place), {})[kind] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.replay.count, self.replay.next = len(state["replay"]), int(state["replay_next"])
        self.replay.steps[: self.replay.count].copy_(state["replay"])
        if state["generator"].shape == self._generator.get_state().shape:  # a GPU's draws are others
            self._generator.set_state(state["generator"].cpu())


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
