"""Fields of bumps: what they are, and that both simulators have the same ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from biped.base.errors import ConfigError
from biped.config.randomization import BumpsConfig, RandomizationConfig
from biped.robot.rotations import quat_from_yaw
from biped.sim.scene import ResetPose, make_scene
from biped.sim.terrain import FIRST_FIELD, Terrain, field_starts, make_terrain
from biped_config import cpu_preset

CPU = torch.device("cpu")
FIELDS = BumpsConfig(heights_m=(0.01, 0.02), share=1.0, field_m=8.0)


def ground_m(terrain: Terrain, x: float, y: float) -> float:
    """Return the height under a point: cells are cut into two triangles along the diagonal where x + y is constant."""
    u, v = (x - terrain.corner_m[0]) / terrain.cell_m, (y - terrain.corner_m[1]) / terrain.cell_m
    i, j = int(np.floor(u)), int(np.floor(v))
    u, v, h = u - i, v - j, terrain.heights_m
    if u + v < 1:
        return h[i, j] + u * (h[i + 1, j] - h[i, j]) + v * (h[i, j + 1] - h[i, j])
    return h[i + 1, j + 1] + (1 - u) * (h[i, j + 1] - h[i + 1, j + 1]) + (1 - v) * (h[i + 1, j] - h[i + 1, j + 1])


def test_bumps_rise_to_the_height_of_their_field_and_are_flat_around_it() -> None:
    terrain = make_terrain(FIELDS)
    assert terrain is not None
    assert terrain.heights_m.shape == (65, 33)
    assert terrain.size_m == (16.0, 8.0)
    for field, height in enumerate(FIELDS.heights_m):
        inside = terrain.heights_m[32 * field + 1 : 32 * (field + 1), 1:-1]
        assert 0 <= inside.min() < 0.02 * height
        assert 0.98 * height < inside.max() <= height
        assert inside.mean() == pytest.approx(0.5 * height, rel=0.1)
    assert not terrain.heights_m[:, [0, -1]].any()
    assert not terrain.heights_m[[0, 32, 64]].any()
    again = make_terrain(FIELDS)
    assert again is not None
    assert np.array_equal(terrain.heights_m, again.heights_m), "each run has the same ground"
    assert make_terrain(BumpsConfig()) is None


def test_robots_start_over_the_middle_of_their_field_or_at_the_origin() -> None:
    cfg = replace(cpu_preset().env, randomization=RandomizationConfig(bumps=FIELDS))
    expected = [[7.0 + 4, 0, 0.01], [7.0 + 12, 0, 0.02], [0, 0, 0]]
    torch.testing.assert_close(field_starts(cfg, CPU), torch.tensor(expected))
    assert FIRST_FIELD * BumpsConfig().field_m > 20.0 * 0.6, "farther than the biped walks in an episode"


def test_heights_that_make_no_ground_are_refused() -> None:
    for bad in ((0.0,), (0.5,), (-0.01, 0.02)):
        with pytest.raises(ConfigError, match=r"heights_m is .* above 0 and at most 0\.2"):
            BumpsConfig(heights_m=bad)


def test_both_simulators_stand_on_the_same_bumps() -> None:
    count = 48
    cfg = replace(cpu_preset().env, num_envs=count, randomization=RandomizationConfig(bumps=FIELDS))
    field = torch.arange(count) % 3 - 1
    base = field_starts(cfg, CPU)[field]
    base[:, :2] += 4.0 * torch.rand(count, 2, generator=torch.Generator().manual_seed(1)) - 2.0
    base[:, 2] += cfg.robot.default_base_height_m
    yaw = 6.0 * torch.rand(count, generator=torch.Generator().manual_seed(2))
    joints = torch.tensor(cfg.robot.default_joint_pos_rad).repeat(count, 1)
    states = []
    for name in ("genesis", "mujoco"):
        scene = make_scene(name, cfg, CPU)
        scene.reset(torch.ones(count, dtype=torch.bool), ResetPose(base, quat_from_yaw(yaw), joints))
        for _ in range(50):
            state = scene.step(joints)
        assert not state.error.any()
        states.append(state)
        scene.close()
    genesis, mujoco = states
    torch.testing.assert_close(genesis.base_pos_w[:, 2], mujoco.base_pos_w[:, 2], atol=0.002, rtol=0.0)
    terrain = make_terrain(FIELDS)
    assert terrain is not None
    for state in states:
        torch.testing.assert_close(
            state.foot_force_n.sum(dim=1), torch.full((count,), 1.698 * 9.81), rtol=0.1, atol=0.0
        )
        on_plane, on_bumps = state.foot_pos_w[field == -1], state.foot_pos_w[field >= 0].flatten(0, 1)
        assert on_plane[..., 2].abs().max() < 0.001
        off = np.array([z - ground_m(terrain, x, y) for x, y, z in on_bumps.tolist()])
        # A sole lies on the highest points under it, and its middle a little above the ground, or, on a ridge, in it.
        assert -0.002 < off.min() <= off.max() < 0.006
        assert on_bumps[:, 2].mean() > 0.004
