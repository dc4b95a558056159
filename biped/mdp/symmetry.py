"""The robot's left-right symmetry: observations and actions of its mirror image.

The sagittal plane swaps the legs. It negates quantities that point to the left (y) or turn about x (roll) or z
(yaw), and advances the gait clock by half a stride.
"""

from biped.config.robot import RobotConfig
from biped.mdp.observations import TERMS, ObservationLayout, ObservationTerm
from biped.robot.symmetry import MirrorRule, mirror_joints


def mirror_action(robot: RobotConfig) -> MirrorRule:
    """Return the mirror rule for an action, which has one entry per joint; see `biped.robot.symmetry.mirror_joints`.

    Raises:
        ValueError: a joint of one side has no counterpart on the other.
    """
    return mirror_joints(robot)


def mirror_observation(layout: ObservationLayout, robot: RobotConfig) -> MirrorRule:
    """Return the mirror rule for an observation.

    Raises:
        ValueError: the robot is not symmetric.
    """
    index: list[int] = []
    sign: list[float] = []
    for term in layout.terms:
        places, signs = _mirror_term(term, robot)
        index += [len(sign) + place for place in places]
        sign += signs
    return index, sign


def _mirror_term(term: ObservationTerm, robot: RobotConfig) -> MirrorRule:
    rule = TERMS[term.name].mirrored
    if isinstance(rule, tuple):
        return list(range(term.width)), list(rule)
    if rule == "feet":
        return [1, 0], [1.0, 1.0]
    places, signs = mirror_joints(robot)
    return places, signs if rule == "joints" else [1.0] * len(signs)
