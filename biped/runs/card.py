"""The model card of a shared policy: what it is, how it was judged, how to use it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from biped.config.run import Config
from biped.runs.hub import card_with
from biped.runs.manifest import MODEL, POLICY

SOURCE = "Stable-Baselines3, sb3-contrib"
"""The libraries whose checkpoint it is."""
_TAGS = ["reinforcement-learning", "deep-reinforcement-learning", "stable-baselines3", "sb3-contrib", "robotics"]
_OWN_TAGS = ["biped-walking", "bipedal-locomotion", "recurrent-ppo"]


@dataclass(frozen=True)
class Shown:
    """What a card is made from."""

    name: str
    """Name of the policy."""
    address: str
    """Where it will be, as `--model` names it."""
    config: Config
    """Its configuration."""
    steps: int
    """Environment steps of its training."""
    evaluation: Mapping[str, Any] | None = None
    """Content of eval.json."""
    robustness: Mapping[str, Any] | None = None
    """Content of robustness.json."""
    film: str | None = None
    """Name of the film."""
    is_exported: bool = False
    """Whether the exported policy belongs to it."""
    robot: str = ""
    """A sentence on the robot."""
    license: str | None = None
    """Identifier of a licence."""


def make_card(shown: Shown) -> str:
    """Return the card: YAML with a `model-index`, and Markdown.

    Raises:
        MachineError: huggingface_hub is not installed.
    """
    header: dict[str, Any] = {"library_name": "stable-baselines3", "tags": [*_TAGS, *_OWN_TAGS]}
    if shown.license is not None:
        header["license"] = shown.license
    return card_with(header, _text(shown), shown.name, _metrics(shown.evaluation))


def _metrics(evaluation: Mapping[str, Any] | None) -> dict[str, tuple[str, float]]:
    """Return the measured figures with their meaning, the gate's score first."""
    if evaluation is None:
        return {}
    found = {"gate_score": ("score in the walking gate", float(evaluation["score"]))}
    for name, line in evaluation["lines"].items():
        if line["value"] is not None:
            unit = "" if line["unit"] == "1" else f" ({line['unit']})"
            found[name] = (f"{name.replace('_', ' ')}{unit}", round(float(line["value"]), 4))
    return found


def _text(shown: Shown) -> str:
    parts = [
        f"# {shown.name}",
        _summary(shown),
        f"![It walks]({shown.film})" if shown.film and shown.film.endswith(".gif") else _video(shown.film),
        f"## Use\n\n{_use(shown)}",
        f"## Walking gate\n\n{_gate(shown.evaluation)}",
        "" if shown.robustness is None else f"## Robustness\n\n{_robustness(shown.robustness)}",
        f"## Training\n\n{_training(shown.config, shown.steps)}",
        f"## Robot\n\n{shown.robot}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _summary(shown: Shown) -> str:
    robot = shown.config.env.robot
    return (
        f"A policy that walks, for a robot with {len(robot.joint_names)} driven joints, {robot.mass_kg:g} kg, "
        f"trained for {shown.steps:,} steps with recurrent PPO. It is a checkpoint of {SOURCE}, made by biped-walking."
    )


def _video(film: str | None) -> str:
    return f'<video src="{film}" controls autoplay loop muted></video>' if film else ""


def _use(shown: Shown) -> str:
    lines = [
        "```bash",
        f"python biped_eval.py --model {shown.address} --sim mujoco        # judge it",
        f"python biped_eval.py --model {shown.address} --web               # watch and steer it",
        f"python biped_train.py --load_model {shown.address} -e mine       # learn on from it",
        *([f"python biped_run.py {shown.address} --simulate   # as on a robot"] if shown.is_exported else []),
        "```",
        "",
        f"These commands check every file against `manifest.json`, and unpickle nothing. `RecurrentPPO.load` opens "
        f"`{MODEL}` too, but unpickles parts of it: do that only with files whose maker you trust.",
    ]
    if not shown.is_exported:
        lines.append(f"It has no `{POLICY}`: `python biped_export.py --model {shown.address}` makes one.")
    return "\n".join(lines)


def _gate(evaluation: Mapping[str, Any] | None) -> str:
    if evaluation is None:
        return "Not judged."
    failed = [name for name, line in evaluation["lines"].items() if not line["passed"]]
    verdict = "It passes" if evaluation["passed"] else f"It **fails** in {len(failed)} of the lines"
    rows = ["| figure | value | bar | episodes | |", "|---|---|---|---|---|"]
    for name, line in evaluation["lines"].items():
        value = "—" if line["value"] is None else f"{line['value']:.4f}"
        unit = "" if line["unit"] == "1" else f" {line['unit']}"
        mark = "" if line["passed"] else "**failed**"
        rows.append(f"| `{name}` | {value}{unit} | {_bar(line)} | {line['episodes']} | {mark} |")
    where = f"{evaluation['episodes']} episodes in {evaluation['sim']}, seed {evaluation['seed']}"
    return f"{verdict} (score {evaluation['score']:.3f}; {where}).\n\n" + "\n".join(rows)


def _bar(line: Mapping[str, Any]) -> str:
    low, high = line["low"], line["high"]
    if low is None and high is None:
        return "reported"
    if low is None or high is None:
        return f"at most {high:g}" if low is None else f"at least {low:g}"
    return f"{low:g} to {high:g}"


def _robustness(robustness: Mapping[str, Any]) -> str:
    rows = ["| what varies | levels | share that stays up |", "|---|---|---|"]
    for name, axis in robustness["axes"].items():
        levels = ", ".join(f"{level:g}" for level in axis["levels"])
        survival = ", ".join("—" if share is None else f"{share:.2f}" for share in axis["survival"])
        rows.append(f"| {name.replace('_', ' ')} ({axis['unit']}) | {levels} | {survival} |")
    where = f"{robustness['episodes']} episodes per level in {robustness['sim']}, seed {robustness['seed']}"
    return f"One property varies at a time ({where}).\n\n" + "\n".join(rows)


def _training(config: Config, steps: int) -> str:
    policy, ppo, train = config.policy, config.ppo, config.train
    memory = f"LSTM {policy.lstm_layers} × {policy.lstm_hidden_size}" if policy.memory else "no memory"
    rows = {
        "preset": config.preset,
        "steps": f"{steps:,}",
        "simulator": train.sim,
        "environments": f"{config.env.num_envs}",
        "seed": f"{train.seed}",
        "network": f"MLP {'-'.join(map(str, policy.hidden_sizes))}, {memory}",
        "rollout": f"{ppo.n_steps} steps, {ppo.n_epochs} epochs of {ppo.n_minibatches} minibatches",
        "learning rate": f"{ppo.learning_rate:g}" + (", adapted to the KL divergence" if ppo.adaptive_lr else ""),
        "discount, GAE λ": f"{ppo.gamma:g}, {ppo.gae_lambda:g}",
        "observed": ", ".join(f"`{term}`" for term in config.env.observation.policy),
        "control": f"{1 / config.env.sim.control_dt_s:.0f} Hz",
    }
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]
    return "\n".join(lines) + "\n\nAll settings are in `config.json`."
