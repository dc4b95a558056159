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
    python -m biped motion show FILE              a motion clip in the browser; check: what a robot cannot do of it;
                                                  record: one of a policy, or of the gait's reference
    python -m biped push NAME --to hf://USER/REPO share a policy, with its figures, film and checksums
    python -m biped metrics                       the table of metrics, as docs/metrics.md
    python -m biped config --schema               the configuration's JSON Schema, for editors; --table: as a page

Exit codes: 0 done, 1 the machine cannot do it or a check has failed, 2 wrong usage.
"""

import argparse
import sys
from collections.abc import Sequence

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
    whole_number,
)
from biped.commands import Run
from biped.commands.logs import add_log_commands
from biped.commands.motions import add_motion_commands
from biped.commands.sharing import add_sharing_commands


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
    add_log_commands(add)
    add_motion_commands(add)
    add_sharing_commands(add)
    add("metrics", print_metrics, "Print the table of metrics as a page.")
    config = add("config", print_config, "Print the configuration's defaults, or its schema.")
    config.add_argument("--schema", action="store_true", help="the JSON Schema of config.json")
    config.add_argument("--table", action="store_true", help="every field with its meaning, as docs/configuration.md")
    return parser


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
