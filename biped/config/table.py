"""The configuration as a page: every field with its default, its unit, what it may be, and what it means."""

import json
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any

from pydantic_core import PydanticUndefined

from biped.config.randomization import Randomized
from biped.config.run import Config
from biped.config.section import fields_of, rule_of
from biped.config.serial import json_schema, to_dict

UNITS: Mapping[str, str] = types.MappingProxyType(
    {
        "nm_s_per_rad": "N·m·s/rad",
        "nm_per_rad": "N·m/rad",
        "kg_m2": "kg·m²",
        "rad_s": "rad/s",
        "m_s": "m/s",
        "rad2": "rad²",
        "s2": "s²",
        "nm": "N·m",
        "rad": "rad",
        "hz": "Hz",
        "kg": "kg",
        "kl": "nats",
        "m": "m",
        "n": "N",
        "s": "s",
        "steps": "steps",
        "timesteps": "steps",
    }
)
"""Units by the last words of a field's name; the first that fits counts."""

_HEAD = """\
# Configuration

Written by `python -m biped config --table > docs/configuration.md`; one row per field, with the defaults, which are
those of one GPU. Change a field by `--set PATH=VALUE`: [running a training](running.md#flags). Which fields a preset
changes is in [`biped_config.py`](../biped_config.py). `python -m biped config --schema` prints the JSON Schema of a
`config.json`, for editors.
"""


@dataclass(frozen=True)
class Row:
    """One field."""

    path: str
    """Its dotted path."""
    default: str
    """Its default, as JSON; empty if it has none."""
    unit: str
    """Its unit; empty if it has none."""
    rule: str
    """What it may be, in words."""
    meaning: str
    """What it means."""

    def as_markdown(self) -> str:
        """Return the row of a table."""
        meaning = self.meaning.replace("\n", " ").replace("|", "\\|")
        default = self.default and f"`{self.default}`"
        return f"| `{self.path}` | {default} | {self.unit} | {self.rule} | {meaning} |"


@dataclass(frozen=True)
class Table:
    """The fields of one section; those of a `Randomized` are among its parent's."""

    path: str
    """The section's dotted path, with [] if it is one of a list; empty for the whole."""
    meaning: str
    """What it is for."""
    rows: tuple[Row, ...]
    """Its fields."""


def unit_of(name: str) -> str:
    """Return the unit that a field's name ends in; empty if it has none."""
    return next((unit for end, unit in UNITS.items() if f"_{name}".endswith(f"_{end}")), "")


def tables() -> list[Table]:
    """Return every section that has fields of its own, in the order of the configuration."""
    return [table for table in _tables(Config, "", "What is in no section.") if table.rows]


def as_markdown() -> str:
    """Return the page docs/configuration.md: `python -m biped config --table > docs/configuration.md`."""
    parts = [_HEAD]
    for table in tables():
        head = f"## {table.path or 'The whole'}\n\n{table.meaning}\n\n| field | default | unit | value | meaning |\n"
        parts.append(f"{head}|---|---|---|---|---|\n" + "\n".join(row.as_markdown() for row in table.rows) + "\n")
    return "\n".join(parts)


def printed(*, schema: bool = False, table: bool = False) -> str:
    """Return the configuration as text: its JSON Schema, its page, or else its defaults as JSON."""
    if table:
        return as_markdown()
    return json.dumps(json_schema() if schema else to_dict(Config()), indent=2) + "\n"


def _tables(kind: Any, path: str, meaning: str) -> Iterator[Table]:
    rows: list[Row] = []
    inner: list[tuple[Any, str, str]] = []
    for name, item in fields_of(kind).items():
        whole = f"{path}.{name}" if path else name
        text = item.description or ""
        if is_dataclass(item.annotation) and item.annotation is not Randomized:
            inner.append((item.annotation, whole, text))
            continue
        rows.extend(_rows(kind, name, whole))
        if is_dataclass(one := next(iter(typing.get_args(item.annotation)), None)):
            inner.append((one, f"{whole}[]", text))
    yield Table(path, meaning, tuple(rows))
    for section, whole, text in inner:
        yield from _tables(section, whole, text)


def _rows(kind: Any, name: str, path: str) -> Iterator[Row]:
    item = fields_of(kind)[name]
    text = item.description or ""
    if item.annotation is not Randomized:
        yield Row(path, _default(item), unit_of(name), rule_of(kind, name), text)
        return
    own = to_dict(item.default)
    yield Row(f"{path}.mode", json.dumps(own["mode"]), "", rule_of(Randomized, "mode"), f"When it is drawn: {_MODES}")
    yield Row(f"{path}.range", json.dumps(own["range"]), unit_of(name), rule_of(Randomized, "range"), text)


_MODES = fields_of(Randomized)["mode"].description


def _default(item: Any) -> str:
    value = item.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return ""
    if isinstance(value, float):
        value = float(f"{value:.6g}")  # a quarter of π has no end
    return json.dumps(value, ensure_ascii=False, default=to_dict)
