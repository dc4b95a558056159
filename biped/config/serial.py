"""Configurations to JSON and back; every value is checked against its field's type and rule."""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from biped.config.run import Config
from biped.config.section import as_config_error

SectionT = TypeVar("SectionT")

_BEFORE_GROUPS = {
    "env.observation.policy": "privileged",
    "env.observation.critic": "policy",
    "env.robot.foot_switches": True,
    "policy.velocity_head": False,
}
"""Values that reproduce version 0.10 and earlier, which had one observation for actor and critic."""


def to_dict(section: Any) -> dict[str, Any]:
    """Return a config as nested dictionaries of builtin types; tuples become lists, as in JSON."""
    return {item.name: _to_builtin(getattr(section, item.name)) for item in fields(section)}


def to_json(config: Config) -> str:
    """Return a config as indented JSON."""
    return json.dumps(to_dict(config), indent=2) + "\n"


def from_dict(values: Mapping[str, Any], kind: type[SectionT]) -> SectionT:
    """Make a section from nested dictionaries; missing fields get their defaults.

    Raises:
        ConfigError: a field is unknown, has the wrong type, or breaks its rule.
    """
    return _read(json.dumps(values), kind)


def from_json(text: str) -> Config:
    """Read a config that `to_json` wrote.

    Raises:
        ConfigError: the text is not JSON, or not a configuration.
    """
    return _read(text, Config)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a config.json, with the description of each field."""
    return TypeAdapter(Config).json_schema()


def differences(before: Config, after: Config) -> dict[str, tuple[Any, Any]]:
    """Return the fields that differ, by dotted path, with both values."""
    left, right = flatten(to_dict(before)), flatten(to_dict(after))
    paths = dict.fromkeys([*left, *right])
    return {path: (left.get(path), right.get(path)) for path in paths if left.get(path) != right.get(path)}


def flatten(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Flatten nested dictionaries into one, keyed by dotted paths."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat.update(flatten(value, f"{path}{name}.") if isinstance(value, Mapping) else {f"{path}{name}": value})
    return flat


def _read(text: str, kind: type[SectionT]) -> SectionT:
    try:
        return TypeAdapter(kind).validate_json(_modern(text) if kind is Config else text)
    except ValidationError as error:
        raise as_config_error(error, kind, is_whole=True) from error


def _modern(text: str) -> str:
    """Return an earlier version's whole configuration with its missing fields added; any other text unchanged."""
    try:
        values = json.loads(text)
        is_earlier = "lin_vel_scale" in values["env"]["observation"] and "policy" not in values["env"]["observation"]
    except (ValueError, TypeError, KeyError):  # pydantic reports what is wrong
        return text
    if not is_earlier:
        return text
    for path, value in _BEFORE_GROUPS.items():
        *parents, leaf = path.split(".")
        node = values
        for parent in parents:
            node = node.setdefault(parent, {})
        node.setdefault(leaf, value)
    return json.dumps(values)


def _to_builtin(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    return [_to_builtin(item) for item in value] if isinstance(value, tuple) else value
