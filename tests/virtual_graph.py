"""CUDA graphs of the virtual GPUs of `tests.virtual_device`.

A capture notes every operation with its tensors, and a replay runs them again on the same memory. As on CUDA,

- a capture leaves no trace: what it changed in place, and what it drew, is taken back, and what it made is garbage;
- a wait of the host within a capture is an error, and so is a draw from a generator that is not registered.

Not seen: memory of intermediate results that a graph uses twice, libraries that cannot be captured, and what a capture
that failed leaves behind.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor


class VirtualGraph:
    """The operations of a capture; `note_launch` notes each replay as one kernel."""

    capturing: "VirtualGraph | None" = None

    def __init__(self, off: Callable[[], contextlib.AbstractContextManager[None]], note_launch: Callable[[str], None]):
        """Begin empty; within `off()` torch is as it is."""
        self._off, self._note_launch = off, note_launch
        self._operations: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self._made: dict[int, Tensor] = {}
        self._before: dict[int, tuple[Tensor, Tensor]] = {}
        self._generators: list[torch.Generator] = []

    def register_generator_state(self, generator: torch.Generator) -> None:
        """Let the graph draw from a generator."""
        self._generators.append(generator)

    @contextlib.contextmanager
    def capture(self, **settings: Any) -> Iterator[None]:
        """Note the operations in this context, and undo what they did."""
        del settings
        assert VirtualGraph.capturing is None, "captures cannot be nested"
        drawn = [(generator, generator.get_state()) for generator in self._generators]
        default = torch.get_rng_state()
        VirtualGraph.capturing = self
        try:
            yield
        finally:
            VirtualGraph.capturing = None
            for generator, state in drawn:
                generator.set_state(state)
            torch.set_rng_state(default)
            with self._off(), torch.no_grad():
                for tensor, value in self._before.values():
                    tensor.copy_(value)
                for tensor in self._made.values():
                    tensor.fill_(torch.nan if tensor.is_floating_point() else 1)

    def before(self, func: Any, args: Any, kwargs: Any) -> None:
        """Refuse what CUDA refuses, and keep what an operation will change."""
        generator = kwargs.get("generator")
        # Below the dispatcher a generator is another Python object.
        if generator is not None and all(_same(generator) != _same(known) for known in self._generators):
            raise RuntimeError("Attempt to increase offset for a CUDA generator not in capture mode.")
        for argument, value in zip(func._schema.arguments, args, strict=False):
            self._keep(argument, value)
        for argument in func._schema.arguments:
            if argument.name in kwargs:
                self._keep(argument, kwargs[argument.name])

    def _keep(self, argument: Any, value: Any) -> None:
        if argument.alias_info is None or not argument.alias_info.is_write:
            return
        for tensor in value if isinstance(value, list | tuple) else [value]:
            key = tensor.untyped_storage()._cdata
            if key not in self._made and key not in self._before:
                whole = tensor if tensor._base is None else tensor._base
                self._before[key] = (whole, whole.clone())

    def after(self, func: Any, args: Any, kwargs: Any, out: Any, fresh: list[Tensor]) -> None:
        """Note an operation with its results, of which `fresh` are new memory."""
        for tensor in fresh:
            self._made.setdefault(tensor.untyped_storage()._cdata, tensor)
        results = [tensor for tensor in (out if isinstance(out, list | tuple) else [out]) if isinstance(tensor, Tensor)]
        self._operations.append((func, args, kwargs, results))

    def replay(self) -> None:
        """Run the operations again, on the same memory."""
        self._note_launch("(a CUDA graph)")
        with self._off(), torch.no_grad():
            for func, args, kwargs, results in self._operations:
                out = func(*args, **kwargs)
                again = out if isinstance(out, list | tuple) else [out]
                for result, new in zip(results, [t for t in again if isinstance(t, Tensor)], strict=True):
                    if result.untyped_storage()._cdata != new.untyped_storage()._cdata:
                        result.copy_(new)


def _same(generator: torch.Generator) -> int:
    """Return the address of what a generator is below Python."""
    return generator._cdata  # pyright: ignore[reportAttributeAccessIssue]
