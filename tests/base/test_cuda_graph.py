"""Functions of tensors as CUDA graphs, on a virtual GPU; what no GPU has shown is whether they are faster."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from biped.base.cuda_graph import WARM_UP, CudaGraph, map_tensors, tensors_of
from tests.virtual_device import CUDA, VirtualCuda
from tests.virtual_graph import VirtualGraph


@pytest.fixture
def gpu() -> Iterator[VirtualCuda]:
    with VirtualCuda() as mode:
        yield mode


@dataclass(frozen=True)
class Pair:
    first: Tensor
    second: Tensor | None


class Named(NamedTuple):
    one: Tensor
    other: tuple[Tensor, ...]


def on_gpu(*values: float) -> Tensor:
    return torch.tensor(values, device=CUDA)


def warm(graph: CudaGraph, *inputs: Any) -> None:
    for _ in range(WARM_UP):
        graph(*inputs)


def replays(gpu: VirtualCuda, act: Callable[[], object]) -> tuple[int, int]:
    """Return how many graphs were launched, and how many other kernels."""
    with gpu.region(f"{len(gpu.regions)}") as seen:
        act()
    graphs = seen.kernels["(a CUDA graph)"]
    return graphs, seen.launched() - graphs


def test_all_kernels_of_a_function_are_one_launch_and_copies_of_what_goes_in_and_out(gpu: VirtualCuda) -> None:
    graph = CudaGraph(lambda x: ((x + 1.0) * 2.0 - x).exp())
    warm(graph, on_gpu(1.0))
    graph(on_gpu(1.0))  # the capture
    x = on_gpu(3.0)
    assert replays(gpu, lambda: graph(x)) == (1, 2)
    assert graph(on_gpu(0.5)).tolist() == on_gpu(2.5).exp().tolist()


@pytest.mark.usefixtures("gpu")
def test_results_of_one_call_stay_when_the_next_is_made() -> None:
    graph = CudaGraph(lambda x: {"twice": 2.0 * x, "part": (x[:1], None)})
    warm(graph, on_gpu(1.0, 2.0))
    first, second = graph(on_gpu(3.0, 4.0)), graph(on_gpu(5.0, 6.0))
    assert first["twice"].tolist() == [6.0, 8.0] and first["part"][0].tolist() == [3.0] and first["part"][1] is None
    assert second["twice"].tolist() == [10.0, 12.0]


def test_another_constant_or_shape_is_captured_anew(gpu: VirtualCuda) -> None:
    graph = CudaGraph(lambda x, factor: factor * x)
    warm(graph, on_gpu(1.0), 2.0)
    assert [graph(on_gpu(3.0), factor).item() for factor in (2.0, 5.0, 5.0)] == [6.0, 15.0, 15.0]
    assert graph(on_gpu(1.0, 2.0), 5.0).tolist() == [5.0, 10.0]
    x = on_gpu(1.0, 1.0)
    assert replays(gpu, lambda: graph(x, 5.0))[0] == 1


@pytest.mark.usefixtures("gpu")
def test_draws_go_on_from_call_to_call_as_without_a_graph() -> None:
    def drawn(wrap: Callable[..., Any]) -> list[list[float]]:
        generator = torch.Generator(CUDA)
        generator.manual_seed(7)
        torch.manual_seed(8)
        draw = wrap(lambda: torch.rand(3, generator=generator, device=CUDA) + torch.randn(3, device=CUDA), [generator])
        return [draw().tolist() for _ in range(WARM_UP + 4)]

    assert drawn(CudaGraph) == drawn(lambda function, _: function)


@pytest.mark.usefixtures("gpu")
def test_what_is_changed_in_place_is_changed_once_a_call() -> None:
    total = on_gpu(0.0)
    graph = CudaGraph(lambda x: total.add_(x).clone())
    assert [graph(on_gpu(2.0)).item() for _ in range(WARM_UP + 3)] == [2.0 * n for n in range(1, WARM_UP + 4)]


@pytest.mark.parametrize("fault", ["reads", "draws from another generator"])
def test_what_cannot_be_captured_runs_as_it_is_and_says_so_once(
    fault: str, gpu: VirtualCuda, capsys: pytest.CaptureFixture[str]
) -> None:
    other = torch.Generator(CUDA)

    def careless(x: Tensor) -> Tensor:
        if fault == "reads":
            return x + 1.0 if x.sum() > 0 else x - 1.0
        return x + 1.0 + 0.0 * torch.rand(1, generator=other, device=CUDA)

    graph = CudaGraph(careless)
    assert [graph(on_gpu(value)).item() for value in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)] == [2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    (line,) = capsys.readouterr().err.splitlines()
    assert "careless cannot be a CUDA graph, and runs without one: " in line
    assert replays(gpu, lambda: graph(on_gpu(1.0)))[0] == 0


@pytest.mark.usefixtures("gpu")
def test_a_capture_itself_computes_nothing() -> None:
    """What a real capture returns is memory in which nothing has been written."""
    total, graph = on_gpu(1.0), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made = total.add_(1.0) * 3.0
    assert isinstance(graph, VirtualGraph) and total.item() == 1.0 and made.isnan().item()
    graph.replay()
    assert (total.item(), made.item()) == (2.0, 6.0)


def test_trees_of_tensors_keep_their_structure() -> None:
    tree = {"a": Pair(torch.ones(1), None), "b": [Named(torch.zeros(2), (torch.ones(3),)), "text", 4]}
    assert [len(tensor) for tensor in tensors_of(tree)] == [1, 2, 3]
    twice = map_tensors(lambda tensor: 2.0 * tensor, tree)
    assert twice["a"].first.item() == 2.0 and twice["a"].second is None
    assert isinstance(twice["b"][0], Named) and twice["b"][0].other[0].tolist() == [2.0] * 3
    assert twice["b"][1:] == ["text", 4]
