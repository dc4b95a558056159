"""The base class of every section of the configuration, and the types that fields are declared with.

A section is a frozen pydantic dataclass with strict types: 2 is a valid number, 2.5 is no whole number, and "no" is
no boolean. A value that breaks a type or a rule raises a `ConfigError` of one line that names the field.
"""

import difflib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, is_dataclass
from typing import Annotated, Any, Literal, TypeVar, dataclass_transform

from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from biped.base.errors import ConfigError

SectionT = TypeVar("SectionT")

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A number above 0."""
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A number of at least 0."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
"""Any number except infinity and NaN."""
Fraction = Annotated[float, Field(ge=0, le=1)]
"""A number from 0 to 1."""
Count = Annotated[int, Field(gt=0)]
"""A whole number above 0."""
CountOrNone = Annotated[int, Field(ge=0)]
"""A whole number of at least 0."""
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
"""A seed that every random generator accepts."""
Widths = Annotated[tuple[Count, ...], Field(min_length=1)]
"""Layer widths, at least one."""


def _low_first(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise PydanticCustomError("rule", "a pair (low, high), low first")
    return pair


Interval = Annotated[tuple[Finite, Finite], AfterValidator(_low_first)]
"""A range (low, high)."""

_CONFIG = ConfigDict(strict=True, extra="forbid", use_attribute_docstrings=True)
_TYPES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


class BrokenRuleError(ConfigError):
    """A value breaks a rule that a section checks itself, over several of its fields."""

    def __init__(self, name: str, value: Any, rule: str) -> None:
        """Keep the field's name, its value, and the rule that it breaks."""
        super().__init__(f"{name} is {short(value)}, but it must be {rule}")
        self.name, self.value, self.rule = name, value, rule


class Section:
    """Base class of every part of the configuration; used with the decorator `section`."""

    def _require(self, condition: bool, name: str, rule: str) -> None:
        """Check a rule over several fields.

        Raises:
            BrokenRuleError: the condition does not hold; the message names the field `name`.
        """
        if not condition:
            raise BrokenRuleError(name, getattr(self, name), rule)


@dataclass_transform(frozen_default=True, field_specifiers=(Field, field))
def section(cls: type[SectionT]) -> type[SectionT]:
    """Make a class a section: frozen, strict, without unknown fields; the docstring below a field describes it.

    Creating an instance raises `ConfigError` if a field breaks its type or its rule.
    """
    made: Any = dataclass(frozen=True, config=_CONFIG)(cls)
    checked = made.__init__

    def init(self: Any, *args: Any, **values: Any) -> None:
        try:
            checked(self, *args, **values)
        except ValidationError as error:
            raise as_config_error(error, made) from error

    made.__init__ = init
    return made


def as_config_error(error: ValidationError, kind: type, *, is_whole: bool = False) -> ConfigError:
    """Return the first problem as an error of one line.

    Args:
        error: pydantic's error.
        kind: the section that was being created.
        is_whole: name fields by their path from `kind`, as on the command line, instead of by their class.
    """
    found = error.errors(include_url=False)[0]
    location = list(found["loc"])
    if location and isinstance(location[0], int):  # a positional argument
        location[0] = [*fields_of(kind)][location[0]]
    path = _path_of(location, kind)
    broken = found.get("ctx", {}).get("error")
    if isinstance(broken, BrokenRuleError):
        where = _where([*path, broken.name], kind, is_whole)
        return ConfigError(f"{where} is {short(broken.value)}, but it must be {broken.rule}")
    if isinstance(broken, ConfigError):
        return broken
    if found["type"] == "json_invalid":
        return ConfigError(f"not JSON: {broken}")
    if found["type"] == "unexpected_keyword_argument":
        known = [*fields_of(_section_of(path[:-1], kind))]
        return ConfigError(f"there is no setting {'.'.join(path)}{suggestion(path[-1], known)}")
    where, hint = _where(path, kind, is_whole), _hint_of(path, kind)
    if is_dataclass(hint):
        if not path:
            return ConfigError("not a configuration: expected an object")
        return ConfigError(f"{where} is a group of settings: name one of {', '.join(fields_of(hint))}")
    value = found["input"]
    if isinstance(value, Mapping) and value:
        return ConfigError(f"there is no setting {where}.{next(iter(value))}: {where} is a value")
    rule = found["msg"] if found["type"] == "rule" else _words(hint, found["type"], inside=path != location)
    return ConfigError(f"{where} is {short(value)}, but it must be {rule}")


def fields_of(kind: Any) -> dict[str, Any]:
    """Return the fields of a section by name, with pydantic's information on each."""
    return kind.__pydantic_fields__


def type_of(kind: Any, name: str) -> Any:
    """Return the type of a section's field without an optional None; None if there is no such field."""
    known = fields_of(kind) if is_dataclass(kind) else {}
    return without_none(known[name].annotation) if name in known else None


