"""The results of a step as Stable-Baselines3's callbacks expect them; copied from the device when first read."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from torch import Tensor


class HostArray(NDArrayOperatorsMixin):
    """A tensor that behaves like a numpy array, and is copied to the host only when first read.

    Operators, indices, numpy's functions and array methods work; `isinstance(..., np.ndarray)` is False, and
    `np.asarray` returns an array.
    """

    def __init__(self, tensor: Tensor) -> None:
        """Keep `tensor` on its device."""
        self._tensor = tensor

    @cached_property
    def array(self) -> np.ndarray:
        """The values on the host, in the tensor's shape; for a CPU tensor its own memory."""
        return self._tensor.detach().cpu().numpy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.array, dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if "out" in kwargs:
            kwargs["out"] = tuple(map(_plain, kwargs["out"]))
        return getattr(ufunc, method)(*map(_plain, inputs), **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.array, name)

    def __getitem__(self, key: Any) -> Any:
        return self.array[_plain(key)]

    def __setitem__(self, key: Any, value: Any) -> None:
        self.array[_plain(key)] = _plain(value)

    def __len__(self) -> int:
        return len(self._tensor)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.array)

    def __contains__(self, value: Any) -> bool:
        return value in self.array

    def __bool__(self) -> bool:
        return bool(self.array)

    def __float__(self) -> float:
        return float(self.array)

    def __int__(self) -> int:
        return int(self.array)

    def __repr__(self) -> str:
        return repr(self.array)


class HostInfos(Sequence[dict[str, Any]]):
    """One dictionary per environment, as in Stable-Baselines3; nothing is copied before one is read.

    Where an episode ended, it has those available of `terminal_observation`, `TimeLimit.truncated`, and `episode` (`r`
    return, `l` length, `t` seconds since the start); elsewhere it is empty.
    """

    def __init__(self, dones: Tensor, truncated: Tensor, infos: dict[str, Any], elapsed_s: float) -> None:
        """Keep a step's tensors on their device.

        Args:
            dones: episodes that ended, (n_envs,), bool.
            truncated: episodes that were truncated, (n_envs,), bool.
            infos: see `biped.ppo.env_edge.TensorVecEnv.step_tensor`.
            elapsed_s: time since training began (s).
        """
        self._dones, self._truncated, self._infos, self._elapsed_s = dones, truncated, infos, elapsed_s

    @cached_property
    def _dicts(self) -> list[dict[str, Any]]:
        dicts: list[dict[str, Any]] = [{} for _ in range(len(self))]
        ended = np.flatnonzero(self._dones.cpu().numpy()).tolist()
        if not ended:
            return dicts
        cut = self._truncated.tolist()
        final = _arrays(self._infos.get("final_obs"))
        returns, lengths = (_arrays(self._infos.get(f"episode_{what}")) for what in ("return", "length"))
        for index in ended:
            dicts[index]["TimeLimit.truncated"] = cut[index]
            if final is not None:
                dicts[index]["terminal_observation"] = _row(final, index)
            if returns is not None and lengths is not None:
                length = int(lengths[index])
                dicts[index]["episode"] = {"r": float(returns[index]), "l": length, "t": round(self._elapsed_s, 6)}
        return dicts

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        return self._dicts[index]

    def __len__(self) -> int:
        return len(self._dones)

    def __repr__(self) -> str:
        return repr(self._dicts)


def _plain(value: Any) -> Any:
    return value.array if isinstance(value, HostArray) else value


def _arrays(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _arrays(value) for key, value in values.items()}
    return None if values is None else values.detach().cpu().numpy()


def _row(values: Any, index: int) -> Any:
    return {key: value[index] for key, value in values.items()} if isinstance(values, dict) else values[index]
