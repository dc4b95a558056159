"""The robot's left-right symmetry: its joints in a mirror."""

from biped.config.robot import RobotConfig

MirrorRule = tuple[list[int], list[float]]
"""Where each entry of the mirrored vector comes from, and its sign."""
_SIDES = {"left": "right", "right": "left"}
_NEGATED_JOINTS = ("roll", "yaw")


def mirror_joints(robot: RobotConfig) -> MirrorRule:
    """Return the mirror image of a vector with one entry a joint: as configured, or by the joints' names.

    Raises:
        ValueError: a joint of one side has none to match on the other.
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
