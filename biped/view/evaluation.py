"""One evaluation, from the request to its outputs: table, results, picture, video and page."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from biped.base.command_line import FILMS, PICTURES
from biped.base.errors import MachineError, UsageError, disk_error, warn
from biped.base.machine import choose_device
from biped.base.packages import require
from biped.config.randomization import RandomizationConfig
from biped.config.run import Config, Presets
from biped.config.scale import scale_of, size_warning
from biped.config.settings import parse_setting, sized_randomization, with_settings
from biped.env.env import BipedEnv, make_env
from biped.eval import robustness
from biped.eval.agents import Agent, LoadAgent, random_agent, zero_agent
from biped.eval.bench import Evaluation
from biped.eval.episodes import record_episodes, trial_commands
from biped.eval.figures import walking_from
from biped.eval.gate import as_json, as_table
from biped.eval.recording import Recording
from biped.runs.directory import RunDirectory
from biped.runs.models import find_model, find_run
from biped.runs.results import Place, sha256_of, write_json
from biped.view.clip_plots import draw_beside_clip
from biped.view.film import choose_episodes, cut, film
from biped.view.page import Subject, write_report
from biped.view.plots import draw_all, draw_robustness

EPISODES, EPISODES_PER_LEVEL = 256, 32
"""Episodes of the gate, and per level of a robustness report."""
BESIDE_THE_FIGURES = Path()
"""Stands for a page without a requested path, written beside the results."""


@dataclass(frozen=True)
class EvalRequest:
    """A request for an evaluation."""

    logs: Path
    """The folder of all runs."""
    exp_name: str
    """Name of the run, if no model is given."""
    model: Path | str | None = None
    """A checkpoint, with its config.json in the same folder, or the address of a shared policy."""
    is_named: bool = False
    """Whether the run or the checkpoint was named: an agent without a model then moves the robot of that run."""
    agent: str = "policy"
    """The agent: policy, zero or random."""
    episodes: int | None = None
    """Number of parallel episodes; None: the standard evaluation's number."""
    command: tuple[float, float, float] | None = None
    """One command for all episodes, m/s, m/s, rad/s; None: commands spread over the trained ranges."""
    settings: tuple[str, ...] = ()
    """Changed fields of the environment, as PATH=VALUE."""
    randomize: str = "none"
    """Name of the randomisation."""
    randomization: RandomizationConfig = field(default_factory=RandomizationConfig)
    """The randomisation of that name."""
    full_randomization: RandomizationConfig = field(default_factory=RandomizationConfig)
    """The randomisation whose noise a robustness report multiplies."""
    sim: str = "genesis"
    """The simulator."""
    device: str = "auto"
    """The device to simulate on."""
    seed: int = 0
    """Seed of starts and commands."""
    out: Path | None = None
    """Path of the results; None: among the run's own."""
    picture: Path | None = None
    """Path for a picture of the first robot at the end."""
    video: Path | None = None
    """Path for a video of some of the episodes."""
    video_robots: int = 4
    """Number of robots in the video."""
    video_seconds: float = 20.0
    """Largest length of the video (s)."""
    report: Path | None = None
    """Path for a page with all results; `BESIDE_THE_FIGURES` for the default place."""


