"""A policy's gait beside the clip that it was to move like: joints and feet over the stride, the base's spectrum."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from biped.base.errors import MachineError, UsageError, warn
from biped.config.run import Config
from biped.config.task import EnvConfig
from biped.eval.figures import SETTLE_S
from biped.eval.motion import distances_rad, motion_of
from biped.eval.recording import Recording
from biped.robot.motion import Motion
from biped.robot.motion_files import clip_of
from biped.sim.mujoco_kinematics import MujocoKinematics
from biped.view.figures import make_figure
from biped.view.plots import FEET, most_typical

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
BINS = 50
"""Points of a mean stride."""
SHORTEST_S, LONGEST_S = 0.3, 2.0
"""Range of a stride's duration (s)."""
COMPARED_S = 6.0
"""Length of the part of an episode that is compared, from `SETTLE_S` on (s)."""
_CLIP = {"color": "0.45", "linestyle": "--", "label": "clip"}


@dataclass(frozen=True)
class Strides:
    """A motion folded into its mean stride."""

    period_s: float
    """Duration of a stride (s)."""
    joint_pos_rad: Array
    """Mean stride of the joints, (BINS, num_joints), rad."""
    foot_height_m: Array
    """Mean stride of the soles' heights, (BINS, 2), m: left, right."""

    def rolled(self, bins: int) -> "Strides":
        """Return the stride that begins elsewhere."""
        return Strides(
            self.period_s, np.roll(self.joint_pos_rad, bins, axis=0), np.roll(self.foot_height_m, bins, axis=0)
        )


def period_of(values: Array, dt_s: float) -> float:
    """Return the period of signals (T, n), s: where their autocorrelation is highest, between its neighbours.

    A multiple of the period correlates as well; so the shortest within a tenth of the best counts.
    """
    centred = values - values.mean(axis=0)
    lags = np.arange(round(SHORTEST_S / dt_s), min(round(LONGEST_S / dt_s), len(values) - 2) + 1)
    if not len(lags) or not centred.any():
        return SHORTEST_S
    scores = np.array([(centred[lag:] * centred[:-lag]).sum() / (len(values) - lag) for lag in lags])
    peaks = [i for i in range(1, len(lags) - 1) if scores[i - 1] < scores[i] >= scores[i + 1]] or [int(scores.argmax())]
    best = max(scores[i] for i in peaks)
    first = next(i for i in peaks if scores[i] >= 0.9 * best or scores[i] == best)
    shift = 0.0
    if 0 < first < len(lags) - 1:
        before, here, after = scores[first - 1 : first + 2]
        shift = 0.5 * (before - after) / (before - 2.0 * here + after)
    return float((lags[first] + shift) * dt_s)


def folded(values: Array, times_s: Array, period_s: float) -> Array:
    """Return the mean of signals (T, n) over the stride, (BINS, n), by interpolation in each of the strides."""
    count = int((times_s[-1] - times_s[0]) / period_s + 1e-6)
    phases = np.arange(BINS) / BINS
    if count < 1:
        return np.repeat(values.mean(axis=0)[None], BINS, axis=0)
    starts = times_s[0] + period_s * np.arange(count)
    grid = (starts[:, None] + period_s * phases).ravel()
    at = np.stack([np.interp(grid, times_s, column) for column in values.T], axis=1)
    return at.reshape(count, BINS, -1).mean(axis=0)


def strides_of(motion: Motion, body: MujocoKinematics) -> Strides:
    """Return the mean stride of a motion."""
    dt_s = motion.length_s / (len(motion) - 1)
    period = period_of(motion.joint_pos_rad, dt_s)
    heights = sole_heights(motion, body)
    return Strides(period, folded(motion.joint_pos_rad, motion.time_s, period), folded(heights, motion.time_s, period))


def sole_heights(motion: Motion, body: MujocoKinematics) -> Array:
    """Return the heights of the centres of the soles over the ground, (T, 2), m."""
    centres = body.soles(motion.joint_pos_rad).mean(axis=2)
    w, x, y, z = motion.base_quat_w.T
    # The bottom row of the rotation matrix.
    up = np.stack((2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)), axis=1)
    return motion.base_pos_w[:, 2:] + (centres * up[:, None]).sum(axis=2)


def aligned(clip: Strides, done: Strides) -> Strides:
    """Return the clip's stride, begun where it fits the other one best."""
    errors = [np.abs(np.roll(clip.joint_pos_rad, bins, axis=0) - done.joint_pos_rad).sum() for bins in range(BINS)]
    return clip.rolled(int(np.argmin(errors)))


