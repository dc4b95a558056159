"""Plots of recorded episodes, sweeps and replays: gait, joints, velocity, torque. Each function draws one figure."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from biped.config.task import EnvConfig
from biped.eval.figures import envelope_exceeded, steady_contacts
from biped.eval.recording import Recording
from biped.eval.replay import Array, Measured, Replay, growth
from biped.eval.robustness import Sweep
from biped.mdp.gait import GaitReference, swing_height, wanted_contacts
from biped.robot.actuators import Motors, available_torque
from biped.view.figures import make_figure
from biped.view.smoothing import moving_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GAIT_S, JOINTS_S = 5.0, 3.0
"""Length of the parts of an episode in the gait diagram and in the joint angles (s)."""
FEET = ("left", "right")
_COLOURS = ("tab:blue", "tab:orange")
_SIZE = (9.0, 3.2)


def most_typical(record: Recording) -> int:
    """Return the unfallen episode with a forward command of medium speed; else the longest episode."""
    vx, vy, wz = record.command.T
    lasted = ~record.fell & (vx > 0.15)
    if not lasted.any():
        return int(np.argmax(record.running.sum(axis=0)))
    distance = np.abs(vx - np.median(vx[lasted])) + np.abs(vy) + 0.5 * np.abs(wz)
    return int(np.argmin(np.where(lasted, distance, np.inf)))


def _times(record: Recording, robot: int) -> NDArray[np.floating]:
    """Return the time of each step of an episode, (steps of the episode,), s."""
    return record.dt_s * np.arange(1, int(record.running[:, robot].sum()) + 1)


def _window(times: NDArray[np.floating], seconds: float) -> slice:
    """Return the middle part of an episode with this length."""
    if not len(times) or times[-1] <= seconds:
        return slice(0, len(times))
    count = round(len(times) * seconds / times[-1])
    first = (len(times) - count) // 2
    return slice(first, first + count)


def gait_diagram(record: Recording, robot: int, cfg: EnvConfig) -> "Figure":
    """Draw bars while a foot is on the ground, and thin bars below while the gait clock prescribes it.

    Hildebrand 1965, "Symmetrical gaits of horses".
    """
    times = _times(record, robot)
    part = _window(times, GAIT_S)
    contacts = steady_contacts(record)[part, robot]
    phase = torch.from_numpy(record.phase[part, robot])
    wanted = wanted_contacts(swing_height(phase, cfg.gait.swing_share)).numpy()
    figure, axis = make_figure(figsize=_SIZE, layout="constrained")
    for foot, (name, colour) in enumerate(zip(FEET, _COLOURS, strict=True)):
        for start_s, length_s in stances(contacts[:, foot], record.dt_s):
            axis.barh(1 - foot, length_s, left=times[part][0] + start_s, height=0.45, color=colour)
        for start_s, length_s in stances(wanted[:, foot], record.dt_s):
            axis.barh(0.7 - foot, length_s, left=times[part][0] + start_s, height=0.08, color="0.6")
        axis.text(times[part][0], 1.3 - foot, f" {name}: {contacts[:, foot].mean():.0%} on the ground", fontsize=8)
    both = contacts.all(axis=1).mean()
    edges = (times[part][0], times[part][-1] + record.dt_s)
    axis.set(yticks=[1, 0], yticklabels=FEET, ylim=(-0.5, 1.6), xlabel="time (s)", xlim=edges)
    axis.set_title(f"gait: both feet on the ground {both:.0%}, neither {(~contacts).all(axis=1).mean():.0%}")
    return figure


def stances(contacts: NDArray[np.bool_], dt_s: float) -> list[tuple[float, float]]:
    """Return start and length of each uninterrupted ground contact (s); `contacts` is (num_steps,)."""
    edges = np.diff(np.concatenate(([False], contacts, [False])).astype(np.int8))
    starts, ends = np.nonzero(edges == 1)[0], np.nonzero(edges == -1)[0]
    return [(float(dt_s * start), float(dt_s * (end - start))) for start, end in zip(starts, ends, strict=True)]


def reference_rad(record: Recording, robot: int, cfg: EnvConfig) -> NDArray[np.float32]:
    """Return the gait's reference positions of the six pitch joints, (num_steps, 6), rad."""
    reference = GaitReference.build(cfg.gait, cfg.robot, torch.device("cpu"))
    return reference.at(torch.from_numpy(record.phase[:, robot])).numpy()


