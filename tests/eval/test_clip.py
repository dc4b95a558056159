"""A clip of one robot among many: what it holds, and that taking it neither waits nor changes anything."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from biped.env.env import BipedEnv, make_env
from biped.eval.clip import MOST_STEPS, ClipRecorder
from biped_config import cpu_preset
from tests.stub_scene import StubScene
from tests.virtual_device import CUDA, VirtualCuda

ROBOTS = 3
CFG = replace(cpu_preset().env, num_envs=ROBOTS)


@pytest.fixture
def env() -> Iterator[BipedEnv]:
    built = make_env(CFG, sim="mujoco", seed=5)
    yield built
    built.close()


def actions(step: int) -> torch.Tensor:
    return torch.randn(ROBOTS, 9, generator=torch.Generator().manual_seed(step))


def test_a_clip_is_what_its_robot_did_step_by_step(env: BipedEnv) -> None:
    recorder, seen = ClipRecorder(env), []
    assert recorder.take() is None
    for step in range(6):
        env.step(actions(step))
        recorder.add(1)
        seen.append((env.state, env.command, env.contacts, env.reward_shares))
    clip = recorder.take()
    assert clip is not None
    assert (len(clip), clip.robot, clip.length_s) == (6, 1, pytest.approx(6 * CFG.sim.control_dt_s))
    for step, (state, command, contacts, shares) in enumerate(seen):
        for name in ("base_pos_w", "base_quat_w", "joint_pos_rad", "base_lin_vel_b", "base_ang_vel_b"):
            assert np.array_equal(getattr(clip, name)[step], getattr(state, name)[1].numpy()), name
        assert np.array_equal(clip.command[step], command[1].numpy())
        assert np.array_equal(clip.contacts[step], contacts[1].numpy())
        assert np.array_equal(clip.rewards[step], shares[1].numpy())
    wanted = torch.stack([shares[1] for *_, shares in seen]).mean(dim=0) / CFG.sim.control_dt_s
    assert list(clip.reward_rates) == list(env.reward_names)
    assert list(clip.reward_rates.values()) == pytest.approx(wanted.tolist(), rel=1e-5)
    assert recorder.take() is None, "it was taken"


def test_of_another_robot_a_clip_begins_anew_and_none_grows_without_end(env: BipedEnv) -> None:
    recorder = ClipRecorder(env)
    for robot in (0, 0, 2):
        recorder.add(robot)
    clip = recorder.take()
    assert clip is not None
    assert (len(clip), clip.robot) == (1, 2)
    for _ in range(MOST_STEPS + 3):
        recorder.add(2)
    clip = recorder.take()
    assert clip is not None
    assert len(clip) == MOST_STEPS


def test_gathering_a_step_on_a_gpu_makes_the_host_wait_for_nothing_and_taking_a_clip_does_once() -> None:
    with VirtualCuda() as gpu:
        env = BipedEnv(CFG, StubScene(CFG, CUDA), seed=3)
        recorder = ClipRecorder(env)
        with gpu.region("adding") as adding:
            for _ in range(4):
                recorder.add(1)
        assert not adding.waits
        assert not adding.on_the_cpu
        with gpu.region("taking") as taking:
            assert recorder.take() is not None
        assert sum(taking.waits.values()) == 1


def test_a_robot_that_is_gathered_goes_the_same_way_to_the_last_bit(env: BipedEnv) -> None:
    ways = []
    for is_gathered in (False, True):
        env.reset(seed=2)
        recorder, way = ClipRecorder(env), []
        for step in range(12):
            observations, rewards, *_ = env.step(actions(step))
            if is_gathered:
                recorder.add(0)
            way += [*(observations.values() if isinstance(observations, dict) else [observations]), rewards]
        recorder.take()
        ways.append(way)
    assert all(torch.equal(one, other) for one, other in zip(*ways, strict=True))
