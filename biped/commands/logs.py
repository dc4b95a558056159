"""Small commands on logs of a robot: replay, identify and diagnose."""

import argparse
import sys

from biped.base.command_line import (
    LOGS,
    input_name,
    path_name,
    path_or_address,
    picture_name,
    positive_number,
    whole_or_none,
)
from biped.base.errors import UsageError
from biped.commands import Add


def add_log_commands(add: Add) -> None:
    """Add the commands, with their flags."""
    _add_replay(add("replay", replay, "Replay a robot's run in simulation, open loop, and show both on a page."))
    found = add("identify", identify, "Find what a robot's actuators are from the log of an excitation.")
    found.add_argument("log", type=path_name, metavar="LOG", help="a log of biped_run.py --excite")
    found.add_argument("--robot", type=input_name, metavar="FILE", help="robot.json (default the defaults' biped)")
    found.add_argument("--out", type=path_name, metavar="FILE", required=True, help="the robot.json that is written")
    found.add_argument("--plot", type=picture_name, metavar="PNG", help="draw the held-out errors")
    log = add("diagnose", diagnose, "Say what is wrong with a robot, from the log of a run on it.")
    log.add_argument("log", type=path_name, help="the log of biped_run.py")
    log.add_argument(
        "--policy", type=path_or_address, metavar="ONNX", help="the policy that ran: its actions are compared"
    )
    log.add_argument("--robot", type=input_name, metavar="FILE", help="its robot.json (default: the shipped one)")


def _add_replay(command: argparse.ArgumentParser) -> None:
    """Add the flags of `replay`."""
    add = command.add_argument
    add("log", type=path_name, metavar="LOG", help="a log of biped_run.py")
    add("--sim", choices=("genesis", "mujoco", "both"), default="both", help="where (default both)")
    add("--robot", type=input_name, metavar="FILE", help="robot.json (default the robot in assets that fits the log)")
    add("--window", type=positive_number, default=1.0, metavar="S", help="time until it starts anew (default 1.0 s)")
    add("--late", type=whole_or_none, default=0, metavar="STEPS", help="steps by which targets are late (default 0)")
    add("--phases", nargs="+", default=["standing", "walking"], metavar="PHASE", help="(default standing walking)")
    add("--out", type=path_name, metavar="DIR", help="a new folder (default LOG_replay beside the log)")


def replay(args: argparse.Namespace) -> None:
    """Replay a log; for errors see `biped.view.replay`."""
    from biped.deploy.run_log import PHASES, RunLog
    from biped.deploy.trained_robot import env_of
    from biped.eval.replay import Measured
    from biped.view.replay import SIMS, ReplayRequest, check_out, replay_all, write

    if strange := [phase for phase in args.phases if phase not in PHASES]:
        raise UsageError(f"--phases: there is no phase {strange[0]}, only {', '.join(PHASES)}")
    sims = SIMS if args.sim == "both" else (args.sim,)
    request = ReplayRequest(args.log, sims, args.window, args.late, args.out)
    check_out(request)
    log = RunLog.load(args.log)
    measured = Measured.of(log.columns, log.policy.dt_s, log.during(*args.phases))
    write(replay_all(env_of(log.contract, args.robot), measured, request), request, log.about)


def identify(args: argparse.Namespace) -> None:
    """Find a robot's actuators; for errors see `identify_log`."""
    from biped.deploy.run_log import RunLog
    from biped.deploy.trained_robot import env_of
    from biped.sim.mujoco_identify import excited
    from biped.view.identification import IdentifyRequest, identify_log

    log = RunLog.load(args.log)
    measured = excited(log.columns, log.during("exciting"), log.policy.dt_s)
    identify_log(env_of(log.contract, args.robot), measured, IdentifyRequest(args.log, args.robot, args.out, args.plot))


def diagnose(args: argparse.Namespace) -> None:
    """Print what is wrong with a robot, or that nothing was found; for errors see `biped.deploy.diagnosis`."""
    from biped.deploy.controller import OnnxPolicy
    from biped.deploy.diagnosis import as_lines
    from biped.deploy.diagnosis import diagnose as diagnosed
    from biped.deploy.run_log import RunLog
    from biped.deploy.trained_robot import UnknownRobotError, env_of
    from biped.runs.shared import local_policy
    from biped.sim.mujoco_kinematics import MujocoKinematics

    log, body = RunLog.load(args.log), None
    try:
        body = MujocoKinematics(env_of(log.contract, args.robot))
    except UnknownRobotError as error:
        print(f"less is found: {error}", file=sys.stderr)
    policy = None if args.policy is None else OnnxPolicy(local_policy(args.policy, LOGS))
    print("\n".join(as_lines(diagnosed(log, body, policy), log)))
