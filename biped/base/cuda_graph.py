"""A function of tensors as one CUDA graph: all of its kernels are launched at once, and the host does little else."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from biped.base.errors import first_line

WARM_UP = 3
"""Number of calls before the capture, in which libraries allocate what they keep."""


class CudaGraph:
    """Calls a function of tensors, and after a few calls replays the kernels that it launched.

    Arguments and results are tensors, and dataclasses, dictionaries, tuples and lists of them. Any other argument is a
    constant of the graph: with another value the function is captured anew. The function reads nothing on the host. A
    tensor that it changes in place must live as long as the graph. Results are new tensors in each call.

    If the capture fails, a line says so on standard error, and the function is called as it is from then on.
    """

    def __init__(self, function: Callable[..., Any], generators: Sequence[torch.Generator] = ()) -> None:
        """Wrap `function`, which draws from torch's own generator and from `generators`."""
        self._function, self._generators = function, tuple(generators)
        self._calls, self._works = 0, True
        self._graph: Any = None
        self._captured_for: Any = None
        self._inputs: list[Tensor] = []
        self._results: Any = None

    def __call__(self, *inputs: Any) -> Any:
        """Return the function's results."""
        self._calls += 1
        if not self._works or self._calls <= WARM_UP:
            return self._function(*inputs)
        tensors = list(tensors_of(inputs))
        signature = _signature(inputs)
        if self._graph is None or signature != self._captured_for:
            self._graph, self._results, self._inputs = None, None, []  # frees the memory of the last one first
            if not self._capture(inputs):
                return self._function(*inputs)
            self._captured_for = signature
        _copy(self._inputs, tensors)
        self._graph.replay()
        results = list(tensors_of(self._results))
        fresh = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in results]
        _copy(fresh, results)
        following = iter(fresh)
        return map_tensors(lambda _: next(following), self._results)

    def _capture(self, inputs: tuple[Any, ...]) -> bool:
        static = map_tensors(lambda tensor: tensor.clone(memory_format=torch.contiguous_format), inputs)
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            graph.register_generator_state(generator)
        try:
            # A capture that fails would leave its own stream behind as the current one. Other threads may use the
            # device meanwhile; only what this one does belongs to the graph.
            with (
                torch.cuda.stream(torch.cuda.current_stream()),
                torch.cuda.graph(graph, capture_error_mode="thread_local"),
            ):
                # Within the graph this costs no launch; results in one piece are then copied by one kernel.
                self._results = map_tensors(Tensor.contiguous, self._function(*static))
        except RuntimeError as error:
            self._works = False
            # The end of a capture raises too, after what went wrong in it.
            cause = error.__context__ if isinstance(error.__context__, RuntimeError) else error
            what = f"{_name(self._function)} cannot be a CUDA graph, and runs without one"
            print(f"{what}: {first_line(cause)}", file=sys.stderr)
            return False
        self._graph, self._inputs = graph, list(tensors_of(static))
        return True


def _name(function: Any) -> str:
    return getattr(getattr(function, "func", function), "__qualname__", "a function")


def tensors_of(tree: Any) -> Iterator[Tensor]:
    """Yield the tensors in dataclasses, dictionaries, tuples and lists, in a fixed order."""
    if isinstance(tree, Tensor):
        yield tree
    else:
        for part in _parts(tree):
            yield from tensors_of(part)


def map_tensors(function: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """Return a tree of the same structure with each tensor replaced by what `function` returns for it."""
    if isinstance(tree, Tensor):
        return function(tree)
    if is_dataclass(tree) and not isinstance(tree, type):
        return replace(tree, **{item.name: map_tensors(function, getattr(tree, item.name)) for item in fields(tree)})
    if isinstance(tree, dict):
        return {name: map_tensors(function, part) for name, part in tree.items()}
    if isinstance(tree, tuple | list):
        parts = [map_tensors(function, part) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return tree


def _parts(tree: Any) -> Iterator[Any]:
    if is_dataclass(tree) and not isinstance(tree, type):
        yield from (getattr(tree, item.name) for item in fields(tree))
    elif isinstance(tree, dict):
        yield from tree.values()
    elif isinstance(tree, tuple | list):
        yield from tree


def _signature(tree: Any) -> Any:
    """Return what a graph depends on: shapes and types of the tensors, and all other values."""
    if isinstance(tree, Tensor):
        return tree.shape, tree.dtype, tree.device
    if isinstance(tree, dict):
        return tuple((name, _signature(part)) for name, part in tree.items())
    if isinstance(tree, tuple | list) or (is_dataclass(tree) and not isinstance(tree, type)):
        return type(tree), tuple(_signature(part) for part in _parts(tree))
    return tree


def _copy(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Copy many tensors, with a kernel for all contiguous ones of a type."""
    groups: dict[Any, tuple[list[Tensor], list[Tensor]]] = {}
    for target, source in zip(targets, sources, strict=True):
        to, of = groups.setdefault((source.dtype, source.is_contiguous()), ([], []))
        to.append(target)
        of.append(source)
    for to, of in groups.values():
        torch._foreach_copy_(to, of)  # pyright: ignore[reportPrivateImportUsage]
