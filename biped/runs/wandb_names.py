"""A run's names and folder in W&B: flags override environment variables, and these override defaults.

Names that W&B would reject are rejected here, before anything is built. wandb is imported only when needed.
"""

import argparse
import difflib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from biped.base.errors import UsageError, first_line, warn
from biped.config.run import Config, WandbConfig
from biped.config.section import short

DEFAULT_PROJECT = "biped-rl-sb3"
"""The project of a run for which none is given."""
MODES = ("online", "offline", "disabled")
"""Values of `--wandb_mode`."""

_SETTING = {
    "project": "project",
    "entity": "entity",
    "run_name": "run_name",
    "group": "run_group",
    "tags": "run_tags",
    "notes": "run_notes",
}
"""Fields of `WandbConfig` that config.json stores, and the corresponding settings of wandb."""
_VARIABLES = {
    "WANDB_PROJECT": "project",
    "WANDB_ENTITY": "entity",
    "WANDB_NAME": "run_name",
    "WANDB_RUN_GROUP": "run_group",
    "WANDB_TAGS": "run_tags",
    "WANDB_NOTES": "run_notes",
    "WANDB_RUN_ID": "run_id",
    "WANDB_JOB_TYPE": "run_job_type",
}
"""Variables whose text is checked here; wandb checks the others."""


@dataclass(frozen=True)
class _Rule:
    """Rule for a valid name in W&B."""

    kind: str
    longest: int
    forbidden: str = ""

    def refuses(self, name: str) -> bool:
        is_long = not 1 <= len(name) <= self.longest
        return is_long or not name.isprintable() or any(letter in name for letter in self.forbidden)

    def __str__(self) -> str:
        without = f", none of them {' '.join(self.forbidden)}" if self.forbidden else ""
        return f"{self.kind} has 1 to {self.longest} printable characters{without}"


_RULES = {
    "project": _Rule("a project", 128, "/\\#?%:"),
    "entity": _Rule("a user or team", 128, "/\\#?%:"),
    "run_id": _Rule("a run's id", 64, "/\\#?%:;,'"),
    "run_name": _Rule("a run's name", 128),
    "run_group": _Rule("a group", 128),
    "run_job_type": _Rule("a job type", 64),
    "run_tags": _Rule("a tag", 64),
}
"""Rules by wandb's setting: the limits of its client, documentation and server."""
_ARTIFACT_LENGTH = 128
_ALERT_LENGTH = 63


@dataclass(frozen=True)
class Said:
    """The value of an environment variable."""

    variable: str
    """Name of the variable."""
    value: Any
    """The setting that wandb derives from its text."""


def mode_word(text: str) -> str:
    """Read a mode, in lower or upper case.

    Raises:
        argparse.ArgumentTypeError: it is not a mode.
    """
    if text.lower() not in MODES:
        raise argparse.ArgumentTypeError(_no_mode(text))
    return text.lower()


def variables() -> dict[str, Said]:
    """Return the values of WANDB_* variables, by the names of wandb's settings; empty if wandb cannot be imported.

    Empty variables are removed, and a mode in upper case is changed to lower case in the environment, because wandb
    reads it too and would reject both.

    Raises:
        UsageError: W&B would reject a variable's value.
    """
    try:
        import wandb
    except ImportError:
        return {}
    said: dict[str, Said] = {}
    for variable in sorted(name for name in os.environ if name.startswith("WANDB_")):
        if not os.environ[variable].strip():
            del os.environ[variable]
            continue
        if variable == "WANDB_MODE":
            os.environ[variable] = os.environ[variable].strip().lower()
        text = os.environ[variable]
        setting = _VARIABLES.get(variable, "")
        _check(variable, setting, text.split(",") if setting == "run_tags" else text)
        settings = wandb.Settings()
        try:
            settings.update_from_env_vars({variable: text})
        except Exception as error:  # each check of wandb raises its own type
            why = _no_mode(text) if variable == "WANDB_MODE" else cause(error)
            raise UsageError(f"{variable} is refused by W&B ({why}): correct it, or unset it") from error
        said |= {name: Said(variable, getattr(settings, name)) for name in settings.model_fields_set}
    _check_together(said)
    return said


def in_sweep(said: Mapping[str, Said]) -> bool:
    """Return whether an agent of a W&B sweep, or W&B Launch, started this process: it assigns ids and projects."""
    return "sweep_id" in said or "launch" in said


def folder_said(said: Mapping[str, Said]) -> Path | None:
    """Return the folder in WANDB_DIR; None if a sweep agent only set it to its own working directory."""
    folder = said.get("root_dir")
    if folder is None or (in_sweep(said) and Path(folder.value).absolute() == Path.cwd()):
        return None
    return Path(folder.value)


