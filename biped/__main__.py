"""Small commands: `python -m biped COMMAND`, and `--help` after each.

    python -m biped demo                          a policy that ships, walking in the browser: steer it
    python -m biped check-machine                 what this machine has for training, and what is missing
    python -m biped robot MODEL --draft FILE      write a robot's file from its MJCF or URDF
    python -m biped check-robot FILE              problems of a robot, from its robot.json or its model
    python -m biped curves logs/NAME              draw a run on one page
    python -m biped average logs/NAME             write the mean of a run's last checkpoints
    python -m biped replay LOG                    a robot's run beside what both simulators make of its targets
    python -m biped identify LOG --out FILE       find what a robot's actuators are, from a log of moving it while hung
    python -m biped diagnose LOG                  what is wrong with a robot, from the log of a run
    python -m biped metrics                       the table of metrics, as docs/metrics.md
    python -m biped config --schema               the configuration's JSON Schema, for editors; --table: as a page

Exit codes: 0 done, 1 the machine cannot do it or a check has failed, 2 wrong usage.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

from biped.base.command_line import (
    DONE,
    MACHINE,
    OneLineParser,
    exit_code,
    folder_name,
    input_name,
    path_name,
    picture_name,
    port_number,
    positive_number,
    whole_number,
    whole_or_none,
)
from biped.base.errors import UsageError

Run = Callable[[argparse.Namespace], int | None]
"""Carries out a command; it imports what it needs only when called."""


def make_parser() -> argparse.ArgumentParser:
    """Return the command line's parser; `run` is the chosen command."""
    parser = OneLineParser(prog="python -m biped", description="Small commands of the project.", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Run, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.set_defaults(run=run)
        return command

    demonstration = add("demo", demo, "Steer a policy that ships, in the browser, in MuJoCo.")
    demonstration.add_argument("--robot", metavar="NAME", help="a robot, or one of its policies (default the first)")
    demonstration.add_argument("--port", type=port_number, metavar="N", help="port of the page (default 8080)")
    demonstration.add_argument("--no_browser", action="store_true", help="only say where the page is")
    add("check-machine", check_machine, "Report what this machine has for training, and what is missing.")
    model = add("robot", draft_robot, "Write a robot's file from its model; what is guessed is said.")
    model.add_argument("model", type=input_name, help="the robot's MJCF or URDF, as it was downloaded")
    model.add_argument("--draft", type=path_name, metavar="FILE", help="where to write it; without, it is printed")
    robot = add("check-robot", check_robot, "Check a robot and report its problems.")
    robot.add_argument("file", type=input_name, help="robot.json; or an MJCF or URDF with the joint names of the biped")
    robot.add_argument(
        "--sim",
        choices=("mujoco", "both"),
        default="mujoco",
        help="where it must stand (default mujoco); both is slower",
    )
    robot.add_argument("--picture", type=picture_name, metavar="PNG", help="draw where the gait moves the legs")
    curves = add("curves", draw_curves, "Draw a run on one page.")
    curves.add_argument("run_folder", type=folder_name, metavar="logs/NAME", help="the run's directory")
    curves.add_argument("--out", type=picture_name, metavar="PNG", help="default: overview.png in the run's directory")
    mean = add("average", average, "Write the mean of a run's last checkpoints to average_model.zip.")
    mean.add_argument("run_folder", type=folder_name, metavar="logs/NAME", help="the run's directory")
    mean.add_argument("--last", type=whole_number, metavar="N", help="number of checkpoints (default 5)")
    _add_replay(add("replay", replay, "Replay a robot's run in simulation, open loop, and show both on a page."))
    found = add("identify", identify, "Find what a robot's actuators are from the log of an excitation.")
    found.add_argument("log", type=path_name, metavar="LOG", help="a log of biped_run.py --excite")
    found.add_argument("--robot", type=input_name, metavar="FILE", help="robot.json (default the defaults' biped)")
    found.add_argument("--out", type=path_name, metavar="FILE", required=True, help="the robot.json that is written")
    found.add_argument("--plot", type=picture_name, metavar="PNG", help="draw the held-out errors")
    log = add("diagnose", diagnose, "Say what is wrong with a robot, from the log of a run on it.")
    log.add_argument("log", type=path_name, help="the log of biped_run.py")
    log.add_argument("--policy", type=input_name, metavar="ONNX", help="the policy that ran: its actions are compared")
    log.add_argument("--robot", type=input_name, metavar="FILE", help="its robot.json (default: the shipped one)")
    add("metrics", print_metrics, "Print the table of metrics as a page.")
    config = add("config", print_config, "Print the configuration's defaults, or its schema.")
    config.add_argument("--schema", action="store_true", help="the JSON Schema of config.json")
    config.add_argument("--table", action="store_true", help="every field with its meaning, as docs/configuration.md")
    return parser


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


def demo(args: argparse.Namespace) -> None:
    """Show and steer a policy that ships; for errors see `run_demo`."""
    print("starting ...", flush=True)
    from biped.train.learner import load_agent
    from biped.view.demo import PORT, DemoRequest, run_demo

    run_demo(DemoRequest(args.robot, args.port or PORT, opens_browser=not args.no_browser), load_agent)


def check_machine(_: argparse.Namespace) -> int:
    """Print one line per check; return 0 if all pass, else 1."""
    from biped.sim.check_machine import report

    return DONE if report() else MACHINE


def check_robot(args: argparse.Namespace) -> int:
    """Print the findings about a robot; return 0 if all checks pass, else 1; for errors see `check`."""
    from biped.sim.check_robot import check, env_of

    sims = ("mujoco", "genesis") if args.sim == "both" else (args.sim,)
    fine = check(args.file, sims)
    if args.picture is not None:
        from biped.sim.swing_pose import swing_legs
        from biped.view.swing import draw_swing

        if legs := swing_legs(env_of(args.file)):
            draw_swing(legs, args.picture)
            print(f"picture: {args.picture}")
    return DONE if fine else MACHINE


def draft_robot(args: argparse.Namespace) -> None:
    """Write a robot's file from its model; for errors see `draft_file`."""
    from biped.sim.mujoco_draft import draft_file

    draft_file(args.model, args.draft)


def draw_curves(args: argparse.Namespace) -> None:
    """Draw a run's curves; for errors see `draw_run`."""
    from biped.runs.directory import RunDirectory
    from biped.view.curves import draw_run

    print(draw_run(RunDirectory(args.run_folder), args.out))


def average(args: argparse.Namespace) -> None:
    """Average a run's checkpoints; for errors see `average_run`."""
    from biped.runs.average import LAST, average_run
    from biped.runs.directory import RunDirectory

    path, of = average_run(RunDirectory(args.run_folder), args.last or LAST)
    print(f"{path}: the mean of {', '.join(checkpoint.name for checkpoint in of)}")


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
    from biped.sim.mujoco_kinematics import MujocoKinematics

    log, body = RunLog.load(args.log), None
    try:
        body = MujocoKinematics(env_of(log.contract, args.robot))
    except UnknownRobotError as error:
        print(f"less is found: {error}", file=sys.stderr)
    policy = None if args.policy is None else OnnxPolicy(args.policy)
    print("\n".join(as_lines(diagnosed(log, body, policy), log)))


def print_metrics(_: argparse.Namespace) -> None:
    """Print docs/metrics.md."""
    from biped.train.metrics import as_markdown

    print(as_markdown(), end="")


def print_config(args: argparse.Namespace) -> None:
    """Print the default configuration or its schema as JSON, or docs/configuration.md."""
    from biped.config.table import printed

    print(printed(schema=args.schema, table=args.table), end="")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = make_parser().parse_args(argv)
    return exit_code("biped", lambda: args.run(args))


if __name__ == "__main__":
    sys.exit(main())
