"""Run a policy on a robot: servos on a Dynamixel bus, an IMU, and a person who holds the dead-man's key.

    python biped_run.py policy.onnx --wire wiring.json --port /dev/ttyUSB0     find out how the robot is wired
    python biped_run.py policy.onnx --wiring wiring.json --check               look at the limp robot; nothing moves
    python biped_run.py policy.onnx --wiring wiring.json                       walk while the space bar is held
    python biped_run.py policy.onnx --wiring wiring.json --excite 60           move the joints of the hanging robot
    python biped_run.py policy.onnx --simulate --command 0.3 0 0 --seconds 60  the same on a robot that MuJoCo plays

All that it needs to know of the policy is in the file (biped_export.py). Each run leaves a log in logs/robot. See
docs/to-the-robot.md. Exit codes: 0 the person or the time ended it, 1 stopped, not ready, no device, 2 wrong usage.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

import numpy as np

from biped.base.command_line import (
    DONE,
    LOGS,
    MACHINE,
    OneLineParser,
    exit_code,
    film_name,
    finite_number,
    input_name,
    path_name,
    path_or_address,
    positive_number,
    share,
    whole_number,
)
from biped.base.errors import UsageError
from biped.deploy.contract_file import PolicyContract
from biped.deploy.controller import Controller, OnnxPolicy
from biped.deploy.excitation import excitation
from biped.deploy.run_log import RunLog, new_file
from biped.deploy.runtime import Outcome
from biped.deploy.servo_bus import DynamixelBus
from biped.deploy.session import Request, opened
from biped.deploy.simulated_bus import Trouble
from biped.deploy.simulated_devices import Track
from biped.deploy.simulated_robot import SimulatedBody
from biped.deploy.wiring import ImuWiring, Wiring
from biped.deploy.wiring_dialogue import wire
from biped.runs.shared import local_policy


def make_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = OneLineParser(prog="biped_run.py", description="Run a policy on a robot.", allow_abbrev=False)
    add = parser.add_argument
    add("policy", type=path_or_address, help="policy.onnx, as biped_export.py writes it, or hf://USER/REPO")
    add("--wiring", type=path_name, metavar="FILE", help="how the robot is wired, as --wire writes it")
    add("--wire", type=path_name, metavar="FILE", help="find out how the robot is wired, and write it here")
    add("--port", metavar="DEVICE", help="the servos' bus, such as /dev/ttyUSB0 (with --wire)")
    add("--baud", type=whole_number, default=1_000_000, metavar="N", help="its rate (with --wire; default 1000000)")
    add("--imu", metavar="SOURCE", help="the IMU's serial line, or ros2:TOPIC; in place of the wiring's")
    add("--imu_axes", metavar="AXES", help="its axes that point forward, left and up (default +x+y+z)")
    add("--check", action="store_true", help="only look at the limp robot; nothing moves")
    add("--excite", type=positive_number, metavar="S", help="move the joints of the clamped robot, for identify")
    add("--command", type=finite_number, nargs=3, default=(0.3, 0.0, 0.0), metavar=("VX", "VY", "WZ"), help="at first")
    add("--seconds", type=positive_number, default=np.inf, metavar="S", help="how long it may walk (default: no end)")
    add("--gamepad", type=path_name, metavar="DEVICE", help="such as /dev/input/js0, in place of the keyboard")
    add("--crouch", action="store_true", help="on heat and on low voltage, crouch before going limp")
    add("--min_voltage", type=positive_number, default=0.0, metavar="V", help="supply below which it does not walk")
    add("--log", type=path_name, metavar="FILE", help="the log (default logs/robot/DATE.npz)")
    add("--simulate", action="store_true", help="on a robot that MuJoCo plays, behind a bus that is a pseudo-terminal")
    add("--robot", type=input_name, metavar="FILE", help="robot.json of the simulated robot (default: the policy's)")
    add("--lost", type=share, default=0.0, metavar="SHARE", help="share of packets that get lost (with --simulate)")
    add("--latency_ms", type=positive_number, default=0.0, metavar="MS", help="lateness of answers (with --simulate)")
    add("--film", type=film_name, metavar="FILE", help="film of the simulated robot, .gif or .mp4")
    return parser


def run(args: argparse.Namespace) -> int:
    """Carry out a command line and return the exit code.

    Raises:
        UsageError: policy, wiring or flags do not fit each other.
        MachineError: a device or a package is missing, or the disk refuses the log.
    """
    controller = Controller(OnnxPolicy(local_policy(args.policy, LOGS)))
    contract = controller.contract
    if args.wire is not None:
        return wire_up(args, contract)
    check_flags(args, contract)
    log = new_file(args.log, LOGS / "robot")
    with contextlib.ExitStack() as stack:
        robot = stack.enter_context(simulated(args, contract)) if args.simulate else None
        wiring = Wiring.load(args.wiring) if robot is None else robot.wiring
        session = stack.enter_context(opened(as_request(args), controller, wiring))
        if args.check:
            return report(session.runtime.check())
        moves = None if args.excite is None else excitation(contract, *session.limits_rad, args.excite)
        tracks: list[Track] = []

        def at_pose() -> None:
            session.warn()
            if robot is not None and moves is None:
                robot.release()

        def keep(outcome: Outcome) -> None:
            tracks.extend([] if robot is None else [robot.track()])
            outcome.save(log, session.servos.wiring)

        outcome = session.runtime.run(args.seconds, moves, at_pose, keep)
        for track in tracks:
            tell(args, outcome.log, track, contract)
        if robot is not None and not outcome.is_safe and (excuse := robot.excuse()):
            print(excuse)
    return DONE if outcome.is_safe else MACHINE


def as_request(args: argparse.Namespace) -> Request:
    """Return what the flags ask of the robot; they bear its fields' names."""
    return Request(**{item.name: getattr(args, item.name) for item in fields(Request)})


