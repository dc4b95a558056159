"""The robot's left-right symmetry: what its mirror image observes and does.

The sagittal plane swaps the legs. It negates what points to the left (y), turns about x (roll) or about z (yaw), and
moves the gait clock on by half a stride.
"""

from biped.config.robot import RobotConfig
from biped.mdp.observations import TERMS, ObservationLayout, ObservationTerm
from biped.robot.symmetry import MirrorRule, mirror_joints


def mirror_action(robot: RobotConfig) -> MirrorRule:
    """Return the mirror image of an action, which has one entry per joint; see `biped.robot.symmetry.mirror_joints`.

    Raises:
        ValueError: a joint of one side has none to match on the other.
    """
    return mirror_joints(robot)


def mirror_observation(layout: ObservationLayout, robot: RobotConfig) -> MirrorRule:
    """Return the mirror image of an observation.

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
