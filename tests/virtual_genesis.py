"""Genesis's own Python on a virtual GPU: its kernels run on the CPU, and what the host would wait for is noted.

    python -m tests.virtual_genesis NAME ...    prints what was seen of these environments, as JSON

Genesis starts once in a process, so that a test runs this in a process of its own.
"""

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch

from biped.base.cuda_graph import CudaGraph
from biped.env.env import make_env
from biped.sim.quick_import import knowing_frozen_files
from tests.virtual_device import CPU, CUDA, VirtualCuda, place_of, put, tensors_in

STEPS = 12


@contextlib.contextmanager
def virtual_genesis(gpu: VirtualCuda) -> Iterator[None]:
    """Have Genesis start on the virtual GPU `gpu`, and note its kernels and waits there."""
    with knowing_frozen_files():
        import genesis as gs
    from genesis.engine.scene import Scene
    from quadrants.lang.kernel import Kernel
    from torch.utils import dlpack

    start, build, launch, view = gs.init, Scene.build, Kernel.__call__, dlpack.from_dlpack

    @contextlib.contextmanager
    def as_on_the_cpu() -> Iterator[None]:
        """For what compiles kernels."""
        gs.backend = gs.cpu
        try:
            with gpu.unseen():
                yield
        finally:
            gs.backend = gs.cuda

    def virtual_start(backend: Any = None, **settings: Any) -> None:
        del backend
        with as_on_the_cpu():
            start(backend=gs.cpu, **settings)
        gs.device = CUDA

    def virtual_build(scene: Any, *args: Any, **kwargs: Any) -> None:
        with as_on_the_cpu():
            build(scene, *args, **kwargs)

    def virtual_launch(kernel: Any, *args: Any, **kwargs: Any) -> Any:
        from_host = [tuple(tensor.shape) for tensor in tensors_in(args) if place_of(tensor) == CPU and tensor.numel()]
        name = kernel.func.__name__
        if from_host:
            gpu.note_wait(f"{name} is given arrays {from_host} of the host")
        gpu.note_launch(f"genesis.{name}")
        with gpu.off():
            found = launch(kernel, *args, **kwargs)
        if found is not None:
            gpu.note_wait(f"{name} returns a number")
        return found

    def virtual_view(capsule: Any) -> torch.Tensor:
        with gpu.off():
            return put(view(capsule), CUDA)

    with (
        mock.patch.object(gs, "init", virtual_start),
        mock.patch.object(Scene, "build", virtual_build),
        mock.patch.object(Kernel, "__call__", virtual_launch),
        mock.patch.object(dlpack, "from_dlpack", virtual_view),
    ):
        yield


def watch(name: str) -> dict[str, Any]:
    """Return waits, what was made on the CPU, and Genesis's kernels per step, of an environment of `test_gpu_paths`;
    and of the same as CUDA graphs, whether it gives the same bits, and all launches per step.
    """
    from tests.test_gpu_paths import ENVIRONMENTS, ROBOTS, leaves

    with VirtualCuda() as gpu, virtual_genesis(gpu):
        plain, quick = (make_env(ENVIRONMENTS[name], CUDA, seed=3) for _ in range(2))
        quick.use_graphs(CudaGraph)
        for env in (plain, quick):
            env.reset(seed=0)
        actions = torch.zeros(ROBOTS, len(plain.cfg.robot.joint_names), device=CUDA)
        same, finite = True, True
        for step in range(2 * STEPS):
            counts = step >= STEPS
            with gpu.region("steps" if counts else "before") as seen:
                wanted = list(leaves(plain.step(actions)[:4]))
            with gpu.region("graphs" if counts else "before") as graphs:
                found = list(leaves(quick.step(actions)[:4]))
            same &= all(bool((one == other).all().cpu()) for one, other in zip(wanted, found, strict=True))
            finite &= all(bool(torch.isfinite(part).all().cpu()) for part in wanted)
    of_genesis = {kernel: count / STEPS for kernel, count in seen.kernels.items() if kernel.startswith("genesis.")}
    return {
        "waits": dict(seen.waits),
        "waits_of_graphs": dict(graphs.waits),
        "on_the_cpu": dict(seen.on_the_cpu),
        "kernels": of_genesis,
        "finite": finite,
        "same": same,
        "launches": graphs.launched() / STEPS,
    }


if __name__ == "__main__":
    print(json.dumps({name: watch(name) for name in sys.argv[1:]}))
