"""The robot's left-right symmetry: what its mirror image observes and does.

The sagittal plane swaps the legs. It negates what points to the left (y), turns about x (roll) or about z (yaw), and
moves the gait clock on by half a stride.
"""

from biped.mdp.observations import ObservationLayout
from biped_config import RobotConfig

MirrorRule = tuple[list[int], list[float]]
"""Where each entry of the mirrored vector comes from, and its sign."""

_SIDES = {"left": "right", "right": "left"}
_NEGATED_JOINTS = ("roll", "yaw")
_VECTORS: dict[str, tuple[float, ...]] = {
    "projected_gravity_b": (1.0, -1.0, 1.0),
    "base_ang_vel_b": (-1.0, 1.0, -1.0),
    "base_lin_vel_xy_b": (1.0, -1.0),
    "base_height_m": (1.0,),
    "command_lin_vel_x_b": (1.0,),
    "command_lin_vel_y_b": (-1.0,),
    "command_ang_vel_b": (-1.0,),
    "gait_phase": (-1.0, -1.0),
}
_JOINT_TERMS = ("joint_pos_rad", "joint_vel_rad_s", "previous_action")


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


def mirror_observation(layout: ObservationLayout, robot: RobotConfig) -> MirrorRule:
    """Return the mirror image of an observation.

    Raises:
        ValueError: the robot is not symmetric, or the layout has a term whose mirror image is not known.
    """
    index: list[int] = []
    sign: list[float] = []
    for term in layout.terms:
        if term.name in _JOINT_TERMS:
            places, signs = mirror_joints(robot)
        elif term.name == "foot_contact":
            places, signs = [1, 0], [1.0, 1.0]
        elif term.name in _VECTORS:
            places, signs = list(range(term.width)), list(_VECTORS[term.name])
        else:
            raise ValueError(f"nothing says how {term.name} looks in a mirror")
        index += [len(sign) + place for place in places]
        sign += signs
    return index, sign
