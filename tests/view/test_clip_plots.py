"""A gait beside a clip: strides, spectra and heights by hand, and the pictures of a report."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biped.config.run import Config
from biped.config.style import StyleConfig
from biped.eval.motion import reference_motion
from biped.robot.motion import Motion
from biped.sim.mujoco_kinematics import MujocoKinematics
from biped.view.clip_plots import (
    BINS,
    Strides,
    aligned,
    draw_beside_clip,
    folded,
    period_of,
    sole_heights,
    spectrum,
    strides_of,
)
from tests.eval.walks import walk

CFG = Config()
NAMES = CFG.env.robot.joint_names


def clip(frequency_hz: float = 1.4, seconds: float = 6.0) -> Motion:
    cfg = replace(CFG.env, gait=replace(CFG.env.gait, frequency_hz=frequency_hz))
    return reference_motion(cfg, 0.4, seconds)


@given(st.floats(0.6, 2.4), st.floats(0.0, 6.28))
def test_the_period_is_found_and_not_a_multiple_of_it(frequency_hz: float, phase: float) -> None:
    time = 0.02 * np.arange(300)
    angle = 2.0 * math.pi * frequency_hz * time + phase
    signals = np.stack((np.sin(angle) + 0.3 * np.sin(2.0 * angle), 0.5 * np.cos(angle)), axis=1)
    assert period_of(signals, 0.02) == pytest.approx(1.0 / frequency_hz, rel=0.03)


def test_what_stands_still_has_some_period() -> None:
    assert period_of(np.ones((100, 3)), 0.02) > 0.0
    assert period_of(np.ones((4, 3)), 0.02) > 0.0
    assert folded(np.ones((10, 1)), 0.02 * np.arange(10), 5.0).tolist() == [[1.0]] * BINS


def test_strides_are_averaged_over_the_phase() -> None:
    time = 0.01 * np.arange(1001)
    values = np.stack((np.sin(2.0 * math.pi * time), time - np.floor(time) + (np.floor(time) % 2)), axis=1)
    found = folded(values, time, 1.0)
    np.testing.assert_allclose(found[:, 0], np.sin(2.0 * math.pi * np.arange(BINS) / BINS), atol=1e-3)
    # every other stride is 1 higher: 0.5 on average
    np.testing.assert_allclose(found[1:, 1], np.arange(1, BINS) / BINS + 0.5, atol=0.02)


def test_the_reference_strides_at_the_clocks_rate() -> None:
    body = MujocoKinematics(CFG.env)
    strides = strides_of(clip(1.25), body)
    assert strides.period_s == pytest.approx(0.8, rel=0.01)
    knee = NAMES.index("left_knee")
    assert strides.joint_pos_rad[:, knee].argmax() == pytest.approx(0.25 * BINS, abs=1)
    # a knee that bends by 0.5 rad, hip and ankle by 0.25, lifts the sole
    assert strides.foot_height_m[:, 0].argmax() == pytest.approx(0.25 * BINS, abs=1)
    assert strides.foot_height_m[:, 1].argmax() == pytest.approx(0.75 * BINS, abs=1)
    assert np.ptp(strides.foot_height_m[:, 0]) > 0.02


def test_soles_are_as_high_as_the_base_carries_them() -> None:
    body = MujocoKinematics(CFG.env)
    standing = clip(seconds=0.04)
    level = sole_heights(standing, body)
    np.testing.assert_allclose(level[0], 0.0, atol=0.01)
    raised = replace(standing, base_pos_w=standing.base_pos_w + np.array((0.0, 0.0, 0.1)))
    np.testing.assert_allclose(sole_heights(raised, body), level + 0.1)
    # rolled to the right by 0.1 rad, the left foot rises by 0.1 rad times the distance of the feet, but for the cosine
    roll = np.tile((math.cos(0.05), math.sin(0.05), 0.0, 0.0), (len(standing), 1))
    left, right = sole_heights(replace(standing, base_quat_w=roll), body)[0]
    apart = body.soles(standing.joint_pos_rad[:1]).mean(axis=2)[0]
    assert left - right == pytest.approx(math.sin(0.1) * (apart[0, 1] - apart[1, 1]), rel=1e-3)


def test_a_clip_is_begun_where_it_fits() -> None:
    wave = np.sin(2.0 * math.pi * np.arange(BINS) / BINS)[:, None]
    one = Strides(0.7, wave, np.zeros((BINS, 2)))
    other = Strides(0.9, np.roll(wave, 13, axis=0), np.zeros((BINS, 2)))
    np.testing.assert_allclose(aligned(other, one).joint_pos_rad, wave)
    assert aligned(other, one).period_s == 0.9


def test_the_spectrum_has_the_bounce_at_its_frequency() -> None:
    motion = clip(seconds=5.0)
    bounce = 0.007 * np.sin(2.0 * math.pi * 2.8 * motion.time_s)
    frequencies, amplitudes = spectrum(replace(motion, base_pos_w=motion.base_pos_w + bounce[:, None] * (0, 0, 1)))
    assert frequencies[amplitudes.argmax()] == pytest.approx(2.8, abs=0.1)
    assert amplitudes.max() == pytest.approx(7.0, rel=0.05)


def test_a_report_shows_the_clip_that_is_nearest(tmp_path: Path) -> None:
    record, files = walk(seconds=9.0), ("assets/motions/stand.csv", "assets/motions/walk.csv")
    styled = replace(CFG, style=StyleConfig(motions=files))
    drawn = draw_beside_clip(record, styled, tmp_path)
    assert len(drawn) == 2
    assert all(file.stat().st_size > 5000 for file in drawn.values())
    assert draw_beside_clip(record, CFG, tmp_path) == {}


def test_a_clip_that_is_gone_is_said_and_the_report_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    styled = replace(CFG, style=StyleConfig(motions=(str(tmp_path / "gone.csv"),)))
    assert draw_beside_clip(walk(seconds=9.0), styled, tmp_path) == {}
    assert "not drawn beside the clip: there is no motion" in capsys.readouterr().err
