"""The robot's left-right symmetry: how the mirror swaps its joints."""

from biped.config.robot import RobotConfig

MirrorRule = tuple[list[int], list[float]]
"""Source index and sign of each entry of the mirrored vector."""
_SIDES = {"left": "right", "right": "left"}
_NEGATED_JOINTS = ("roll", "yaw")


def mirror_joints(robot: RobotConfig) -> MirrorRule:
    """Return the mirror rule for a vector with one entry per joint: as configured, or by the joints' names.

    Raises:
        ValueError: a joint of one side has no counterpart on the other.
    """
    names = list(robot.joint_names)
    signs = list(robot.mirror_signs) or [-1.0 if name.endswith(_NEGATED_JOINTS) else 1.0 for name in names]
    if robot.mirror_joints:
        return [names.index(name) for name in robot.mirror_joints], signs
    index = []
    for name in names:
        side, _, rest = name.partition("_")
        other = f"{_SIDES[side]}_{rest}" if side in _SIDES else name
        if other not in names:
            raise ValueError(f"the joint {name} has no counterpart {other}: the robot is not symmetric")
        index.append(names.index(other))
    return index, signs
