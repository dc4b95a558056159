"""What is compared with a clip, and how a clip is followed: by hand, and mirrored."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biped.base.errors import ConfigError, UsageError
from biped.config.robot import JOINT_NAMES
from biped.config.style import ImitationConfig
from biped.config.task import EnvConfig
from biped.mdp.imitation import FEATURES, Features, Stride, steps_of_files, stride_of
from biped.mdp.rewards import TERMS, RewardModel
from biped.mdp.terminations import check_terminations
from biped.robot.motion import Motion
from biped.robot.motion_files import write_motion
from biped.robot.symmetry import mirror_joints
from tests.mdp.states import CONFIG, CPU, standing_inputs, standing_state

JOINTS = len(JOINT_NAMES)
ALL = Features(tuple(FEATURES), CONFIG.robot)
DT_S = CONFIG.sim.control_dt_s


def turning_clip(count: int = 40) -> Motion:
    """Robots that lean forward by 0.2 rad, walk ahead at 0.5 m/s and turn left by 1 rad/s."""
    time = DT_S * np.arange(count)
    yaw, lean = time, 0.2
    c, s = np.cos(yaw / 2), np.sin(yaw / 2)
    a, b = math.cos(lean / 2), math.sin(lean / 2)
    heading = np.stack((np.cos(yaw), np.sin(yaw)), axis=1)
    pos = np.zeros((count, 3))
    pos[1:, :2] = np.cumsum(0.5 * DT_S * heading[:-1], axis=0)
    pos[:, 2] = 0.4
    quat = np.stack((c * a, -s * b, c * b, s * a), axis=1)
    return Motion(time, pos, quat, JOINT_NAMES, np.tile(time[:, None], (1, JOINTS)))


def part(features: torch.Tensor, name: str) -> torch.Tensor:
    """Return one feature before a step, of all of them."""
    start = 0
    for one in FEATURES:
        width = FEATURES[one].of_state(standing_state()).shape[1]
        if one == name:
            return features[:, start : start + width]
        start += width
    raise KeyError(name)


def test_a_clip_has_the_features_of_a_robot_that_moves_so() -> None:
    found = ALL.of_frames(turning_clip(), DT_S)
    assert found.shape == (39, 2 * (JOINTS + 3 + 1 + 3 + 3))
    torch.testing.assert_close(part(found, "joint_pos")[:, 0], DT_S * torch.arange(39))
    # leaning forward, gravity points forward in the base
    down = torch.tensor((math.sin(0.2), 0.0, -math.cos(0.2))).expand(39, 3)
    torch.testing.assert_close(part(found, "projected_gravity"), down, atol=1e-5, rtol=0)
    assert part(found, "base_height").unique().tolist() == pytest.approx([0.4])
    ahead = torch.tensor((0.5 * math.cos(0.2), 0.0, 0.5 * math.sin(0.2))).expand(39, 3)
    torch.testing.assert_close(part(found, "base_lin_vel"), ahead, atol=1e-3, rtol=0)
    turns = torch.tensor((-math.sin(0.2), 0.0, math.cos(0.2))).expand(39, 3)
    torch.testing.assert_close(part(found, "base_ang_vel"), turns, atol=1e-3, rtol=0)


def test_a_step_is_before_and_after_side_by_side() -> None:
    clip = ALL.of_frames(turning_clip(), DT_S)
    before, after = clip.chunk(2, dim=1)
    assert torch.equal(before[1:], after[:-1])
    small = Features(("base_height",), CONFIG.robot)
    low, high = standing_state(2), standing_state(2, base_pos_w=torch.tensor([[0.0, 0.0, 0.5], [0.0, 0.0, math.nan]]))
    step = small.step(low, high, failed=torch.tensor([False, True]))
    torch.testing.assert_close(step, torch.tensor([[0.4, 0.5], [0.4, 0.4]]))


@pytest.mark.parametrize(
    "names", [tuple(FEATURES), ("base_ang_vel", "joint_pos"), ("projected_gravity", "base_height")]
)
def test_the_mirror_of_a_clips_features_are_those_of_its_mirror_image(names: tuple) -> None:
    features, clip = Features(names, CONFIG.robot), turning_clip()
    index, sign = features.mirror()
    image = features.of_frames(clip.mirrored(mirror_joints(CONFIG.robot)), DT_S)
    torch.testing.assert_close(features.of_frames(clip, DT_S)[:, index] * torch.tensor(sign), image, atol=1e-4, rtol=0)


def test_files_are_read_at_the_control_rate_and_mirrored(tmp_path: Path) -> None:
    write_motion(turning_clip(), tmp_path / "a.csv")
    write_motion(turning_clip().resampled(2 * DT_S), tmp_path / "b.npz")
    files = [str(tmp_path / "a.csv"), str(tmp_path / "b.npz")]
    assert len(steps_of_files(ALL, files, DT_S, mirrored=False)) == 39 + 38
    both = steps_of_files(ALL, files, DT_S, mirrored=True)
    assert len(both) == 2 * (39 + 38)
    index, sign = ALL.mirror()
    torch.testing.assert_close(both[77:], both[:77, index] * torch.tensor(sign))
    with pytest.raises(UsageError, match=r"none\.csv"):
        steps_of_files(ALL, [*files, str(tmp_path / "none.csv")], DT_S, mirrored=False)


def stride_file(folder: Path, length_s: float, gap_rad: float = 0.0) -> str:
    time = np.linspace(0.0, length_s, 29)
    joints = np.tile(0.3 * np.sin(2 * math.pi * time / length_s)[:, None], (1, JOINTS))
    joints[-1] += gap_rad
    pos, quat = np.tile((0.0, 0.0, 0.4), (29, 1)), np.tile((1.0, 0.0, 0.0, 0.0), (29, 1))
    write_motion(Motion(time, pos, quat, JOINT_NAMES, joints), folder / "stride.csv")
    return str(folder / "stride.csv")


def following(file: str, weight: float = 1.0, **changes: float) -> EnvConfig:
    weights = replace(CONFIG.reward.weights, imitation=weight)
    return replace(
        CONFIG, reward=replace(CONFIG.reward, weights=weights), imitation=ImitationConfig(motion=file, **changes)
    )


def test_following_a_stride_pays_by_the_mean_error_while_moving(tmp_path: Path) -> None:
    cfg = following(stride_file(tmp_path, 1 / CONFIG.gait.frequency_hz), scale_rad=0.1)
    model = RewardModel.build(cfg, CPU)
    pose = torch.full((1, JOINTS), 0.3)  # that of a quarter of the stride
    on_it = standing_inputs((0.4, 0, 0), phase=0.25, state=standing_state(joint_pos_rad=pose))
    assert TERMS["imitation"](on_it, model).item() == pytest.approx(1.0, abs=0.02)
    pose = pose.clone()
    pose[0, :3] += 0.3  # a third of nine joints: 0.1 on average
    off = standing_inputs((0.4, 0, 0), phase=0.25, state=standing_state(joint_pos_rad=pose))
    assert TERMS["imitation"](off, model).item() == pytest.approx(math.exp(-1.0), abs=0.01)
    still = standing_inputs((0, 0, 0), phase=0.25, state=standing_state(joint_pos_rad=pose))
    assert TERMS["imitation"](still, model).item() == 0.0


@given(st.floats(0.0, 1.0, exclude_max=True, width=32))
def test_a_stride_is_followed_between_its_frames_and_is_a_loop(phase: float) -> None:
    frames = torch.sin(2 * math.pi * torch.linspace(0, 1, 201))[:, None]
    stride = Stride(frames)
    assert stride.at(torch.tensor([phase])).item() == pytest.approx(math.sin(2 * math.pi * phase), abs=1e-3)
    assert stride.at(torch.tensor([0.0])).item() == pytest.approx(stride.at(torch.tensor([1.0])).item(), abs=1e-5)


def test_who_is_too_far_from_it_has_strayed_and_that_ends_the_episode_without_a_fall(tmp_path: Path) -> None:
    cfg = following(stride_file(tmp_path, 1 / CONFIG.gait.frequency_hz), max_error_rad=0.2)
    model, state = RewardModel.build(cfg, CPU), standing_state(3)
    pose = torch.full((3, JOINTS), 0.3)
    pose[1:] += 0.25
    state = replace(state, joint_pos_rad=pose)
    strayed = model.strayed(state, torch.full((3,), 0.25), torch.tensor([True, True, False]))
    assert strayed is not None
    assert strayed.tolist() == [False, True, False]
    ends = check_terminations(state, torch.ones(3), 1000, CONFIG.termination, strayed)
    assert ends.terminated.tolist() == ends.done.tolist() == [False, True, False]
    assert not ends.fell.any()
    without = RewardModel.build(following(cfg.imitation.motion), CPU)
    assert without.strayed(state, torch.full((3,), 0.25), torch.ones(3, dtype=torch.bool)) is None


def test_what_is_no_stride_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"lasts 1\.000 s, and a stride of the gait clock 0\.714 s: .*frequency_hz=1, "
    ):
        stride_of(following(stride_file(tmp_path, 1.0)), CPU)
    with pytest.raises(ConfigError, match=r"is no loop: left_hip_roll ends 0\.50 rad"):
        stride_of(following(stride_file(tmp_path, 1 / CONFIG.gait.frequency_hz, gap_rad=0.5)), CPU)
    with pytest.raises(ConfigError, match="names no clip"):
        following("")
    with pytest.raises(ConfigError, match="names no clip"):
        replace(CONFIG, imitation=ImitationConfig(max_error_rad=0.3))
    assert stride_of(CONFIG, CPU) is None
