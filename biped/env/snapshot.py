"""Conversion of tensors, and dataclasses of tensors, to one flat dictionary and back."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from torch import Tensor


def attributes(owner: object, names: Mapping[str, str]) -> dict[str, Any]:
    """Return attributes of an object under their names in a checkpoint."""
    return {name: getattr(owner, attribute) for name, attribute in names.items()}


def set_attributes(owner: object, names: Mapping[str, str], values: Mapping[str, Any]) -> None:
    """Set the attributes that `attributes` returned."""
    for name, attribute in names.items():
        setattr(owner, attribute, values[name])


def pack(parts: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return copies by name; a dataclass's fields are named <name>.<field>."""
    flat: dict[str, Tensor] = {}
    for name, part in parts.items():
        if is_dataclass(part):
            flat |= {f"{name}.{item.name}": getattr(part, item.name).clone() for item in fields(part)}
        else:
            flat[name] = part.clone()
    return flat


def unpack(like: Mapping[str, Any], flat: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return copies of what `pack` packed, with the structure, shapes, types and devices of `like`.

    Raises:
        KeyError: a tensor is missing.
        RuntimeError: a tensor has another shape.
    """
    parts: dict[str, Any] = {}
    for name, part in like.items():
        if is_dataclass(part):
            names = [item.name for item in fields(part)]
            values = {field: _as(f"{name}.{field}", getattr(part, field), flat) for field in names}
            parts[name] = replace(part, **values)  # pyright: ignore[reportArgumentType]
        else:
            parts[name] = _as(name, part, flat)
    return parts


def _as(name: str, like: Tensor, flat: Mapping[str, Tensor]) -> Tensor:
    value = flat[name]
    if value.shape != like.shape:
        raise RuntimeError(f"{name} is {tuple(value.shape)}, but {tuple(like.shape)} belongs there")
    return value.to(like, copy=True)