def rule_of(kind: Any, name: str) -> str:
    """Return which values a section's field takes, in the words of the messages."""
    hint = _hint_of([name], kind)
    plain, rules = _unwrapped(hint)
    words = _TYPES[plain] if plain in (bool, str) else _words(hint, "", inside=False)
    if any(isinstance(rule, AfterValidator) and rule.func is _low_first for rule in rules):
        words = "a pair, low first"
    elif typing.get_origin(plain) is dict:
        words = "a number for each name"
    elif words.endswith("a list of such numbers") and typing.get_origin(typing.get_args(plain)[0]) is tuple:
        words = f"{_words(typing.get_args(plain)[0], '', inside=False)}, or a list of such lists"
    words = words.partition(", such as ")[0].removesuffix(", each a value")
    return words if type_of(kind, name) is fields_of(kind)[name].annotation else f"{words}, or null"


def short(value: Any) -> str:
    """Return a value's Python notation, shortened if it is too long for one line."""
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**60 else "a number of over 60 digits"
    return text if len(text) <= 60 else f"{text:.57}..."


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the closest known name, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {close[0]}?" if close else f": choose from {', '.join(known)}"


def without_none(hint: Any) -> Any:
    """Return a type without an optional None."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType) and types.NoneType in typing.get_args(hint):
        return next(kind for kind in typing.get_args(hint) if kind is not types.NoneType)
    return hint


def _where(path: Sequence[str], kind: Any, is_whole: bool) -> str:
    if is_whole or len(path) != 1:
        return ".".join(path)
    return f"{kind.__name__}.{path[0]}"


def _path_of(location: Sequence[Any], kind: Any) -> list[str]:
    """Return the names of fields in pydantic's location, without places in lists and branches of unions."""
    path: list[str] = []
    for part in location:
        if isinstance(part, str) and is_dataclass(kind):
            path.append(part)
            kind = _element(fields_of(kind)[part].annotation) if part in fields_of(kind) else None
    return path


def _section_of(path: Sequence[str], kind: Any) -> Any:
    for name in path:
        kind = _element(fields_of(kind)[name].annotation)
    return kind


def _element(hint: Any) -> Any:
    """Return the section that a list holds; any other type unchanged, without an optional None."""
    hint = without_none(hint)
    items = typing.get_args(hint) if typing.get_origin(hint) is tuple else ()
    return items[0] if items and is_dataclass(items[0]) else hint


def _hint_of(path: Sequence[str], kind: Any) -> Any:
    """Return a field's type together with its rule."""
    if not path:
        return kind
    item = fields_of(_section_of(path[:-1], kind))[path[-1]]
    hint = without_none(item.annotation)
    return Annotated[hint, *item.metadata] if item.metadata else hint


def _words(hint: Any, problem: str, *, inside: bool) -> str:
    """Return a description of valid values.

    Args:
        hint: the field's type and rule.
        problem: pydantic's name of the problem.
        inside: whether the problem is in one element of a list.
    """
    kind, rules = _unwrapped(hint)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kind, rules = _unwrapped(typing.get_args(kind)[0])
        return f"{_words_of(kind, rules, problem)}, or a list of such numbers"
    if typing.get_origin(kind) is tuple:
        items = typing.get_args(kind)
        return _words(items[0], problem, inside=False) if inside else _list_words(items)
    if typing.get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(kind)))
    return _words_of(kind, rules, problem)


def _unwrapped(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return a type and the rules that it is annotated with."""
    return (hint.__origin__, hint.__metadata__) if typing.get_origin(hint) is Annotated else (hint, ())


def _words_of(kind: Any, rules: Sequence[Any], problem: str) -> str:
    if problem.endswith(("_type", "_parsing", "from_float")):
        return _TYPES.get(kind, "a value")
    bounds = {type(rule): rule for part in rules for rule in getattr(part, "metadata", [part])}
    number = "a whole number" if kind is int else "a number"
    if Ge in bounds and Le in bounds:
        return f"between {bounds[Ge].ge} and {bounds[Le].le}"
    if Gt in bounds:
        return f"{number} above {bounds[Gt].gt}" + (f" and at most {bounds[Le].le}" if Le in bounds else "")
    return f"{number} of at least {bounds[Ge].ge}" if Ge in bounds else "a finite number"


def _list_words(items: tuple[Any, ...]) -> str:
    first = items[0].__origin__ if typing.get_origin(items[0]) is Annotated else items[0]
    each = _TYPES.get(first, "a value")
    if items[-1] is not Ellipsis:
        return f"a list of {len(items)}, each {each}"
    return f"a list, each {each}, such as {['a', 'b'] if first is str else [1, 2]}"
