"""Which extra of the project installs a package, and one line instead of a traceback where it is missing."""

import importlib.util
from collections.abc import Mapping
from types import MappingProxyType

from biped.base.errors import MachineError
from biped.base.shipped import IS_INSTALLED, PROJECT

EXTRAS: Mapping[str, str] = MappingProxyType(
    {
        "robot": "dynamixel_sdk imufusion onnxruntime serial",
        "sim": "annotated_types glfw gymnasium jinja2 mujoco PIL psutil pydantic pydantic_core sb3_contrib "
        "stable_baselines3 torch trimesh viser",
        "report": "imageio_ffmpeg matplotlib",
        "train": "filelock genesis huggingface_hub onnx onnxscript optuna scipy sqlalchemy tensorboard wandb",
    }
)
"""Each extra, and the packages that no extra before it installs, by the names that they are imported by."""


def extra_of(package: str) -> str:
    """Return the smallest extra that installs a package; `train`, which is nearly all, for one that is in none.

    Args:
        package: the name of the package or one of its modules, as it is imported.
    """
    top = package.partition(".")[0]
    return next((extra for extra, packages in EXTRAS.items() if top in packages.split()), "train")


def how_to_install(package: str) -> str:
    """Return the advice for a package that cannot be imported: the command that installs it."""
    command = f"pip install '{PROJECT}[{extra_of(package)}]'"
    return command if IS_INSTALLED else f"run ./install_genesis.sh, or {command}"


def how_to_check() -> str:
    """Return the advice to see what this machine lacks."""
    return "run biped check-machine" if IS_INSTALLED else "run ./install_genesis.sh --check"


def remedy(package: str, error: Exception) -> str:
    """Return the advice for an import that failed: to install the package, or to see what else the machine lacks."""
    is_missing = isinstance(error, ModuleNotFoundError) and error.name == package
    return how_to_install(package) if is_missing else how_to_check()


def require(package: str, what: str) -> None:
    """Check that a package is installed, before anything is computed.

    Args:
        package: the name that it is imported by.
        what: what needs it, such as the flag.

    Raises:
        MachineError: it is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise MachineError(f"{what} needs the package {package}: {how_to_install(package)}")
