"""Changes to single fields of the configuration, by dotted path."""

import ast
import contextlib
import json
import typing
from collections.abc import Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from biped.base.errors import ConfigError
from biped.base.shipped import as_stored
from biped.config.learning import PolicyConfig
from biped.config.randomization import RandomizationConfig
from biped.config.recipes import ABOUT, content_of, is_recipe
from biped.config.run import Config
from biped.config.scale import scale_of, scaled_randomization
from biped.config.section import fields_of, short, type_of
from biped.config.serial import flatten, from_dict, to_dict


def parse_setting(text: str) -> tuple[str, Any]:
    """Split `path.to.field=value` into its path and its value.

    Raises:
        ConfigError: there is no `=`, or one side of it is empty.
    """
    path, separator, value = text.partition("=")
    if not separator or not path.strip() or not value.strip():
        raise ConfigError(
            f"cannot read {short(text)}: write it as path.to.field=value, such as env.gait.frequency_hz=1.6"
        )
    parsed = _literal(value.strip())
    if isinstance(parsed, dict | set):
        raise ConfigError(f"{short(path.strip())} is {short(parsed)}: set one field at a time, as path.to.field=value")
    return path.strip(), parsed


def with_settings(config: Config, settings: Sequence[tuple[str, Any]]) -> Config:
    """Return a copy with fields changed by dotted path, all at once.

    Raises:
        ConfigError: a path does not exist, or a value has the wrong type or breaks its field's rule.
    """
    values = to_dict(config)
    for path, value in settings:
        *parents, leaf = path.split(".")
        node, kind = values, Config
        for depth, parent in enumerate(parents, start=1):
            if not isinstance(node.get(parent, {}), dict):
                raise ConfigError(f"there is no setting {path}: {'.'.join(parents[:depth])} is a value")
            node, kind = node.setdefault(parent, {}), type_of(kind, parent)
        if is_dataclass(hint := type_of(kind, leaf)):
            raise ConfigError(f"{path} is a group of settings: name one of {', '.join(fields_of(hint))}")
        node[leaf] = _as_text_where_text_belongs(value, hint)
    return from_dict(values, Config)


ROBOT_SECTIONS = ("robot", "termination", "reset", "reward", "gait", "control", "command", "sim", "randomization")
"""Sections of the environment that a robot's file may set."""
_OF_LEARNING = ("ppo.mirror", "policy.initial_std")
"""Settings of the learner that a robot's file may set: whether it is symmetric, and the noise that it is tried with."""


def robot_settings(file: Path | None, policy: PolicyConfig | None = None) -> list[tuple[str, Any]]:
    """Return the fields that a robot's file (`--robot`) sets, by path; an empty list without a file.

    The file is JSON: `{"robot": {...}, "termination": {...}, ...}`, sections of the environment with some of their
    fields, `"ppo": {"mirror": false}` for a robot that is not symmetric, and `"policy": {"initial_std": 0.4}`, the
    noise that it is tried with at first. `model_path` is relative to the file.
    `recipe:NAME=PATH` stands for a file of `biped.config.recipes`. The noise is kept within the bounds of the preset's
    `policy`, if one is given.

    Raises:
        ConfigError: the file cannot be read, or is not a robot's file, or there is no such recipe or model.
    """
    if file is None:
        return []
    if is_recipe(file):
        content = content_of(str(file))
    else:
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"the robot's file {file} cannot be read ({str(error).splitlines()[0]})") from error
    if isinstance(content, dict):
        content.pop(ABOUT, None)  # for people to read
    sections = ("ppo", "policy") if isinstance(content, dict) else ()
    learner = flatten({name: content.pop(name, {}) for name in sections})
    strange = [name for name in content if name not in ROBOT_SECTIONS] if isinstance(content, dict) else [content]
    if strange or not isinstance(content.get("robot"), dict) or set(learner) - set(_OF_LEARNING):
        raise ConfigError(
            f"the robot's file {file} must have a section robot, and may have {', '.join(ROBOT_SECTIONS[1:])}, "
            f"{' and '.join(_OF_LEARNING)}"
        )
    model = content["robot"].get("model_path")
    if isinstance(model, str):
        content["robot"]["model_path"] = as_stored(file.parent / expanded(model))
    if policy is not None and isinstance(noise := learner.get("policy.initial_std"), int | float):
        learner["policy.initial_std"] = min(max(noise, policy.min_std), policy.max_std)
    return [*as_settings(content), *learner.items()]


def as_settings(content: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the sections of a robot's file as settings by path; what maps names to numbers stays one setting."""
    robot = dict(content["robot"])
    held = robot.pop("held_joints", None)
    settings = flatten({**content, "robot": robot}, "env.")
    return [*settings.items(), *([] if held is None else [("env.robot.held_joints", held)])]


def expanded(path: str) -> Path:
    """Return a path with `~` as the home directory; unchanged if there is no such home directory."""
    with contextlib.suppress(RuntimeError):
        return Path(path).expanduser()
    return Path(path)


def randomization_settings(randomization: RandomizationConfig) -> list[tuple[str, Any]]:
    """Return all fields of a randomisation, by path."""
    return list(flatten(to_dict(randomization), "env.randomization.").items())


def sized_randomization(
    config: Config, settings: Sequence[tuple[str, Any]], randomization: RandomizationConfig
) -> list[tuple[str, Any]]:
    """Return all fields, by path, of a randomisation of the biped as one of the robot that a configuration will have.

    Args:
        config: the configuration.
        settings: fields of it that will be changed.
        randomization: the biped's.

    Raises:
        ConfigError: a setting does not exist, or its value is invalid.
    """
    robot = with_settings(config, settings).env.robot
    return randomization_settings(scaled_randomization(randomization, scale_of(robot)))


def _as_text_where_text_belongs(value: Any, hint: Any) -> Any:
    """Return 3 as "3" for a text field, because a name of digits reaches us without its quotes."""
    if isinstance(value, tuple | list) and typing.get_origin(hint) is tuple:
        return [_as_text_where_text_belongs(item, typing.get_args(hint)[0]) for item in value]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if hint is str and is_number else value


def _literal(text: str) -> Any:
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
