"""What the virtual GPUs see, each fault planted once."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from tests.virtual_device import CPU, CUDA, SECOND, VirtualCuda, place_of


@pytest.fixture
def gpu() -> Iterator[VirtualCuda]:
    with VirtualCuda() as mode:
        yield mode


def waits(gpu: VirtualCuda, act: Callable[[], object]) -> int:
    with gpu.region("waits") as seen:
        before = seen.waits.total()
        act()
        return seen.waits.total() - before


@pytest.mark.usefixtures("gpu")
def test_tensors_say_where_they_are_and_what_follows_from_them_too() -> None:
    here, there = torch.ones(4, 3), torch.zeros(4, 3, device="cuda")
    assert (here.device, there.device) == (CPU, CUDA)
    assert there.is_cuda and (there + 1.0).is_cuda and there[1:].is_cuda and torch.stack((there, there)).is_cuda
    assert not here.is_cuda and not (here + 1.0).is_cuda and not there.cpu().is_cuda
    assert here.to(there).is_cuda and there.to("cuda") is there and here.to("cuda:1").device == SECOND
    assert there.new_zeros(2).is_cuda and torch.zeros_like(there).is_cuda and torch.tensor([1.0], device="cuda").is_cuda
    assert (there + torch.tensor(1.0)).is_cuda, "a number on the CPU may meet what is on a GPU"
    here.copy_(there)
    assert not here.is_cuda
    assert here.tolist() == [[0.0] * 3] * 4


FAULTS = {
    "CPU and GPU": lambda: torch.zeros(3, device="cuda") + torch.zeros(3),
    "two GPUs": lambda: torch.zeros(3, device="cuda") + torch.zeros((), device="cuda:1"),
    "numbers stacked": lambda: torch.stack((torch.zeros((), device="cuda"), torch.tensor(1.0))),
    "numpy": lambda: torch.zeros(3, device="cuda").numpy(),
    "numpy asks": lambda: np.asarray(torch.zeros(3, device="cuda")),
    "a generator of the CPU": lambda: torch.rand(3, device="cuda", generator=torch.Generator()),
    "a generator of the GPU": lambda: torch.rand(3, generator=torch.Generator("cuda")),
    "a generator's state on the GPU": lambda: torch.Generator().set_state(torch.Generator().get_state().to("cuda")),
}


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("name", FAULTS)
def test_what_a_gpu_refuses_is_refused(name: str) -> None:
    with pytest.raises((RuntimeError, TypeError), match=r"same device|numpy|generator|ByteTensor"):
        FAULTS[name]()


def test_what_the_host_waits_for_is_noted_and_nothing_else_is(gpu: VirtualCuda) -> None:
    x = torch.zeros(4, 3, device="cuda")
    mask = x[:, 0] > 0
    pinned = torch.zeros(3).pin_memory()

    def put(value: torch.Tensor | float) -> None:
        x[mask] = value

    waiting = [
        lambda: bool(x[0, 0] > 0),
        lambda: x[0, 0].item(),
        lambda: x.tolist(),
        lambda: x.cpu(),
        lambda: x.to("cuda:1").cpu(),
        lambda: torch.tensor([1.0], device="cuda"),
        lambda: torch.zeros(3).to("cuda"),
        lambda: pinned.to("cuda"),
        lambda: x[mask],
        lambda: x.nonzero(),
        lambda: x.masked_select(mask[:, None]),
        lambda: x.repeat_interleave(torch.ones(4, dtype=torch.int64, device="cuda"), dim=0),
        lambda: torch.equal(x, x),
        lambda: x.copy_(torch.zeros(4, 3)),
    ]
    assert [waits(gpu, act) for act in waiting] == [1] * len(waiting)
    free = [
        lambda: put(1.0),
        lambda: torch.where(x > 0, 0.0, x).clamp(0.0, 1.0).sum(),
        lambda: pinned.to("cuda", non_blocking=True),
        lambda: x.to("cuda:1"),
        lambda: x.masked_fill(mask[:, None], 0.0),
        lambda: torch.rand(3, device="cuda", generator=torch.Generator("cuda")),
    ]
    assert [waits(gpu, act) for act in free] == [0] * len(free)


def test_kernels_are_counted_and_views_are_none(gpu: VirtualCuda) -> None:
    x = torch.zeros(4, 3, device="cuda")
    with gpu.region("part") as seen:
        _ = (x[1:].t().unsqueeze(0).expand(2, -1, -1) + 1.0).mul(2.0)
        torch.zeros(3) + 1.0  # pyright: ignore[reportUnusedExpression] - on the CPU, which launches nothing
    assert {name: count for name, count in seen.kernels.items() if count} == {"add": 1, "mul": 1}
    assert next(iter(seen.on_the_cpu)).startswith("aten::zeros @ ")


def test_an_update_with_fused_adam_runs_and_its_backward_pass_is_seen(gpu: VirtualCuda) -> None:
    lstm = torch.nn.LSTM(3, 5, 2).to("cuda")
    adam = torch.optim.Adam(lstm.parameters(), fused=True)
    out, _ = lstm(torch.ones(2, 4, 3, device="cuda"))
    with gpu.region("update") as seen:
        out.square().mean().backward()
        torch.nn.utils.clip_grad_norm_(lstm.parameters(), 1.0)
        adam.step()
    assert seen.launched() > 10
    assert not seen.waits
    assert all(place_of(p.grad) == CUDA for p in lstm.parameters() if p.grad is not None)


@pytest.mark.usefixtures("gpu")
def test_what_cudnn_refuses_of_an_lstm_is_refused() -> None:
    lstm = torch.nn.LSTM(3, 5).to("cuda")
    x = torch.ones(2, 4, 3, device="cuda")
    odd = torch.zeros(5, 4, 1, device="cuda").permute(2, 1, 0)
    with pytest.raises(RuntimeError, match="not contiguous"):
        lstm(x, (odd, odd))
    with pytest.raises(RuntimeError, match="training mode"):
        lstm.eval()(x)
    with pytest.raises(RuntimeError, match="float16"), torch.autocast("cuda", dtype=torch.bfloat16):
        lstm.train()(x)
