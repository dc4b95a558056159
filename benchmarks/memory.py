"""Compare the memory that a training takes with the estimate of `biped.train.memory`, in one run.

    python benchmarks/memory.py --out logs/memory.json
    python benchmarks/memory.py --gpu --out logs/memory_gpu.json

Each case is a separate process that trains for two rollouts and evaluates once. On a CPU the peak is the process's
largest resident size; on a GPU it is computed from the lowest free memory, so nothing else may run on that GPU.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
from typing import Any

import psutil

import biped_train
from biped.base.command_line import path_name
from biped.base.machine import MIB, free_bytes
from biped.config.settings import with_settings
from biped.train.memory import estimate
from biped_config import PRESETS

CPU_CASES = [("cpu", 64), ("cpu", 256), ("cpu", 2048), ("gpu", 16), ("gpu", 128), ("gpu", 512)]
GPU_CASES = [("cpu", 256), ("gpu", 1024), ("gpu", 4096), ("gpu", 16384)]
"""Presets, with numbers of environments."""
_EVERY_S = 0.02


def main() -> int:
    """Measure all cases, print them, and write JSON if requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", action="store_true", help="on the CUDA device")
    parser.add_argument("--out", type=path_name, help="path of the JSON")
    parser.add_argument("--case", nargs=2, metavar=("PRESET", "N"), help="only one case, in this process")
    parser.add_argument("--cases", nargs=2, action="append", metavar=("PRESET", "N"), help="other cases, repeatable")
    args = parser.parse_args()
    device = "cuda" if args.gpu else "cpu"
    if args.case:
        print(json.dumps(measure(args.case[0], int(args.case[1]), device)))
        return 0
    rows: list[dict[str, Any]] = []
    for preset, num_envs in args.cases or (GPU_CASES if args.gpu else CPU_CASES):
        command = [sys.executable, __file__, "--case", preset, str(num_envs), *(["--gpu"] if args.gpu else [])]
        ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(ended.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
        if args.out:
            args.out.write_text(json.dumps(rows, indent=2) + "\n")
    return 0


def measure(preset: str, num_envs: int, device: str) -> dict[str, Any]:
    """Train for two rollouts; return the expected and the measured memory (MiB)."""
    config = PRESETS[preset]()
    steps = 2 * num_envs * config.ppo.n_steps
    settings = [("env.num_envs", num_envs), ("train.device", device), ("train.eval_every_steps", steps)]
    config = with_settings(config, settings)
    before, free = psutil.Process().memory_info().rss, free_bytes(device)
    least = [free]
    is_over = threading.Event()
    watch = threading.Thread(target=_follow, args=(device, least, is_over), daemon=True)
    watch.start()
    with tempfile.TemporaryDirectory() as logs:
        flags = [word for path, value in settings for word in ("--set", f"{path}={value}")]
        command = ["--preset", preset, "--total_timesteps", str(steps), "--log_dir", logs, *flags]
        assert biped_train.main(command) == 0
    is_over.set()
    watch.join()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before if device == "cpu" else free - least[0]
    expected = estimate(config, device).total
    return {
        "preset": preset,
        "num_envs": num_envs,
        "device": device,
        "expected_mib": round(expected / MIB),
        "measured_mib": round(peak / MIB),
        "expected_over_measured": round(expected / peak, 2),
    }


def _follow(device: str, least: list[int], is_over: threading.Event) -> None:
    while not is_over.wait(_EVERY_S):
        least[0] = min(least[0], free_bytes(device))


if __name__ == "__main__":
    sys.exit(main())
