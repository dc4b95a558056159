"""The robot, its motors, and how it is simulated."""

from typing import Annotated

from pydantic import Field

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


@section
class ServoConfig(Section):
    """The actuator: ROBOTIS XM430-W210-T at 12 V, from the e-Manual's specification table."""

    stall_torque_nm: Positive = 3.0
    """Torque at standstill (N·m); the simulator limits every joint's torque to it."""
    no_load_speed_rad_s: Positive = 8.06
    """Speed at which the servo has no torque left (rad/s); 77 rev/min."""


@section
class RobotConfig(Section):
    """The robot model, and its default pose: the start of every episode and the zero of actions."""

    model_path: str = "assets/biped/biped.xml"
    """Path of the robot's MJCF or URDF (if it ends in .urdf) file, relative to the repository or absolute."""
    base_link: str = "pelvis"
    """Name of the floating base's link; its frame is the base frame `_b` (x forward, y left, z up)."""
    torso_link: str = "torso"
    """Name of the link that carries added mass: `randomization.torso_mass_kg` is added there."""
    foot_links: tuple[str, str] = ("left_foot", "right_foot")
    """Names of the foot links, left first."""
    foot_switches: bool = False
    """Whether the feet have switches or load cells that tell the policy which of them are on the ground."""
    foot_sole_offset_m: tuple[Finite, Finite, Finite] = (0.015, 0.0, -0.035)
    """Centre of the sole in the foot link's frame: x, y, z (m)."""
    joint_names: tuple[str, ...] = JOINT_NAMES
    """Names of the actuated joints, in the order of actions."""
    swing_joints: tuple[str, ...] = tuple(f"{side}_{name}" for side in ("left", "right") for name in LEG_PITCH)
    """Joints that the gait swings: hip pitch, knee and ankle pitch of the left leg, then of the right."""
    swing_signs: tuple[Finite, Finite, Finite] = (-1.0, 1.0, -1.0)
    """Sign (1 or -1) on each joint's axis that moves the hip forward, bends the knee and lifts the ankle."""
    mirror_joints: tuple[str, ...] = ()
    """Mirror image of each joint, in the order of `joint_names`; empty: left_ and right_ in the names are swapped."""
    mirror_signs: tuple[float, ...] = ()
    """For each joint, 1 if it keeps its sign in the mirror, else -1; empty: -1 for names that end in roll or yaw."""
    default_joint_pos_rad: tuple[Finite, ...] = (0.0, -0.35, 0.7, -0.35, 0.0, -0.35, 0.7, -0.35, 0.0)
    """Joint positions of the default pose: standing with bent knees (rad)."""
    default_base_height_m: Positive = 0.404
    """Height of the base over the ground in the default pose (m)."""
    kp_nm_per_rad: Positive = 20.0
    """Proportional gain of every joint's position controller (N·m/rad)."""
    kd_nm_s_per_rad: NotNegative = 0.5
    """Derivative gain of every joint's position controller (N·m·s/rad)."""
    urdf_armature_kg_m2: NotNegative = 0.01
    """Reflected inertia of each motor if the model is a URDF, which cannot state it (kg·m²); an MJCF states its own."""
    servo: ServoConfig = ServoConfig()
    """Torque and speed limits of the actuators."""

    def __post_init__(self) -> None:
        count = len(self.joint_names)
        self._require(len(self.default_joint_pos_rad) == count, "default_joint_pos_rad", f"{count} values, one per joint")
        self._require(len(self.swing_joints) == 2 * len(LEG_PITCH), "swing_joints", "six names, three of each leg")
        self._require(set(self.swing_signs) <= {1.0, -1.0}, "swing_signs", "1 or -1 each")
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


@section
class SimConfig(Section):
    """How the physics is integrated."""

    control_dt_s: Annotated[float, Field(ge=0.001, le=0.1)] = 0.02
    """Time between two actions (s); 0.02 s is 50 Hz."""
    substeps: Count = 2
    """Physics steps per action."""
    max_collision_pairs: Count = 20
    """Upper bound of contact candidates per environment; only the feet and the ground collide."""
    performance_mode: bool = False
    """Compile Genesis with static arrays: about a quarter faster, with a longer first build."""
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
