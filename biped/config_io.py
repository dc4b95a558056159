"""Configurations as JSON, and single fields changed by their path; every value is checked against its field's type."""

import ast
import contextlib
import difflib
import json
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from biped.errors import first_line
from biped_config import Config, ConfigError, randomization_preset, short

SectionT = TypeVar("SectionT")


def to_dict(section: Any) -> dict[str, Any]:
    """Return a config as nested dictionaries of builtin types; tuples become lists, as in JSON."""
    return {item.name: _to_builtin(getattr(section, item.name)) for item in fields(section)}


def to_json(config: Config) -> str:
    """Return a config as indented JSON."""
    return json.dumps(to_dict(config), indent=2) + "\n"


def from_dict(values: Mapping[str, Any], kind: type[SectionT], path: str = "") -> SectionT:
    """Make a config from nested dictionaries; fields that are missing keep their defaults.

    Raises:
        ConfigError: a field is unknown, of another type, or breaks its rule.
    """
    hints = typing.get_type_hints(kind)
    changes = {}
    for name, value in values.items():
        where = f"{path}{name}"
        if name not in hints:
            raise ConfigError(f"there is no setting {where}{_suggestion(name, hints)}")
        changes[name] = _convert(value, hints[name], where)
    return kind(**changes)


def from_json(text: str) -> Config:
    """Read a config that `to_json` wrote.

    Raises:
        ConfigError: it is not JSON, or not a config.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"not JSON: {first_line(error)}") from error
    if not isinstance(values, dict):
        raise ConfigError("not a configuration: expected an object")
    return from_dict(values, Config)


def parse_setting(text: str) -> tuple[str, Any]:
    """Split `path.to.field=value` into its path and its value.

    Raises:
        ConfigError: there is no `=`, or nothing on one side of it.
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
    """Return a copy with fields changed by their dotted paths, all at once.

    Raises:
        ConfigError: a path leads nowhere, a value is of another type or breaks its field's rule.
    """
    tree: dict[str, Any] = {}
    for path, value in settings:
        *parents, leaf = path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ConfigError(f"there is no setting {path}: {parent} is a value")
        node[leaf] = value
    return _replaced(config, tree, "")


def differences(before: Config, after: Config) -> dict[str, tuple[Any, Any]]:
    """Return the fields that differ, by their dotted paths, with both values."""
    left, right = flatten(to_dict(before)), flatten(to_dict(after))
    return {path: (left[path], right[path]) for path in left if left[path] != right[path]}


def flatten(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Return nested dictionaries as one, by dotted paths."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat.update(flatten(value, f"{path}{name}.") if isinstance(value, Mapping) else {f"{path}{name}": value})
    return flat


ROBOT_SECTIONS = ("robot", "termination", "reward", "gait", "control")
"""Sections of the environment that a robot's file may set."""


def robot_settings(file: Path | None) -> list[tuple[str, Any]]:
    """Return the fields that a robot's file (`--robot`) sets, by path; none where it is not given.

    The file is JSON: `{"robot": {...}, "termination": {...}, ...}`, sections of the environment with some of their
    fields. `model_path` is relative to the file.

    Raises:
        ConfigError: the file cannot be read, or is no such file.
    """
    if file is None:
        return []
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"the robot's file {file} cannot be read ({str(error).splitlines()[0]})") from error
    strange = [name for name in content if name not in ROBOT_SECTIONS] if isinstance(content, dict) else [content]
    if strange or not isinstance(content.get("robot"), dict):
        raise ConfigError(
            f"the robot's file {file} must have a section robot, and may have {', '.join(ROBOT_SECTIONS[1:])}"
        )
    model = content["robot"].get("model_path")
    if isinstance(model, str):
        content["robot"]["model_path"] = _from_repository(file.parent / expanded(model))
    return list(flatten(content, "env.").items())


def expanded(path: str) -> Path:
    """Return a path with `~` as the home directory; as it is where nobody has such a home."""
    with contextlib.suppress(RuntimeError):
        return Path(path).expanduser()
    return Path(path)


def _from_repository(path: Path) -> str:
    """Return a path as the configuration has it: relative to the repository where it lies in it."""
    path, root = path.resolve(), Path(__file__).resolve().parents[1]
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def randomization_settings(name: str | None) -> list[tuple[str, Any]]:
    """Return the fields that `--randomize` sets, by path; none where it is not given."""
    if name is None:
        return []
    return list(flatten(to_dict(randomization_preset(name)), "env.randomization.").items())


def _replaced(section: Any, tree: Mapping[str, Any], path: str) -> Any:
    hints = typing.get_type_hints(type(section))
    changes = {}
    for name, value in tree.items():
        where = f"{path}{name}"
        if name not in hints:
            raise ConfigError(f"there is no setting {where}{_suggestion(name, hints)}")
        if is_dataclass(hints[name]):
            if not isinstance(value, dict):
                raise ConfigError(f"{where} is a group of settings: name one of {', '.join(_names(hints[name]))}")
            changes[name] = _replaced(getattr(section, name), value, f"{where}.")
        elif isinstance(value, dict):
            raise ConfigError(f"there is no setting {where}.{next(iter(value))}: {where} is a value")
        else:
            changes[name] = _convert(value, hints[name], where)
    return replace(section, **changes)


def _convert(value: Any, hint: Any, where: str) -> Any:
    """Return a value as its field's type, without guessing: 2 is a float, 2.5 is no int, "no" is no bool."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, Mapping):
            return from_dict(value, hint, f"{where}.")
    elif origin is tuple and isinstance(value, list | tuple):
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) == len(value):
            return tuple(_convert(item, kind, where) for item, kind in zip(value, kinds, strict=True))
    elif origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _convert(value, next(kind for kind in arguments if kind is not types.NoneType), where)
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return _as_float(value, where)
    elif hint is str and isinstance(value, str | int | float):
        return str(value)
    elif isinstance(hint, type) and type(value) is hint:
        return value
    raise ConfigError(f"{where} is {short(value)}, but it must be {_describe(hint)}")


def _as_float(value: float, where: str) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise ConfigError(f"{where} is {short(value)}, which is too large") from error


def _describe(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    if typing.get_origin(hint) is tuple:
        arguments = typing.get_args(hint)
        if arguments[-1] is Ellipsis:
            example = "['a', 'b']" if arguments[0] is str else "[1, 2]"
            return f"a list, each {names.get(arguments[0], 'a value')}, such as {example}"
        return f"a list of {len(arguments)}, each {names.get(arguments[0], 'a value')}"
    return names.get(hint, "a group of settings")


def _literal(text: str) -> Any:
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _names(kind: Any) -> list[str]:
    return [item.name for item in fields(kind)]


def _suggestion(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {close[0]}?" if close else f": choose from {', '.join(known)}"


def _to_builtin(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    return [_to_builtin(item) for item in value] if isinstance(value, tuple) else value
