"""Conversion of tensors, and dataclasses of tensors, to one flat dictionary and back."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
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
    return {name: part.clone() for name, part in _flat(parts).items()}


def _flat(parts: Mapping[str, Any]) -> dict[str, Tensor]:
    flat: dict[str, Tensor] = {}
    for name, part in parts.items():
        if is_dataclass(part):
            flat |= {f"{name}.{item.name}": getattr(part, item.name) for item in fields(part)}
        else:
            flat[name] = part
    return flat


def unpack(like: Mapping[str, Any], flat: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return copies of what `pack` packed, with the structure, shapes, types and devices of `like`.

    Raises:
        KeyError: a tensor is missing.
        RuntimeError: a tensor has another shape.
    """
    return _like(like, {name: _as(name, part, flat) for name, part in _flat(like).items()})


def _like(like: Mapping[str, Any], flat: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return tensors by name in the structure of `like`."""
    parts: dict[str, Any] = {}
    for name, part in like.items():
        if is_dataclass(part):
            values = {item.name: flat[f"{name}.{item.name}"] for item in fields(part)}
            parts[name] = replace(part, **values)  # pyright: ignore[reportArgumentType]
        else:
            parts[name] = flat[name]
    return parts


def selected(mask: Tensor, where_true: Mapping[str, Any], where_false: Mapping[str, Any]) -> dict[str, Any]:
    """Select whole environments from parts by a boolean mask (num_envs,).

    All numbers of one type are selected at once: a few large operations cost less than many small ones.

    Args:
        mask: (num_envs,), bool.
        where_true: tensors (num_envs, ...), and dataclasses of such tensors, by name.
        where_false: the same names, with the same shapes.
    """
    new, old = _flat(where_true), _flat(where_false)
    chosen: dict[str, Tensor] = {}
    for dtype in dict.fromkeys(part.dtype for part in old.values()):
        names = [name for name, part in old.items() if part.dtype == dtype]
        rows = torch.where(mask[:, None], *(_side_by_side([parts[name] for name in names]) for parts in (new, old)))
        columns = rows.split([old[name][0].numel() for name in names], dim=1)
        chosen |= {name: column.view(old[name].shape) for name, column in zip(names, columns, strict=True)}
    return _like(where_false, chosen)


def _side_by_side(parts: Sequence[Tensor]) -> Tensor:
    """Return tensors (num_envs, ...) as the columns of one, (num_envs, width)."""
    columns = [part.reshape(len(part), -1) for part in parts]
    return columns[0] if len(columns) == 1 else torch.cat(columns, dim=1)


def _as(name: str, like: Tensor, flat: Mapping[str, Tensor]) -> Tensor:
    value = flat[name]
    if value.shape != like.shape:
        raise RuntimeError(f"{name} is {tuple(value.shape)}, but {tuple(like.shape)} belongs there")
    return value.to(like, copy=True)