@dataclass(frozen=True)
class EvalPlan:
    """The model to evaluate, the settings, and the place of the results."""

    request: EvalRequest
    """The request."""
    config: Config
    """The configuration of the evaluation."""
    model: Path | None
    """The checkpoint; None for an agent without one."""
    run: RunDirectory | None
    """The checkpoint's folder."""
    episodes: int
    """Number of parallel episodes, or of episodes per level."""
    standard_episodes: int
    """The standard evaluation's number of episodes."""

    @classmethod
    def of(cls, request: EvalRequest, default: Config, standard_episodes: int) -> "EvalPlan":
        """Find the model and its configuration; by default without randomisation, whatever the training used.

        Args:
            request: the request.
            default: the configuration of an agent without a model, where no run is named.
            standard_episodes: the standard evaluation's number of episodes.

        Raises:
            ConfigError: a setting does not exist, or its value is invalid.
            UsageError: there is no such model, or the options contradict each other.
            MachineError: a shared policy cannot be fetched, or a package is missing that an output needs.
        """
        settings = _checked(request)
        model, run, config = None, None, default
        if request.agent == "policy":
            model, run = find_model(request.model, request.logs, request.exp_name)
            config = run.read_config()
        elif request.is_named:
            config = find_run(request.model, request.logs, request.exp_name).read_config()
        where = [("train.device", request.device), ("train.sim", request.sim)]
        sized = sized_randomization(config, settings, request.randomization)
        config = with_settings(config, [*sized, *settings, *where])
        return cls(request, config, model, run, request.episodes or standard_episodes, standard_episodes)

    @property
    def asked(self) -> dict[str, Any]:
        """The settings that identify a result, as stored in it."""
        request, model = self.request, self.model
        return {
            "model": model and str(model),
            "model_sha256": model and sha256_of(model),
            "agent": request.agent,
            "sim": request.sim,
            "randomize": request.randomize,
            "seed": request.seed,
            "episodes": self.episodes,
            "command": None if request.command is None else list(request.command),
            "set": list(request.settings),
        }

    @property
    def place(self) -> Place | None:
        """Default place of the results; None without a model."""
        if self.model is None:
            return None
        place = Place.of(self.model, self.request.logs, by_name=self.request.model is not None)
        return place.judged(self.asked, self.standard_episodes)

    def agent(self, env: BipedEnv, load: LoadAgent) -> Agent:
        """Return the agent.

        Raises:
            UsageError: the checkpoint is damaged or belongs to another network.
        """
        if self.model is not None:
            return load(self.config, env, self.model)
        return zero_agent(env) if self.request.agent == "zero" else random_agent(env, self.request.seed)


def evaluate(request: EvalRequest, default: Config, presets: Presets, load: LoadAgent) -> Evaluation:
    """Evaluate a policy with the walking gate, and write all requested outputs.

    Raises:
        ConfigError: a setting is invalid, or hardly any command asks for motion.
        UsageError: there is no such model.
        MachineError: this machine, its disk or its packages prevent it.
    """
    plan = EvalPlan.of(request, default, EPISODES)
    cfg, place = replace(plan.config.env, num_envs=plan.episodes), plan.place
    device = choose_device(request.device, request.sim)
    env = make_env(cfg, device, sim=request.sim, camera=request.picture is not None)
    if text := size_warning(cfg, env.scene.mass_kg):
        warn(text)
    commands = trial_commands(cfg.num_envs, cfg.command, request.seed, walking_from(cfg.robot))
    if request.command is not None:
        commands = torch.tensor(request.command, dtype=torch.float32).expand(cfg.num_envs, 3)
    record = record_episodes(env, plan.agent(env, load), commands, request.seed)
    result = Evaluation.of(record, cfg.robot)
    print(as_table(result.verdict))
    figures = {**plan.asked, **_as_json(result)}
    _write_figures(plan, "eval.json", figures, place, others=("report.html", "report"))
    if request.picture is not None:
        try:
            Image.fromarray(env.scene.render()).save(request.picture)
        except OSError as error:
            raise disk_error(request.picture, error, "--picture") from error
    env.close()
    shown = cut(record.episodes(choose_episodes(record, request.video_robots)), request.video_seconds)
    if request.report is not None and plan.run is not None and place is not None:
        subject = Subject.of(plan.run, figures, place.robustness_reports(plan.run.path))
        _write_page(subject, record, shown, _page(request, place), presets)
    if request.video is not None:
        film(shown, plan.config, request.video)
    return result


def report_robustness(request: EvalRequest, default: Config, load: LoadAgent) -> None:
    """Vary the robot and its ground, one property at a time; write a table, robustness.json and robustness.png.

    Raises:
        ConfigError, UsageError, MachineError: see `evaluate`.
    """
    others = (request.command, request.picture, request.video)
    if any(other is not None for other in others) or request.randomize != "none":
        names = "--command, --picture, --video and --randomize"
        raise UsageError(f"--robustness varies one thing at a time: leave out {names}")
    if varied := [text for text in request.settings if text.startswith("env.randomization")]:
        raise UsageError(f"--robustness sets the randomization itself: leave out {varied[0].partition('=')[0]}")
    require("matplotlib", "--robustness")
    plan = EvalPlan.of(request, default, EPISODES_PER_LEVEL)
    episodes, place = plan.episodes, plan.place
    axes = robustness.scaled_axes(scale_of(plan.config.env.robot))
    cfg = robustness.robustness_config(plan.config.env, episodes, axes)
    env = make_env(cfg, choose_device(request.device, request.sim), sim=request.sim)
    if text := size_warning(cfg, env.scene.mass_kg):
        warn(text)
    noise = request.full_randomization.noise
    found = robustness.run_robustness(env, plan.agent(env, load), episodes, request.seed, noise, axes)
    print(robustness.as_table(found))
    result = {**plan.asked, **robustness.as_json(found)}
    out = _write_figures(plan, "robustness.json", result, place, others=("robustness.png",))
    if out is not None:
        try:
            draw_robustness(found, f"{plan.model or request.agent} in {request.sim}", out.with_suffix(".png"))
        except OSError as error:
            raise disk_error(error.filename or "the plot", error, "--out") from error
    env.close()


