"""The robot, its motors, and how it is simulated."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from biped.config.actuators import ActuatorConfig, Motor, ServoConfig, motor_of
from biped.config.section import Count, Finite, Fraction, NotNegative, Positive, Section, Seed, section

LEG_PITCH = ("hip_pitch", "knee", "ankle")
"""Leg joints that the gait swings."""
JOINT_NAMES = (
    "left_hip_roll",
    "left_hip_pitch",
    "left_knee",
    "left_ankle",
    "right_hip_roll",
    "right_hip_pitch",
    "right_knee",
    "right_ankle",
    "torso_yaw",
)
"""Actuated joints, in the order of actions and of every per-joint tensor."""


LEG_LENGTH_M = 0.364
"""Leg length of the biped, by which others are scaled (m): hip pitch joints over the soles in the default pose."""
MASS_KG = 1.698
"""Mass of the biped, by which forces on others are scaled (kg)."""
MAX_PAIRS = 12
"""Largest number of pairs of links that collide: each takes one bit of what simulators compare."""

Place = tuple[Finite, Finite, Finite]
"""A point in the frame of a link: x, y, z (m)."""


@section
class RobotConfig(Section):
    """The robot model, and its default pose: the start of every episode and the zero of actions."""

    model_path: str = "assets/biped/biped.xml"
    """Path of the robot's MJCF or URDF (if it ends in .urdf) file, relative to the repository or absolute."""
    base_link: str = "pelvis"
    """Name of the floating base's link; its frame is the base frame `_b` (x forward, y left, z up)."""
    base_point_m: Place = (0.0, 0.0, 0.0)
    """Origin of the base frame in the base link's own frame (m), for models whose link has its frame elsewhere."""
    torso_link: str = "torso"
    """Name of the link that carries added mass: `randomization.torso_mass_kg` is added there."""
    foot_links: tuple[str, str] = ("left_foot", "right_foot")
    """Names of the foot links, left first."""
    foot_switches: bool = False
    """Whether the feet have switches or load cells that tell the policy which of them are on the ground."""
    foot_sole_offset_m: Place | tuple[Place, Place] = (0.015, 0.0, -0.035)
    """Centre of the sole in the foot link's frame: x, y, z (m); or one for each foot, if their frames differ."""
    sole_boxes: bool = False
    """Whether one box under each foot collides in place of its meshes; it is drawn around them in the default pose."""
    joint_names: tuple[str, ...] = JOINT_NAMES
    """Names of the actuated joints, in the order of actions."""
    held_joints: dict[str, Finite] = Field(default_factory=dict)
    """Joints of the model that nothing drives, such as arms, each with the position that it is fixed at (rad)."""
    self_collisions: tuple[tuple[str, str], ...] = ()
    """Pairs of links that collide with each other, such as the two feet; all others pass through each other."""
    swing_joints: tuple[str, ...] = tuple(f"{side}_{name}" for side in ("left", "right") for name in LEG_PITCH)
    """Joints that the gait swings: hip pitch, knee and, if there are any, ankle pitch: left leg, then right."""
    swing_signs: tuple[Finite, ...] = (-1.0, 1.0, -1.0)
    """Sign (1 or -1) on each joint's axis that moves the hip forward, bends the knee and lifts the ankle: of one leg
    if both turn alike, else of each of `swing_joints`."""
    mirror_joints: tuple[str, ...] = ()
    """Mirror image of each joint, in the order of `joint_names`; empty: left_ and right_ in the names are swapped."""
    mirror_signs: tuple[float, ...] = ()
    """For each joint, 1 if it keeps its sign in the mirror, else -1; empty: -1 for names that end in roll or yaw."""
    default_joint_pos_rad: tuple[Finite, ...] = (0.0, -0.35, 0.7, -0.35, 0.0, -0.35, 0.7, -0.35, 0.0)
    """Joint positions of the default pose: standing with bent knees (rad)."""
    default_base_height_m: Finite = 0.404
    """Height of the base over the ground in the default pose (m)."""
    actuators: tuple[ActuatorConfig, ...] = ()
    """Groups of joints with motors of their own; a joint in none has the gains and the servo below."""
    leg_length_m: Positive = LEG_LENGTH_M
    """Height of the hip pitch joints over the soles in the default pose (m); the gate's bars are scaled by it."""
    mass_kg: Positive = MASS_KG
    """Mass of the robot (kg); with the leg's length it scales what `--randomize` does to the robot."""
    kp_nm_per_rad: Positive | tuple[Positive, ...] = 20.0
    """Proportional gain of the position controllers (N·m/rad), or one per joint; `actuators` comes first."""
    kd_nm_s_per_rad: NotNegative | tuple[NotNegative, ...] = 0.5
    """Derivative gain of the position controllers (N·m·s/rad), or one per joint; `actuators` comes first."""
    urdf_armature_kg_m2: NotNegative = 0.01
    """Reflected inertia of each motor if the model is a URDF, which cannot state it (kg·m²); an MJCF states its own."""
    servo: ServoConfig = ServoConfig()
    """Torque and speed limits of the actuators, unless a group of `actuators` says otherwise."""

    def __post_init__(self) -> None:
        count = len(self.joint_names)
        self._require(
            len(self.default_joint_pos_rad) == count, "default_joint_pos_rad", f"{count} values, one per joint"
        )
        swinging = len(self.swing_joints)
        self._require(
            swinging in (2 * len(LEG_PITCH), 2 * len(LEG_PITCH) - 2),
            "swing_joints",
            "six names, three of each leg, or four for legs without ankles",
        )
        self._require(
            len(self.swing_signs) in (swinging, swinging // 2) and set(self.swing_signs) <= {1.0, -1.0},
            "swing_signs",
            f"{swinging // 2} times 1 or -1, or {swinging} times for legs that turn differently",
        )
        self._require(
            not set(self.held_joints) & set(self.joint_names), "held_joints", "joints that are not in joint_names"
        )
        self._require(
            len(self.self_collisions) <= MAX_PAIRS and all(one != other for one, other in self.self_collisions),
            "self_collisions",
            f"at most {MAX_PAIRS} pairs of different links",
        )
        for name, values in (("kp_nm_per_rad", self.kp_nm_per_rad), ("kd_nm_s_per_rad", self.kd_nm_s_per_rad)):
            self._require(_fits(values, count), name, f"a number, or {count} numbers, one per joint")
        for value in (self.servo.stall_torque_nm, self.servo.no_load_speed_rad_s):
            self._require(_fits(value, count), "servo", f"of numbers, or of {count} numbers each, one per joint")
        self._require(
            not self.mirror_joints or sorted(self.mirror_joints) == sorted(self.joint_names),
            "mirror_joints",
            "every one of joint_names once",
        )
        self._require(
            not self.mirror_signs or (len(self.mirror_signs) == count and set(self.mirror_signs) <= {1.0, -1.0}),
            "mirror_signs",
            f"{count} times 1 or -1",
        )

    @property
    def motors(self) -> tuple[Motor, ...]:
        """What drives each joint, in the order of `joint_names`."""
        count, servo = len(self.joint_names), self.servo
        gains = zip(_spread(self.kp_nm_per_rad, count), _spread(self.kd_nm_s_per_rad, count), strict=True)
        limits = zip(_spread(servo.stall_torque_nm, count), _spread(servo.no_load_speed_rad_s, count), strict=True)
        others = (Motor("", *gain, limit[0], *limit) for gain, limit in zip(gains, limits, strict=True))
        return tuple(
            motor_of(name, self.actuators, other) for name, other in zip(self.joint_names, others, strict=True)
        )

    @property
    def sole_offsets_m(self) -> tuple[Place, Place]:
        """Centre of each sole in its foot link's frame: left, right (m)."""
        left, right, *rest = self.foot_sole_offset_m
        if isinstance(left, tuple) and isinstance(right, tuple):
            return left, right
        return (one := (left, right, *rest)), one  # pyright: ignore[reportReturnType] - three numbers

    @property
    def swing_signs_of_both(self) -> tuple[float, ...]:
        """The sign of each of `swing_joints`."""
        return self.swing_signs * (len(self.swing_joints) // len(self.swing_signs))


def _fits(values: float | Sequence[float], count: int) -> bool:
    return not isinstance(values, tuple) or len(values) == count


def _spread(values: float | tuple[float, ...], count: int) -> tuple[float, ...]:
    return values if isinstance(values, tuple) else (values,) * count


@section
class SimConfig(Section):
    """How the physics is integrated."""

    control_dt_s: Annotated[float, Field(ge=0.001, le=0.1)] = 0.02
    """Time between two actions (s); 0.02 s is 50 Hz."""
    substeps: Count = 2
    """Physics steps per action."""
    max_collision_pairs: Count = 20
    """Upper bound of contact candidates per environment; only the feet and the ground collide."""
    performance_mode: bool | None = None
    """Compile Genesis for one number of robots: about a quarter faster, with a longer first build. None: on a GPU
    alone. There Genesis also tries two solvers as it runs and keeps the faster, so that a seed gives other numbers."""
    kernel_seed: Seed = 1
    """Genesis' own seed. It is part of the compiled kernels' cache key, so it stays fixed; `seed` seeds the run."""


@section
class ControlConfig(Section):
    """Conversion of actions to joint targets: target = default pose + scale × clipped action."""

    action_scale_rad: Positive = 0.25
    """Joint offset for an action of 1 (rad)."""
    action_clip: Positive = 4.0
    """Actions are clipped to ± this value before they are scaled."""
    latency_share: Fraction = 0.25
    """Share of the episodes in which every action takes effect one control step late; 1: all episodes."""