def spectrum(motion: Motion) -> tuple[Array, Array]:
    """Return frequencies (n,), Hz, and amplitudes of the base's height (n,), mm, by a Hann window."""
    heights = motion.base_pos_w[:, 2] - motion.base_pos_w[:, 2].mean()
    window = np.hanning(len(heights) + 2)[1:-1]
    amplitudes = 2.0 * np.abs(np.fft.rfft(window * heights)) / window.sum()
    frequencies: Array = np.fft.rfftfreq(len(heights), motion.length_s / (len(motion) - 1)).astype(np.float64)
    return frequencies, 1000.0 * amplitudes


def joints_figure(clip: Strides, done: Strides, cfg: EnvConfig, title: str) -> "Figure":
    """Draw the joints that swing over the stride."""
    names = cfg.robot.swing_joints
    figure, axes = make_figure(2, len(names) // 2, figsize=(9.0, 4.6), sharex=True, layout="constrained")
    phases = np.arange(BINS) / BINS
    for axis, name in zip(axes.flat, names, strict=True):
        joint = cfg.robot.joint_names.index(name)
        axis.plot(phases, clip.joint_pos_rad[:, joint], **_CLIP)
        axis.plot(phases, done.joint_pos_rad[:, joint], label="policy")
        axis.set_title(name, fontsize=9)
        axis.grid(alpha=0.3)
    axes.flat[0].legend(fontsize=7)
    figure.suptitle(title, fontsize=10)
    figure.supxlabel(f"stride (policy {done.period_s:.2f} s, clip {clip.period_s:.2f} s)", fontsize=9)
    figure.supylabel("rad", fontsize=9)
    return figure


def body_figure(clip: Strides, done: Strides, spectra: Sequence[tuple[Array, Array]]) -> "Figure":
    """Draw the feet over the stride, and the spectrum of the base's height: `spectra` are the clip's, the policy's."""
    figure, axes = make_figure(1, 3, figsize=(9.0, 3.0), layout="constrained")
    phases = np.arange(BINS) / BINS
    for foot, name in enumerate(FEET):
        axes[foot].plot(phases, 1000.0 * clip.foot_height_m[:, foot], **_CLIP)
        axes[foot].plot(phases, 1000.0 * done.foot_height_m[:, foot], label="policy")
        axes[foot].set(title=f"{name} sole (mm)", xlabel="stride")
    for (frequencies, amplitudes), how in zip(spectra, (_CLIP, {"label": "policy"}), strict=True):
        axes[2].plot(frequencies, amplitudes, **how)
    axes[2].set(title="base's height (mm)", xlabel="Hz", xlim=(0.0, 8.0))
    axes[2].legend(fontsize=7)
    for axis in axes:
        axis.grid(alpha=0.3)
    return figure


def draw_beside_clip(record: Recording, config: Config, folder: Path) -> dict[str, Path]:
    """Draw a typical episode beside the clip of the configuration that it is nearest to; return titles and paths.

    Nothing is drawn without clips, or if no episode lasts; a line says so if a clip is not there any more.

    Raises:
        OSError: the disk refuses the write.
    """
    cfg = config.env
    files = [file for file in (*config.style.motions, cfg.imitation.motion) if file]
    if not files:
        return {}
    try:
        length_s = min(COMPARED_S, record.dt_s * (len(record.running) - 1) - SETTLE_S)
        done = motion_of(record, cfg.robot.joint_names, most_typical(record), SETTLE_S, length_s)
        clips = {file: clip_of(file, cfg.robot.joint_names, record.dt_s) for file in files}
        body = MujocoKinematics(cfg)
    except (UsageError, MachineError) as error:
        warn(f"the gait is not drawn beside the clip: {error}")
        return {}
    far = {file: float(np.mean(list(distances_rad(clip, done).values()))) for file, clip in clips.items()}
    nearest = min(far, key=far.__getitem__)
    ours, theirs = strides_of(done, body), strides_of(clips[nearest], body)
    theirs = aligned(theirs, ours)
    title = f"{Path(nearest).name}, on average {far[nearest]:.3f} rad away by dynamic time warping"
    drawn = {
        f"joints beside the clip {Path(nearest).stem}": ("clip_joints", joints_figure(theirs, ours, cfg, title)),
        f"feet and base beside the clip {Path(nearest).stem}": (
            "clip_body",
            body_figure(theirs, ours, (spectrum(clips[nearest]), spectrum(done))),
        ),
    }
    for name, figure in drawn.values():
        figure.savefig(folder / f"{name}.png", dpi=90)
    return {said: folder / f"{name}.png" for said, (name, _) in drawn.items()}
