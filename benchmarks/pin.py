"""Train small runs in both engines and print digests of their results: weights, optimizer, metric rows.

    python benchmarks/pin.py                    the code of this checkout
    python benchmarks/pin.py --root ../before   the code of another checkout, with this Python

A change that only moves code prints the same lines, on the same machine with the same versions. The script uses only
what every version has: the command line, the files of a run, and the members of a checkpoint.
"""

import argparse
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
ENGINES = ("genesis", "mujoco")
UPDATES = 50
CPU_PRESET_STEPS = 256 * 24
"""Environment steps of one update of the CPU preset."""
CASES = {
    "smoke": ["--preset", "smoke"],
    "cpu": [
        *("--preset", "cpu", "--total_timesteps", str(UPDATES * CPU_PRESET_STEPS)),
        *("--eval_freq", str(UPDATES * CPU_PRESET_STEPS // 2), "--set", "train.eval_episodes=32"),
    ],
}
"""Flags of each training, by name."""
_OF_THE_CLOCK = ("time", "time/fps", "time/time_elapsed", "time/collection_time", "time/learning_time")


def main() -> None:
    """Train each case in each engine, one after another, and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, metavar="DIR", help="the checkout whose code trains")
    root = parser.parse_args().root.resolve()
    print(f"{'case':8s} {'engine':8s} {'weights':16s} {'optimizer':16s} rows")
    for name, flags in CASES.items():
        for engine in ENGINES:
            with tempfile.TemporaryDirectory() as folder:
                run = train(root, Path(folder), [*flags, "--sim", engine, "--device", "cpu"])
                print(f"{name:8s} {engine:8s} {' '.join(digests(run))}", flush=True)


def train(root: Path, logs: Path, flags: list[str]) -> Path:
    """Train with the code of a checkout; return the run's directory.

    Raises:
        subprocess.CalledProcessError: the training failed.
    """
    command = [sys.executable, str(root / "biped_train.py"), "-e", "pin", "--log_dir", str(logs), *flags]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run(command, cwd=root, env=environment, check=True, stdout=subprocess.DEVNULL)
    return logs / "pin"


def digests(run: Path) -> tuple[str, str, str]:
    """Return digests of a run's final weights, of its optimizer, and of its metric rows without times."""
    with zipfile.ZipFile(run / "model_final.zip") as archive:
        weights, optimizer = (
            torch.load(io.BytesIO(archive.read(name)), map_location="cpu", weights_only=True)
            for name in ("policy.pth", "policy.optimizer.pth")
        )
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    kept = [{name: value for name, value in row.items() if name not in _OF_THE_CLOCK} for row in rows]
    return digest(weights), digest(optimizer), digest(kept)


def digest(tree: Any) -> str:
    """Return 16 hexadecimal digits of a hash over a tree of dictionaries, lists, tensors and numbers."""
    found = hashlib.sha256()
    for part in _parts(tree):
        found.update(part)
    return found.hexdigest()[:16]


def _parts(tree: Any) -> Iterator[bytes]:
    if isinstance(tree, torch.Tensor):
        yield f"{tree.dtype} {tuple(tree.shape)}".encode()
        yield tree.contiguous().numpy().tobytes()
    elif isinstance(tree, dict):
        for name, value in sorted(tree.items(), key=lambda item: str(item[0])):
            yield f"{name}:".encode()
            yield from _parts(value)
    elif isinstance(tree, list | tuple):
        yield f"[{len(tree)}]".encode()
        for value in tree:
            yield from _parts(value)
    else:
        yield repr(tree).encode()


if __name__ == "__main__":
    main()