def require_page(file: Path | None) -> None:
    """Check that a page can be written, before anything is computed.

    Raises:
        UsageError: it cannot be written.
    """
    if file is not None and file != BESIDE_THE_FIGURES and (file.suffix != ".html" or not file.parent.is_dir()):
        raise UsageError(f"--report: {file} is not an .html file in a folder that exists")


def _checked(request: EvalRequest) -> list[tuple[str, Any]]:
    """Check that the options fit together, and return the settings by path."""
    for flag, file, endings in (("--picture", request.picture, PICTURES), ("--video", request.video, FILMS)):
        if file is not None and (file.suffix not in endings or not file.parent.is_dir()):
            raise UsageError(f"{flag}: {file} is not a file in a folder that exists, ending in {endings}")
    if request.report is not None and request.agent != "policy":
        raise UsageError("--report is of a run's policy in the gate: leave out --agent and --robustness")
    require_page(request.report)
    if request.video is not None:
        require("imageio_ffmpeg", "--video")
    if request.report is not None:
        require("matplotlib", "--report")
    if not 0 < request.video_seconds < math.inf:
        raise UsageError(f"--video_seconds: {request.video_seconds} is not a duration")
    if request.out is not None and not request.out.parent.is_dir():
        raise UsageError(f"--out: there is no folder {request.out.parent}")
    if request.out is not None and request.out.is_dir():
        raise UsageError(f"--out: {request.out} is a folder: name a file")
    if request.command is not None and not all(map(math.isfinite, request.command)):
        raise UsageError(f"--command: {list(request.command)} are not three finite numbers")
    settings = [parse_setting(text) for text in request.settings]
    if strange := [path for path, _ in settings if not path.startswith("env.") or path == "env.num_envs"]:
        raise UsageError(
            f"--set: an evaluation changes env.* only, and its robots by --episodes: leave out {strange[0]}"
        )
    return settings


def _write_figures(
    plan: EvalPlan, name: str, figures: Mapping[str, Any], place: Place | None, others: Sequence[str]
) -> Path | None:
    """Write results to `--out` or their default place, and print the path; return it, or None if there is no place."""
    out = plan.request.out
    if out is None and place is None:
        return None
    try:
        if out is not None:
            write_json(out, figures)
        elif place is not None:
            out = place.write(name, figures, plan.asked, others)
    except OSError as error:
        raise disk_error(error.filename or "the figures", error, "--out") from error
    print(f"figures: {out}", flush=True)
    return out


def _page(request: EvalRequest, place: Place) -> Path:
    """Return the path of the page: the requested one, or beside the results."""
    if request.report is not None and request.report != BESIDE_THE_FIGURES:
        return request.report
    return (
        place.file("report.html") if request.out is None else request.out.with_name(f"{request.out.stem}_report.html")
    )


def _write_page(subject: Subject, record: Recording, shown: Recording, out: Path, presets: Presets) -> None:
    """Write a run's page, and beside it a folder of the same name with the pictures and the video."""
    folder, missing = out.with_suffix(""), ""
    video: Path | None = folder / "walk.mp4"
    try:
        folder.mkdir(exist_ok=True)
        plots = draw_all(record, subject.config.env, folder) | draw_beside_clip(record, subject.config, folder)
        try:
            film(shown, subject.config, video, flag="--report")
        except MachineError as error:
            warn(f"the report has no film: {error}")
            video, missing = None, str(error)
    except OSError as error:
        raise disk_error(error.filename or folder, error, "--report") from error
    write_report([subject], out, plots=plots, video=video, video_missing=missing, presets=presets)
    print(f"report: {out}", flush=True)


def _as_json(result: Evaluation) -> dict[str, Any]:
    trials = result.trials
    counted = {**asdict(trials), "success_rate": trials.success_rate, "fail_trials": trials.fail_trials}
    if not trials.success_trials:
        counted["success_precision"] = None  # JSON has no NaN
    return {**as_json(result.verdict), "trials": counted}
