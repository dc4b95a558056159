"""What other projects' robot programs look for in an ONNX file's metadata, from the contract.

The keys are those of mjlab (src/mjlab/tasks/velocity/rl/exporter.py), which the programs that descend from it and from
Isaac Lab's motion trackers read. They split each value at commas, numbers included; mjlab itself writes three decimals.
"""

from collections.abc import Iterable, Mapping
from typing import Any

COMMAND = "twist"
"""mjlab's name for a command of forward, left and turning velocity."""


def plain_metadata(contract: Mapping[str, Any]) -> dict[str, str]:
    """Return key and value of each entry, in the order of the contract's joints and observation terms.

    `observation_names` are the contract's own names: most terms have other scales than mjlab's of similar meaning, and
    a program must not take one for the other.
    """
    action, motors = contract["action"], contract["motors"]
    joints = action["joint_names"]
    return {
        "run_path": contract["provenance"]["model_file"],
        "joint_names": _separated(joints),
        "joint_stiffness": _separated(motors["kp_nm_per_rad"]),
        "joint_damping": _separated(motors["kd_nm_s_per_rad"]),
        "default_joint_pos": _separated(action["default_pose_rad"]),
        "action_scale": _separated([action["scale_rad"]] * len(joints)),
        "command_names": COMMAND,
        "observation_names": _separated(term["name"] for term in contract["observation"]["terms"]),
    }


def _separated(values: Iterable[float | str]) -> str:
    return ",".join(str(value) for value in values)