def with_variables(cfg: WandbConfig) -> WandbConfig:
    """Return a configuration completed from variables, W&B's settings files, or the default project.

    Values already in `cfg` are kept. The mode is not changed, because each process has its own.

    Raises:
        UsageError: W&B would reject a name, or another variable.
    """
    for field, setting in _SETTING.items():
        if _is_said(getattr(cfg, field)):
            _check(f"--wandb_{field}", setting, getattr(cfg, field))
    said = variables()
    elsewhere = {**_settings_files(), **{setting: found.value for setting, found in said.items()}}
    unsaid = {field: setting for field, setting in _SETTING.items() if not _is_said(getattr(cfg, field))}
    cfg = replace(cfg, **{field: elsewhere[setting] for field, setting in unsaid.items() if setting in elsewhere})
    return cfg if cfg.project or in_sweep(said) else replace(cfg, project=DEFAULT_PROJECT)


def named(config: Config, recorded: Config | None = None) -> Config:
    """Return the configuration with its W&B names; a resumed run keeps its names, whatever the variables say.

    Variables that are ignored for this reason are reported in one line.

    Args:
        config: the configuration from presets and flags.
        recorded: the configuration stored by an earlier process of this run.

    Raises:
        UsageError: W&B would reject a name, or another variable.
    """
    if not config.wandb.enabled:
        return config
    cfg, said = with_variables(config.wandb), variables()
    passed_over = [] if recorded is None else _passed_over(recorded.wandb, cfg, said)
    if passed_over:
        warn(f"{' and '.join(passed_over)}: ignored, because the run already has other names; --wandb_... changes them")
    if "resume" in said and said["resume"].value != "allow":
        warn(f"WANDB_RESUME={said['resume'].value} is ignored: --continue_training decides which run continues")
    return replace(config, wandb=cfg)


def artifact_name(exp_name: str, kind: str) -> str:
    """Return the name of a run's models of a kind: <exp_name>-<kind>, shortened with a hash if it is too long."""
    longest = _ARTIFACT_LENGTH - len("-checkpoint")
    if len(exp_name) > longest:
        exp_name = f"{exp_name[: longest - 9]}-{hashlib.blake2s(exp_name.encode(), digest_size=4).hexdigest()}"
    return f"{exp_name}-{kind}"


def alert_title(title: str) -> str:
    """Return a title of valid length; of a long one, beginning and end are kept."""
    half = _ALERT_LENGTH // 2
    return title if len(title) <= _ALERT_LENGTH else f"{title[:half]}…{title[-half:]}"


def cause(error: BaseException) -> str:
    """Return wandb's reason in one line; the first line of pydantic's errors does not contain it."""
    details = getattr(error, "errors", None)
    found = details() if callable(details) else None
    if isinstance(found, list) and found:
        return "; ".join(" ".join(str(item["msg"]).split()) for item in found)
    return first_line(error)


def _check(source: str, setting: str, value: Any) -> None:
    rule = _RULES.get(setting)
    for name in value if isinstance(value, list | tuple) else (value,):
        if rule is not None and rule.refuses(name):
            raise UsageError(f"{source}: {short(name)} is refused by W&B: {rule}")
        if not _is_text(name):
            raise UsageError(f"{source}: {short(name)} is no text: write it in UTF-8")


def _is_said(value: Any) -> bool:
    return value is not None and value != ()


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes in another encoding
        return False
    return True


def _no_mode(text: str) -> str:
    close = difflib.get_close_matches(text.lower(), MODES, n=1)
    return f"{short(text)} is no mode: " + (f"did you mean {close[0]}?" if close else f"use {', '.join(MODES)}")


def _check_together(said: Mapping[str, Said]) -> None:
    for setting in ("resume_from", "fork_from"):
        if setting in said:
            raise UsageError(f"{said[setting].variable} does not go together with resuming by a run's id: unset it")
    folder = folder_said(said)
    if folder is not None:
        exists = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        if not exists.is_dir() or not os.access(exists, os.R_OK | os.W_OK | os.X_OK):
            raise UsageError(f"WANDB_DIR is {short(str(folder))}, which cannot be written: name another, or unset it")


def _settings_files() -> dict[str, str]:
    """Return the names in W&B's settings files, as written by `wandb init`, by the names of wandb's settings."""
    try:
        import wandb
    except ImportError:
        return {}
    settings = wandb.Settings()
    folder = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
    settings.settings_system = str(folder / "settings")
    found = {name: text for name, text in settings.read_system_settings().all().items() if text}
    for name in ("project", "entity"):
        if name in found:
            _check(f"{name} in W&B's settings file", name, found[name])
    return {name: found[name] for name in ("project", "entity") if name in found}


def _passed_over(recorded: WandbConfig, cfg: WandbConfig, said: Mapping[str, Said]) -> list[str]:
    """Return the variables that are overridden by the names of an earlier process."""
    fields = {**_SETTING, "mode": "mode"}
    return [
        f"{said[setting].variable}={short(said[setting].value)}"
        for field, setting in fields.items()
        if setting in said
        and _is_said(getattr(recorded, field))
        and getattr(cfg, field) == getattr(recorded, field) != said[setting].value
    ]
