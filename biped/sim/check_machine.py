"""Reports what this machine has for training, one line per item, with the remedy for each missing one.

Run by `./install_genesis.sh --check`. Exit codes: 0 everything is present, 1 something is missing.
"""

import importlib.metadata
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from biped.base.packages import how_to_install

PACKAGES = (
    "stable_baselines3",
    "sb3_contrib",
    "gymnasium",
    "wandb",
    "tensorboard",
    "mujoco",
    "matplotlib",
    "optuna",
    "onnx",
    "onnxscript",
    "onnxruntime",
)
FREE_GIB = 4.0
"""Free memory below which the CPU preset may not fit (GiB)."""

Finding = tuple[bool, str]
"""Whether the check passed, and the text to print."""


def check_python() -> Finding:
    """Check the interpreter's version."""
    fine = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return fine, f"{platform.python_version()} ({sys.executable})" + ("" if fine else ": 3.11 to 3.13 is needed")


def check_torch() -> Finding:
    """Report the build of torch."""
    import torch

    return True, f"{torch.__version__}, {'CUDA ' + torch.version.cuda if torch.version.cuda else 'CPU build'}"


def check_gpu() -> Finding:
    """Check the GPU, its driver, and whether torch can use it; a machine without a GPU passes."""
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        return True, f"{name}, driver {_driver()}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    driver = _driver()
    if driver is None:
        return True, "none found: the CPU preset will be used"
    if torch.version.cuda is None:
        return False, f"driver {driver}, but torch is a CPU build: run ./install_genesis.sh --cuda"
    return False, f"driver {driver}, but torch {torch.__version__} cannot use it: update the driver"


def check_packages() -> Finding:
    """Check the other packages by importing them."""
    versions = []
    for name in PACKAGES:
        try:
            __import__(name)
        except Exception as error:
            return False, f"{name} cannot be imported ({error}): {how_to_install(name)}"
        versions.append(f"{name} {importlib.metadata.version(name)}")
    return True, ", ".join(versions)


def check_genesis() -> Finding:
    """Check Genesis by stepping a scene with a standing robot."""
    import torch

    from biped.base.errors import MachineError
    from biped.config.task import EnvConfig
    from biped.sim.scene import make_scene

    cfg = EnvConfig(num_envs=2)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    started_s = time.monotonic()
    try:
        scene = make_scene("genesis", cfg, device)
        targets = torch.tensor(cfg.robot.default_joint_pos_rad, device=device, dtype=torch.float32).repeat(
            cfg.num_envs, 1
        )
        broken = scene.step(targets).error.any().item()
        scene.close()
    except MachineError as error:
        return False, str(error)
    version = importlib.metadata.version("genesis-world")
    took = f"built and stepped a scene on {device.type} in {time.monotonic() - started_s:.0f} s"
    return not broken, f"{version}, {took}" + (": the physics failed" if broken else "")


def check_memory() -> Finding:
    """Check free main memory and report free disk space."""
    import psutil

    free = psutil.virtual_memory().available / 2**30
    disk = shutil.disk_usage(Path.cwd()).free / 2**30
    fine = free >= FREE_GIB
    return fine, f"{free:.1f} GiB free, disk {disk:.0f} GiB free" + ("" if fine else ": use fewer --num_envs")


CHECKS: dict[str, Callable[[], Finding]] = {
    "Python": check_python,
    "torch": check_torch,
    "GPU": check_gpu,
    "packages": check_packages,
    "Genesis": check_genesis,
    "memory": check_memory,
}
"""The checks, in order."""


def findings() -> Iterator[tuple[str, Finding]]:
    """Run the checks in order; a check that raises counts as failed."""
    for name, check in CHECKS.items():
        try:
            yield name, check()
        except Exception as error:
            yield name, (False, f"{type(error).__name__}: {error}: {_remedy(error)}".replace("\n", " "))


def _remedy(error: Exception) -> str:
    """Return the advice for a check that raised: the extra with the package that is missing, or with all of them."""
    return how_to_install(error.name or "" if isinstance(error, ModuleNotFoundError) else "")


def report() -> bool:
    """Print one line per check; return whether all pass."""
    all_fine = True
    for name, (fine, text) in findings():
        print(f"{name:14s} {'ok' if fine else 'MISSING':8s} {text}", flush=True)
        all_fine = all_fine and fine
    return all_fine


def _driver() -> str | None:
    """Return the version of the NVIDIA driver, or None if there is none."""
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return None
