"""Small commands on motion clips: show, check, record, convert and compare."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from biped.base.command_line import (
    DONE,
    LOGS,
    MACHINE,
    finite_number,
    input_name,
    path_name,
    path_or_address,
    port_number,
    positive_number,
    seed_number,
)
from biped.base.errors import UsageError
from biped.commands import Add

if TYPE_CHECKING:
    from biped.config.task import EnvConfig
    from biped.robot.motion import Motion

LONGEST_S = 600.0
"""Longest clip that is recorded (s)."""


def add_motion_commands(add: Add) -> None:
    """Add `motion` and its commands, with their flags."""
    commands = add("motion", _no_command, "Show, check, record, convert or compare motion clips.").add_subparsers(
        required=True, metavar="show|check|record|convert|compare"
    )
    for name, run, text in (
        ("show", show, "Show a clip in the browser."),
        ("check", check, "Say what a robot cannot do of a clip."),
        ("record", record, "Record a clip of a policy, or of the gait's sinusoidal reference."),
        ("convert", convert, "Convert a clip of a published data set or of another trainer."),
        ("compare", compare, "Say how far a motion is from a clip, by dynamic time warping of each joint."),
    ):
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.set_defaults(run=run)
        add_argument = command.add_argument
        if name == "record":
            _add_record_flags(command)
            continue
        add_argument("file", type=input_name, metavar="FILE", help="a motion, .csv or .npz")
        if name == "convert":
            _add_convert_flags(command)
        if name == "compare":
            add_argument("clip", type=input_name, metavar="CLIP", help="what it is compared with")
        add_argument("--robot", type=input_name, metavar="FILE", help="robot.json (default the biped)")
        if name == "show":
            add_argument("--port", type=port_number, metavar="N", help="port of the page (default 8080)")


def _add_record_flags(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--model", type=path_or_address, metavar="PATH", help="a checkpoint, with its config.json beside it")
    add("--reference", action="store_true", help="the gait's sinusoidal reference, instead of a policy")
    add("--robot", type=input_name, metavar="FILE", help="robot.json of the reference (default the biped)")
    numbers = ("VX", "VY", "WZ")
    add("--command", type=finite_number, nargs=3, default=[0.4, 0.0, 0.0], metavar=numbers, help="m/s, m/s, rad/s")
    add("--seconds", type=positive_number, default=4.0, metavar="S", help="length of the clip (default 4)")
    add("--stride", action="store_true", help="the mean of the strides in that time, a loop of the gait clock")
    add("--sim", choices=("genesis", "mujoco"), default="mujoco", help="the simulator (default mujoco)")
    add("--seed", type=seed_number, default=0, metavar="N", help="seed of the start (default 0)")
    add("--out", type=path_name, required=True, metavar="FILE", help="where to write it, .csv or .npz")


def _add_convert_flags(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--fps", type=positive_number, metavar="N", help="frames per second, where the file does not say it")
    add("--joints", nargs="+", metavar="NAME", help="the file's joints in their order (default those of the model)")
    add("--wxyz", action="store_true", help="the quaternions of a CSV begin with w (default they end with it)")
    add("--start", type=finite_number, default=0.0, metavar="S", help="where the clip begins (default 0)")
    add("--seconds", type=positive_number, metavar="S", help="its length (default to the end)")
    add("--out", type=path_name, required=True, metavar="FILE", help="where to write it, .csv or .npz")


def _no_command(_: argparse.Namespace) -> None:
    raise AssertionError("a command is required")


def show(args: argparse.Namespace) -> None:
    """Show a clip; for errors see `biped.view.motion.show_motion`."""
    from biped.view.motion import show_motion
    from biped.view.web import PORT, require_port, require_viser

    require_viser("motion show")
    port = args.port or PORT
    require_port(port, "--port")
    cfg = _robot(args.robot)
    show_motion(cfg, _fitting(cfg, args.file), str(args.file), port)


def check(args: argparse.Namespace) -> int:
    """Print what the robot cannot do; return 0 if there is nothing, else 1.

    Raises:
        UsageError: the file is no motion, or of another robot.
        MachineError: MuJoCo or the robot's model is missing.
    """
    from biped.sim.mujoco_kinematics import MujocoKinematics

    cfg = _robot(args.robot)
    motion = _fitting(cfg, args.file)
    speeds = [motor.velocity_limit_rad_s for motor in cfg.robot.motors]
    end = cfg.termination
    problems = motion.problems(MujocoKinematics(cfg).ranges_rad, speeds)
    problems += motion.falls(end.min_base_height_m, end.max_tilt_rad)
    frames = f"{len(motion)} frames at {(len(motion) - 1) / motion.length_s:.0f} Hz"
    print(f"{args.file}: {frames}, {motion.length_s:.2f} s, {len(motion.joint_names)} joints")
    print("\n".join(problems) if problems else "nothing that the robot cannot do")
    return MACHINE if problems else DONE


def compare(args: argparse.Namespace) -> None:
    """Print the distance of each joint to the nearest part of the clip.

    Raises:
        UsageError: a file is no motion, or of another robot.
    """
    from biped.eval.motion import distances_rad

    cfg = _robot(args.robot)
    done, clip = (_fitting(cfg, file, cfg.sim.control_dt_s) for file in (args.file, args.clip))
    far = distances_rad(clip, done)
    width = max(map(len, far))
    for name, distance in far.items():
        print(f"{name:{width}s}  {distance:.4f} rad")
    print(f"{'mean':{width}s}  {sum(far.values()) / len(far):.4f} rad")


def record(args: argparse.Namespace) -> None:
    """Record a clip.

    Raises:
        UsageError: no source is named, or two; there is no such model; the robot falls before the end.
        ConfigError: a setting of the model's or the robot's file is invalid.
        MachineError: the simulator is missing, or the disk refuses the write.
    """
    from biped.robot.motion_files import write_motion

    if (args.model is None) != args.reference:
        raise UsageError("motion record: name a policy with --model PATH, or use --reference, one of both")
    if args.robot is not None and not args.reference:
        raise UsageError("--robot goes with --reference: a policy is recorded with the robot that it was trained for")
    if args.reference and any(args.command[1:]):
        raise UsageError("--reference only walks ahead: --command VX 0 0")
    if args.seconds > LONGEST_S:
        raise UsageError(f"--seconds: at most {LONGEST_S:g}")
    _require_new(args.out)
    if args.reference:
        from biped.eval.motion import reference_motion

        cfg = _robot(args.robot)
        motion = reference_motion(cfg, args.command[0], 1.0 / cfg.gait.frequency_hz if args.stride else args.seconds)
    else:
        from biped.train.learner import load_agent
        from biped.view.motion import RecordRequest, record_policy

        command = (args.command[0], args.command[1], args.command[2])
        motion = record_policy(
            RecordRequest(args.model, LOGS, command, args.seconds, args.stride, args.sim, args.seed), load_agent
        )
    write_motion(motion, args.out)
    print(f"{args.out}: {motion.length_s:.2f} s")


def convert(args: argparse.Namespace) -> None:
    """Convert a published clip; its base begins over the origin, heading along x.

    Raises:
        UsageError: the file is no such clip, or a flag does not fit it.
        MachineError: MuJoCo or the robot's model is missing, or the disk refuses the write.
    """
    from biped.robot.model import model_file
    from biped.robot.motion_files import write_motion
    from biped.robot.published import Origin, read_published
    from biped.sim.mujoco_file import hinges_of, parse_model

    _require_new(args.out)
    if args.start < 0.0:
        raise UsageError("--start: at least 0")
    cfg = _robot(args.robot)
    in_model = hinges_of(parse_model(model_file(cfg), cfg.robot.base_link))
    origin = Origin(args.joints, in_model, args.fps, args.wxyz, cfg.robot.base_link)
    motion = read_published(args.file, origin)
    motion = motion.part(args.start, args.seconds).from_origin()
    write_motion(motion, args.out)
    low, high = motion.base_pos_w[:, 2].min(), motion.base_pos_w[:, 2].max()
    print(f"{args.out}: {motion.length_s:.2f} s, {len(motion)} frames, {len(motion.joint_names)} joints")
    print(f"its base is {low:.2f} to {high:.2f} m above the ground")
    if motion.upright.min() < 0.0:
        frame = int(motion.upright.argmin())
        print(f"in frame {frame} its base is upside down: perhaps its quaternions are in the other order, --wxyz")
    if missing := [name for name in cfg.robot.joint_names if name not in motion.joint_names]:
        print(f"it lacks {', '.join(missing)} of the robot: rename them with --joints")


def _require_new(out: Path) -> None:
    if out.suffix.lower() not in (".csv", ".npz"):
        raise UsageError(f"--out: {out} ends in neither .csv nor .npz")
    if os.path.lexists(out):  # also a link that leads nowhere
        raise UsageError(f"--out: {out} exists: name another file")
    if not out.parent.is_dir():
        raise UsageError(f"--out: there is no folder {out.parent}")


def _robot(file: Path | None) -> "EnvConfig":
    """Return an environment of one robot: of a robot's file, or the biped."""
    from dataclasses import replace

    from biped.config.run import Config
    from biped.sim.check_robot import env_of

    return replace(Config().env, num_envs=1) if file is None else env_of(file)


def _fitting(cfg: "EnvConfig", file: Path, dt_s: float | None = None) -> "Motion":
    """Return a clip with the robot's joints in their order, resampled if a step is given (s)."""
    from biped.robot.motion_files import clip_of

    return clip_of(str(file.absolute()), cfg.robot.joint_names, dt_s)
