"""Trainings that are equal to the last bit on a GPU too, at some cost in speed."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""Environment variable by which cuBLAS adds in a fixed order; read when it starts."""


@contextlib.contextmanager
def determinism(wanted: bool) -> Iterator[None]:
    """Have torch use algorithms that add in a fixed order, or raise where it has none.

    On the CPU nothing changes: with one thread there, all algorithms are such. See "Reproducibility" in torch's notes.

    Args:
        wanted: whether to; if not, nothing is done.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault(WORKSPACE, ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    filled, tried = memory.fill_uninitialized_memory, torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    # Nothing is read here before it is written, and filling all of it would cost a kernel each.
    memory.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = filled
        torch.backends.cudnn.benchmark = tried
