"""Milliseconds per step of an exported policy on one core: ONNX, TorchScript and PyTorch, in one run.

    python benchmarks/export.py --out logs/export.json

One robot, random weights, random observations. The formats take turns with a fixed number of steps each; a result is
the median step of each turn, then the median over turns.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import describe_machine
from biped.base.command_line import path_name, whole_number
from biped.deploy.contract import Provenance, build_contract
from biped.deploy.export import ONNX_FILE, TORCHSCRIPT_FILE
from biped.deploy.formats import (
    Memory,
    Numbers,
    Step,
    open_onnx,
    open_torchscript,
    write_onnx,
    write_torchscript,
)
from biped.deploy.network import PolicyStep
from biped.deploy.parity import parity_config
from biped.env.env import BipedVecEnv, make_env
from biped.ppo.acting import DeterministicActor
from biped.train.learner import make_model
from biped_config import PRESETS

TARGET_MS = 2.0
"""Upper bound for ONNX with the `gpu` preset's network (ms)."""
POLICIES = ("gpu", "cpu")
"""Presets whose networks are measured."""
STEPS = 200
"""Steps per turn."""


def main() -> int:
    """Measure, print the result, and write it if requested."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=whole_number, default=15, metavar="N", help="turns of each (default 15)")
    parser.add_argument("--out", type=path_name, metavar="FILE", help="path of the JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "machine": describe_machine(torch.device("cpu")),
        "onnxruntime": onnxruntime.__version__,
        "rounds": args.rounds,
        "steps_a_round": STEPS,
        "target_ms": TARGET_MS,
        "ms_per_step": {preset: measure(preset, args.rounds) for preset in POLICIES},
    }
    print(json.dumps({name: part for name, part in result.items() if name != "machine"}, indent=2))
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0


def measure(preset: str, rounds: int) -> dict[str, Any]:
    """Let the formats of one network take turns; return the milliseconds per step of each."""
    config = PRESETS[preset]()
    config = replace(config, train=replace(config.train, device="cpu"))
    env = make_env(parity_config(config.env), sim="mujoco")
    policy = make_model(config, BipedVecEnv(env), seed=0).policy
    env.close()
    network = PolicyStep(policy, config.env.control.action_clip)
    contract = build_contract(config, Provenance("", "", 0))
    width, layers, hidden = env.layout.width, config.policy.lstm_layers, config.policy.lstm_hidden_size
    observations = np.random.default_rng(0).normal(size=(STEPS, 1, width)).astype(np.float32)
    empty = np.zeros((layers, 1, hidden), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        write_onnx(network, contract, Path(folder) / ONNX_FILE)
        write_torchscript(network, contract, Path(folder) / TORCHSCRIPT_FILE)
        formats = {
            "ONNX": _stepper(open_onnx(Path(folder) / ONNX_FILE), (empty, empty)),
            "TorchScript": _stepper(open_torchscript(Path(folder) / TORCHSCRIPT_FILE), (empty, empty)),
            "PyTorch, one environment": _reference(DeterministicActor(policy, 1, "fp32")),
        }
        for act in formats.values():
            _median_ms(act, observations)
        turns = [{name: _median_ms(act, observations) for name, act in formats.items()} for _ in range(rounds)]
    return {
        name: {
            "median": round(statistics.median(turn[name] for turn in turns), 4),
            "low": round(min(turn[name] for turn in turns), 4),
            "high": round(max(turn[name] for turn in turns), 4),
        }
        for name in formats
    }


def _median_ms(act: Callable[[Numbers], object], observations: Numbers) -> float:
    durations_s = []
    for observation in observations:
        began_s = time.perf_counter()
        act(observation)
        durations_s.append(time.perf_counter() - began_s)
    return 1e3 * statistics.median(durations_s)


def _stepper(step: Step, memory: Memory) -> Callable[[Numbers], object]:
    def act(observation: Numbers) -> None:
        nonlocal memory
        memory = step(observation, memory).memory

    return act


def _reference(actor: DeterministicActor) -> Callable[[Numbers], object]:
    running = torch.zeros(1, dtype=torch.bool)
    return lambda observation: actor(torch.from_numpy(observation), running)


if __name__ == "__main__":
    sys.exit(main())