def check_flags(args: argparse.Namespace, contract: PolicyContract) -> None:
    """Check flags against each other before anything is opened.

    Raises:
        UsageError: they do not fit each other, or the film has no folder.
    """
    if not (args.wiring or args.simulate):
        raise UsageError("name the robot's wiring with --wiring FILE (--wire FILE makes it), or use --simulate")
    for name in () if args.simulate else ("robot", "lost", "latency_ms", "film"):
        if getattr(args, name):
            raise UsageError(f"--{name} is for a simulated robot: add --simulate")
    if args.film is not None and not os.access(args.film.parent, os.W_OK):
        raise UsageError(f"--film: {args.film.parent} is no folder that can be written to")
    as_request(args).refuse(contract)


def wire_up(args: argparse.Namespace, contract: PolicyContract) -> int:
    """Find out how the robot is wired.

    Raises:
        UsageError: no port, axes without an IMU or that are no mounting, or the person keeps the file that is there.
        MachineError: the bus cannot be opened, or the disk refuses the file.
    """
    if args.port is None:
        raise UsageError("--wire needs --port, such as --port /dev/ttyUSB0")
    if args.imu_axes is not None and args.imu is None:
        raise UsageError("--imu_axes is of an IMU: name it too, such as --imu /dev/ttyUSB1")
    imu = None if args.imu is None else ImuWiring(args.imu, args.imu_axes or ImuWiring.axes)
    meant = {motor.joint: motor.direction for motor in contract.motors}
    with contextlib.closing(DynamixelBus(args.port, args.baud)) as bus:
        wire(contract, bus, input, print, path=args.wire, imu=imu, describe=meant.__getitem__)
    return DONE


def report(reasons: Sequence[str]) -> int:
    """Print why the robot must not start, and return the exit code."""
    for reason in reasons:
        print(f"not ready: {reason}")
    print("nothing moved" if reasons else "ready; nothing moved")
    return MACHINE if reasons else DONE


def env_of(args: argparse.Namespace, contract: PolicyContract) -> Any:
    """Return the configuration of the robot to simulate: that of a robot's file, or the one that ships.

    Raises:
        UsageError: no robot that ships has the model that the contract names.
        ModuleNotFoundError: what only simulating needs is not installed here.
    """
    from biped.deploy import trained_robot

    return trained_robot.env_of(contract.raw, args.robot)


def simulated(args: argparse.Namespace, contract: PolicyContract) -> SimulatedBody:
    """Start a simulated robot.

    Raises:
        UsageError: there is no robot of the policy's.
        MachineError: MuJoCo is missing, or the robot cannot start.
    """
    env = env_of(args, contract)
    from biped.sim.mujoco_servos import Mounting, MujocoServos

    def make(law: Any, directions: np.ndarray, zero_ticks: np.ndarray) -> Any:
        mounting = Mounting(tuple(directions.tolist()), tuple(zero_ticks.tolist()))
        return partial(MujocoServos, env, law, mounting, hanging=args.excite is not None)

    trouble = Trouble(lost_share=args.lost, latency_s=1e-3 * args.latency_ms)
    return SimulatedBody(contract, make, trouble)


def tell(args: argparse.Namespace, log: RunLog, track: Track, contract: PolicyContract) -> None:
    """Say how a simulated robot walked, and draw its film.

    Raises:
        MachineError: nothing here can draw, or the disk refuses the film.
    """
    if not len(phase := log.gait_phase):
        return
    walked = track.last(len(phase))
    print(walked.how_it_walked(contract.max_tilt_rad))
    if args.film is not None:
        from biped.config.run import Config
        from biped.view.track import film_track

        film_track(walked, np.array(args.command), phase, replace(Config(), env=env_of(args, contract)), args.film)
        print(f"film: {args.film}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = make_parser().parse_args(argv)
    return exit_code("biped_run.py", lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
