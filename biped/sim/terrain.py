"""Fields of bumps, the same in every simulator."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biped.config.randomization import BumpsConfig
from biped.config.task import EnvConfig

FIRST_FIELD_M = 14.0
"""From the origin, where robots on the plane start, to the edge of the first field: further than an episode of
20 s leads at 0.6 m/s."""
_SEED = 0


@dataclass(frozen=True)
class Terrain:
    """A height field that stands on the plane z = 0; its corner with the least x and y is at `corner_m`."""

    heights_m: NDArray[np.float32]
    """Height at each point, (points along x, points along y); 0 around every field."""
    cell_m: float
    """Distance of two points (m)."""
    corner_m: tuple[float, float]
    """Where the first point is (m)."""

    @property
    def size_m(self) -> tuple[float, float]:
        """Extent along x and along y."""
        along_x, along_y = self.heights_m.shape
        return (along_x - 1) * self.cell_m, (along_y - 1) * self.cell_m


def _cells(cfg: BumpsConfig) -> int:
    return max(2, round(cfg.field_m / cfg.cell_m))


def make_terrain(cfg: BumpsConfig) -> Terrain | None:
    """Return the fields in a row along x, or None where there are none.

    Heights are drawn uniformly between 0 and the field's own; always the same ones, so that runs can be compared.
    """
    if not cfg.heights_m:
        return None
    cells = _cells(cfg)
    heights = np.zeros((cells * len(cfg.heights_m) + 1, cells + 1), dtype=np.float32)
    generator = np.random.default_rng(_SEED)
    for index, height in enumerate(cfg.heights_m):
        inside = generator.uniform(0.0, height, (cells - 1, cells - 1))
        heights[index * cells + 1 : (index + 1) * cells, 1:-1] = inside
    return Terrain(heights, cfg.cell_m, (FIRST_FIELD_M, -0.5 * cells * cfg.cell_m))


def field_starts(cfg: EnvConfig, device: torch.device) -> Tensor:
    """Return where robots start by the number of their field, (fields + 1, 3), m; the last row (-1) is the plane.

    The height is that of the field's bumps: nobody starts in the ground.
    """
    bumps = cfg.randomization.bumps
    side = _cells(bumps) * bumps.cell_m
    starts = [(FIRST_FIELD_M + (index + 0.5) * side, 0.0, height) for index, height in enumerate(bumps.heights_m)]
    return torch.tensor([*starts, (0.0, 0.0, 0.0)], device=device, dtype=torch.float32)
