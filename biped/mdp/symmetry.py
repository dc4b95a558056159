"""The robot's left-right symmetry: what its mirror image observes and does.

The sagittal plane swaps the legs. It negates what points to the left (y), turns about x (roll) or about z (yaw), and
moves the gait clock on by half a stride.
"""

from biped.config.robot import RobotConfig
from biped.mdp.observations import ObservationLayout
from biped.robot.symmetry import MirrorRule, mirror_joints

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


def mirror_action(robot: RobotConfig) -> MirrorRule:
    """Return the mirror image of an action, which has one entry per joint; see `biped.robot.symmetry.mirror_joints`.

    Raises:
        ValueError: a joint of one side has none to match on the other.
    """
    return mirror_joints(robot)


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