def joint_angles(record: Recording, robot: int, cfg: EnvConfig) -> "Figure":
    """Draw the six pitch joints and their reference, which the gait reward compares."""
    times = _times(record, robot)
    part = _window(times, JOINTS_S)
    wanted = reference_rad(record, robot, cfg)
    figure, axes = make_figure(2, 3, figsize=(9.0, 4.6), sharex=True, layout="constrained")
    for number, (axis, name) in enumerate(zip(axes.flat, cfg.robot.swing_joints, strict=True)):
        joint = cfg.robot.joint_names.index(name)
        axis.plot(times[part], wanted[part, number], "--", color="0.5", linewidth=1, label="reference")
        axis.plot(times[part], record.joint_pos_rad[part, robot, joint], color=_COLOURS[number // 3], label="actual")
        axis.set_title(name, fontsize=9)
        axis.grid(alpha=0.3)
    axes[0, 0].legend(fontsize=7)
    figure.supxlabel("time (s)", fontsize=9)
    figure.supylabel("rad", fontsize=9)
    return figure


def velocities(record: Recording, robot: int) -> "Figure":
    """Draw the velocities of the base and their commands."""
    times = _times(record, robot)
    achieved = np.concatenate((record.base_lin_vel_b[..., :2], record.base_ang_vel_b[..., 2:]), axis=-1)
    figure, axes = make_figure(3, 1, figsize=(9.0, 4.6), sharex=True, layout="constrained")
    labels = ("forward (m/s)", "left (m/s)", "yaw rate (rad/s)")
    for index, (axis, label) in enumerate(zip(axes, labels, strict=True)):
        axis.plot(times, achieved[: len(times), robot, index], linewidth=0.9)
        axis.axhline(record.command[robot, index], color="tab:red", linestyle="--", linewidth=1)
        axis.set_ylabel(label, fontsize=8)
        axis.grid(alpha=0.3)
    axes[0].set_title("velocity of the base, and what is commanded (dashed)", fontsize=10)
    axes[-1].set_xlabel("time (s)")
    return figure


def velocity_estimate(record: Recording, robot: int) -> "Figure":
    """Draw the policy's predictions of velocity and height of the base, and the true values."""
    times = _times(record, robot)[:-1]
    part = _window(times, GAIT_S)
    truth = np.concatenate((record.base_lin_vel_b, record.base_pos_w[..., 2:]), axis=-1)[: len(times), robot]
    guess = record.estimate[1 : len(times) + 1, robot]
    figure, axes = make_figure(4, 1, figsize=(9.0, 5.6), sharex=True, layout="constrained")
    labels = ("forward (m/s)", "left (m/s)", "up (m/s)", "height (m)")
    for index, (axis, label) in enumerate(zip(axes, labels, strict=True)):
        axis.plot(times[part], truth[part, index], color="0.5", linewidth=1, label="truth")
        axis.plot(times[part], guess[part, index], color=_COLOURS[1], linewidth=0.9, label="the policy's guess")
        error = np.sqrt(np.mean(np.square(guess[:, index] - truth[:, index])))
        axis.set_title(f"off by {error:.3f} (root mean square)", fontsize=8, loc="right")
        axis.set_ylabel(label, fontsize=8)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=7, ncols=2, loc="lower left", bbox_to_anchor=(0.0, 1.0))
    axes[-1].set_xlabel("time (s)")
    return figure


def torque_speed(record: Recording, cfg: EnvConfig) -> "Figure":
    """Draw torque over speed in the torque's direction, with the limit, in all episodes: a panel per kind of motor."""
    motors, on = cfg.robot.motors, record.running
    kinds = [tuple(i for i, motor in enumerate(motors) if motor == kind) for kind in dict.fromkeys(motors)]
    size = (1.0 + 5.0 * len(kinds), 4.2)
    figure, axes = make_figure(1, len(kinds), figsize=size, layout="constrained", squeeze=False)
    for axis, joints in zip(axes[0], kinds, strict=True):
        motor = motors[joints[0]]
        torque = record.joint_torque_nm[on][:, joints]
        speed, size = record.joint_vel_rad_s[on][:, joints] * np.sign(torque), np.abs(torque)
        most_rad_s, most_nm = motor.velocity_limit_rad_s * 1.2, motor.effort_limit_nm * 1.1
        extent = ((-most_rad_s, most_rad_s), (0, most_nm))
        grid = axis.hist2d(speed.ravel(), size.ravel(), bins=90, range=extent, norm="log")
        figure.colorbar(grid[3], label="joint steps")
        speeds = torch.linspace(-most_rad_s, most_rad_s, 200, dtype=torch.float32)
        limits = Motors.build(cfg.robot).of(joints[0])
        axis.plot(speeds, available_torque(torch.ones_like(speeds), speeds, limits), color="tab:red", label="limit")
        names = motor.servo or ", ".join(cfg.robot.joint_names[joint] for joint in joints[:3])
        axis.set(xlabel="speed (rad/s): braking | driving", ylabel="torque (N·m)")
        axis.set_title(names if len(kinds) > 1 else "", fontsize=8)
        axis.legend(fontsize=8)
    figure.suptitle(f"{envelope_exceeded(record, cfg.robot):.2%} beyond the motors", fontsize=11)
    return figure


def reward_breakdown(record: Recording, robot: int) -> "Figure":
    """Draw the reward of each term over an episode, as means over half a second, per second."""
    times = _times(record, robot)
    width = max(1, round(0.5 / record.dt_s)) | 1
    figure, axis = make_figure(figsize=(9.0, 4.2), layout="constrained")
    order = np.argsort(-np.abs(record.rewards[: len(times), robot]).mean(axis=0))
    for number, term in enumerate(order):
        paid = record.rewards[: len(times), robot, term] / record.dt_s
        mean = moving_mean(paid, width)
        style = "-" if number < 10 else "--"
        axis.plot(times, mean, style, linewidth=1, label=f"{record.reward_names[term]} {paid.mean():+.2f}")
    axis.set(xlabel="time (s)", ylabel="reward (1/s)", title="what each term pays, and its mean")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def draw_all(record: Recording, cfg: EnvConfig, folder: Path) -> dict[str, Path]:
    """Draw every plot as a PNG into a folder; return their titles and paths.

    Raises:
        OSError: the disk refuses the write.
    """
    if not record.running.any():  # every episode ended with its first step
        return {}
    robot = most_typical(record)
    drawings: dict[str, tuple[str, Callable[[], Figure]]] = {
        "gait diagram": ("gait", lambda: gait_diagram(record, robot, cfg)),
        "joint angles and the sinusoidal reference": ("joints", lambda: joint_angles(record, robot, cfg)),
        "commanded and actual velocity": ("velocity", lambda: velocities(record, robot)),
        "torque and speed of the motors": ("torque", lambda: torque_speed(record, cfg)),
        "reward over an episode": ("rewards", lambda: reward_breakdown(record, robot)),
    }
    if record.estimate.shape[-1] and record.running[:, robot].sum() > 1:
        title = "velocity and height as the policy takes them to be"
        drawings[title] = ("estimate", lambda: velocity_estimate(record, robot))
    files = {}
    for title, (name, draw) in drawings.items():
        figure = draw()
        files[title] = folder / f"{name}.png"
        figure.savefig(files[title], dpi=90)
    return files


_COLUMNS = 3


def draw_robustness(found: Sequence[Sweep], title: str, file: Path) -> None:
    """Draw survival along each axis, with the model's own value marked.

    Raises:
        OSError: the disk refuses the write.
    """
    rows = -(-len(found) // _COLUMNS)
    figure, panels = make_figure(rows, _COLUMNS, figsize=(3.2 * _COLUMNS, 2.6 * rows), sharey=True, squeeze=False)
    for panel, sweep in zip(panels.flat, found, strict=False):
        if sweep.axis.nominal is not None:
            panel.axvline(sweep.axis.nominal, color="0.8", linewidth=1)
        panel.axhline(0.95, color="tab:green", linewidth=0.8, linestyle=":")
        panel.plot(sweep.axis.levels, sweep.survival, marker="o", markersize=4)
        if sweep.survival_each is not None:
            panel.plot(sweep.axis.levels, sweep.survival_each, "--", linewidth=1, label="each one")
            panel.legend(fontsize=8, loc="lower left")
        panel.set_xlabel(f"{sweep.axis.name} ({sweep.axis.unit})", fontsize=9)
        panel.set_ylim(-0.03, 1.03)
        panel.grid(alpha=0.3)
    for panel in panels.flat[len(found) :]:
        panel.axis("off")
    for row in panels:
        row[0].set_ylabel("episodes without a fall", fontsize=9)
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(file, dpi=120)


_COLOUR_OF = {"mujoco": "tab:blue", "genesis": "tab:orange"}
_LONGEST_INCHES = 40.0


def replayed_joints(names: Sequence[str], measured: Measured, replays: Sequence[Replay]) -> "Figure":
    """Draw each joint's position over time, measured and replayed."""
    figure, axes = make_figure(len(names), 1, figsize=_long(measured, 1.7 * len(names)), layout="constrained")
    for joint, (axis, name) in enumerate(zip(np.atleast_1d(axes), names, strict=True)):
        axis.plot(measured.time_s, measured.targets_rad[:, joint], ":", color="0.6", linewidth=0.8, label="target")
        axis.plot(measured.time_s, measured.pos_rad[:, joint], color="black", linewidth=0.9, label="measured")
        for found in replays:
            _draw_windows(axis, measured, found, found.pos_rad[..., joint])
        axis.set_title(name, fontsize=9, loc="left")
        axis.set_ylabel("rad", fontsize=8)
        axis.grid(alpha=0.3)
    first, last = np.atleast_1d(axes)[[0, -1]]
    first.legend(fontsize=7, ncols=4, loc="lower right", bbox_to_anchor=(1.0, 1.0))
    last.set_xlabel("time (s)")
    return figure


def replayed_base(measured: Measured, replays: Sequence[Replay]) -> "Figure":
    """Draw gravity's direction and the angular velocity over time, measured and replayed."""
    figure, axes = make_figure(6, 1, figsize=_long(measured, 10.0), sharex=True, layout="constrained")
    for index, axis in enumerate(axes):
        part, what = index % 3, index // 3
        axis_name = "xyz"[part]
        axis.plot(
            measured.time_s, (measured.gravity_b, measured.ang_vel_b)[what][:, part], color="black", linewidth=0.9
        )
        for found in replays:
            _draw_windows(axis, measured, found, (found.gravity_b, found.ang_vel_b)[what][..., part])
        axis.set_ylabel(f"gravity {axis_name}" if what == 0 else f"{axis_name} (rad/s)", fontsize=8)
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("time (s)")
    return figure


def replay_growth(measured: Measured, told: Replay, replays: Sequence[Replay]) -> "Figure":
    """Draw the error over all joints by the time since the start of a window."""
    figure, axis = make_figure(figsize=(9.0, 3.2), layout="constrained")
    for found in replays:
        error = growth(found, told)
        times = measured.dt_s * np.arange(len(error))
        axis.plot(times, error, color=_COLOUR_OF[found.sim], label=found.sim)
    axis.set(xlabel="time since the window's start (s)", ylabel="rad (root mean square)", ylim=(0.0, None))
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)
    return figure


def _draw_windows(axis: Any, measured: Measured, found: Replay, values: Array) -> None:
    """Draw one line per window: it begins on what was measured."""
    for number, window in enumerate(found.windows):
        rows = slice(window.first, window.first + window.steps + 1)
        label = found.sim if number == 0 else None
        drawn = values[number, : window.steps + 1]
        axis.plot(measured.time_s[rows], drawn, color=_COLOUR_OF[found.sim], linewidth=0.8, label=label)


def _long(measured: Measured, height: float) -> tuple[float, float]:
    return min(_LONGEST_INCHES, max(9.0, 1.2 * float(np.ptp(measured.time_s)))), height
