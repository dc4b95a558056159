"""The small command that shares a policy: push."""

import argparse

from biped.base.command_line import LOGS, film_name, folder_name, path_name, path_or_address, run_name
from biped.commands import Add


def add_sharing_commands(add: Add) -> None:
    """Add the command, with its flags."""
    add_argument = add("push", push, "Share a policy, with its figures, film and checksums.").add_argument
    add_argument("what", type=_run_or_model, metavar="NAME", help="a run, its folder, or a checkpoint (.zip)")
    to = "hf://USER/REPO, wandb://ENTITY/PROJECT/ARTIFACT, or a new folder, to look at it first"
    add_argument("--to", type=path_or_address, required=True, metavar="WHERE", help=to)
    add_argument("--private", action="store_true", help="make a new repository private")
    add_argument("--license", metavar="NAME", help="for the card, such as mit or apache-2.0")
    film = "a film of it, .mp4 or .gif (default: the report's, or the training's)"
    add_argument("--film", type=film_name, metavar="FILE", help=film)
    add_argument("--no_robot", action="store_true", help="leave out the files of a robot that does not ship")
    add_argument("--log_dir", type=path_name, default=LOGS, metavar="DIR", help=f"the folder of all runs ({LOGS})")


def _run_or_model(text: str) -> object:
    """Read a run's name, the path of its folder (contains a slash), or the path of a checkpoint (ends in .zip)."""
    if text.endswith(".zip"):
        return path_name(text)
    name = run_name(text)
    return folder_name(text) if "/" in name or name in ("", ".", "..", "~") else name


def push(args: argparse.Namespace) -> None:
    """Share a policy; for errors see `biped.runs.package.push`."""
    from biped.runs.package import PushRequest
    from biped.runs.package import push as pushed
    from biped.sim.model_parts import model_parts

    request = PushRequest(
        args.what, args.to, args.log_dir, args.private, args.film, not args.no_robot, license=args.license
    )
    pushed(request, model_parts)
