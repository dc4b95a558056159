"""Export a policy for a robot's computer: ONNX, TorchScript and a JSON contract for its inputs and outputs.

    python biped_export.py -e walk                      a run's model with the most steps
    python biped_export.py --model assets/policies/biped_walk.zip --out logs/exported

Both formats are compared with PyTorch over full episodes in MuJoCo; if one differs by more than 1e-5, nothing is
written. docs/export.md documents the contract. Exit codes: 0 done, 1 the machine cannot do it or a format differs,
2 wrong usage.
"""

import argparse
import sys
from collections.abc import Sequence

from biped.base.command_line import Imports, OneLineParser, add_run_flags, exit_code, path_name

with Imports("biped_export.py"):
    import torch

    from biped.config.settings import with_settings
    from biped.deploy.contract import NAMES, Provenance, build_contract, scales_of_head
    from biped.deploy.export import check_out, export_policy
    from biped.deploy.network import PolicyStep
    from biped.deploy.parity import parity_config, record_reference
    from biped.env.env import BipedVecEnv, make_env
    from biped.runs.directory import DEFAULT_EXP_NAME
    from biped.runs.models import find_model
    from biped.runs.results import Place
    from biped.sim.mujoco_directions import joint_directions
    from biped.train.learner import load_model


def make_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = OneLineParser(
        prog="biped_export.py", description="Export a policy as ONNX and TorchScript.", allow_abbrev=False
    )
    add = parser.add_argument
    add_run_flags(parser, DEFAULT_EXP_NAME)
    add("--out", type=path_name, metavar="DIR", help="folder of the files (default export in the run's folder)")
    about_names = "what the ONNX file calls its tensors: rsl_rl for programs made for its exports (default biped)"
    add("--names", choices=sorted(NAMES), default="biped", help=about_names)
    return parser


def run_export(args: argparse.Namespace) -> None:
    """Export a model, and print the parity table and the folder of the files.

    Raises:
        UsageError: there is no such model, or no such folder.
        ConfigError: the configuration beside the model is invalid.
        MachineError: this machine, its disk or its packages prevent it, or a format differs from PyTorch.
    """
    path, run = find_model(args.model, args.log_dir, args.exp_name or DEFAULT_EXP_NAME)
    place = Place.of(path, args.log_dir, by_name=args.model is not None)
    out = args.out or place.file("export")
    if args.out is not None or place.folder.is_dir():
        check_out(out)
    config = with_settings(run.read_config(), [("train.device", "cpu")])
    # A robot's step is small: more threads would add waiting, and the times are for one core.
    torch.set_num_threads(1)
    env = make_env(parity_config(config.env), "cpu", sim="mujoco")
    model = load_model(config, BipedVecEnv(env), path)
    names = NAMES[args.names]
    scales = scales_of_head(config, names)
    episodes = record_reference(model.policy, env, scales)
    env.close()
    origin = Provenance.of(path, model.num_timesteps)
    contract = build_contract(config, origin, names, joint_directions(config.env))
    if args.out is None:
        place.make_folder()
    export_policy(PolicyStep(model.policy, config.env.control.action_clip, scales), contract, episodes, out)
    print(f"{path} is in {out}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = make_parser().parse_args(argv)
    return exit_code("biped_export.py", lambda: run_export(args))


if __name__ == "__main__":
    sys.exit(main())
