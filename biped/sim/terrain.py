"""Fields of bumps, identical in every simulator."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biped.config.randomization import BumpsConfig
from biped.config.task import EnvConfig

FIRST_FIELD = 0.875
"""Distance from the origin, where robots on the plane start, to the edge of the first field, as a share of a field's
side: 14 m of 16 m is more than the biped walks in an episode of 20 s at 0.6 m/s."""
_SEED = 0


@dataclass(frozen=True)
class Terrain:
    """A height field on the plane z = 0; its corner with the smallest x and y is at `corner_m`."""

    heights_m: NDArray[np.float32]
    """Height at each point, (points along x, points along y); 0 around every field."""
    cell_m: float
    """Distance between neighbouring points (m)."""
    corner_m: tuple[float, float]
    """Position of the first point, x and y (m)."""

    @property
    def size_m(self) -> tuple[float, float]:
        """Extent along x and along y (m)."""
        along_x, along_y = self.heights_m.shape
        return (along_x - 1) * self.cell_m, (along_y - 1) * self.cell_m


def _cells(cfg: BumpsConfig) -> int:
    return max(2, round(cfg.field_m / cfg.cell_m))


def make_terrain(cfg: BumpsConfig) -> Terrain | None:
    """Return the fields in a row along x, or None if there are none.

    Heights are drawn uniformly between 0 and the field's maximum, with a fixed seed, so that runs can be compared.
    """
    if not cfg.heights_m:
        return None
    cells = _cells(cfg)
    heights = np.zeros((cells * len(cfg.heights_m) + 1, cells + 1), dtype=np.float32)
    generator = np.random.default_rng(_SEED)
    for index, height in enumerate(cfg.heights_m):
        inside = generator.uniform(0.0, height, (cells - 1, cells - 1))
        heights[index * cells + 1 : (index + 1) * cells, 1:-1] = inside
    return Terrain(heights, cfg.cell_m, (FIRST_FIELD * cfg.field_m, -0.5 * cells * cfg.cell_m))


def field_starts(cfg: EnvConfig, device: torch.device) -> Tensor:
    """Return the start position for each field index, (fields + 1, 3), m; the last row (-1) is the plane.

    The height is the maximum of the field's bumps, so that no robot starts in the ground.
    """
    bumps = cfg.randomization.bumps
    side = _cells(bumps) * bumps.cell_m
    first = FIRST_FIELD * bumps.field_m
    starts = [(first + (index + 0.5) * side, 0.0, height) for index, height in enumerate(bumps.heights_m)]
    return torch.tensor([*starts, (0.0, 0.0, 0.0)], device=device, dtype=torch.float32)
