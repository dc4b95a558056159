"""A library of motors that can be bought or are published, by name, each with its source.

Torques of hobby servos are those at standstill; a robot walks with a fraction of them (ToddlerBot's measurements of an
XM430-W210 found 65% of its data sheet's). Torques of the others are the limits in their makers' models.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

_ROBOTIS = "ROBOTIS e-Manual: github.com/ROBOTIS-GIT/emanual, commit 0028038, _data/dxl_x_info.yml"
_BAM = "inertia and friction: Rhoban BAM, github.com/Rhoban/bam, commit 1b5a1ce, model m1"
_TODDLERBOT = "inertia and friction: ToddlerBot 2.0, google-deepmind/mujoco_menagerie, commit 24b360c, toddlerbot_2xc"
_FEETECH = "data sheets of Feetech as sellers quote them (19.5, 30 and 50 kg·cm)"
_UNITREE = (
    "unitreerobotics/unitree_ros, commit d6f13aa; inertia and friction of the G1: unitree_rl_lab, unitree_actuators.py"
)
_BOOSTER = "BoosterRobotics/booster_gym, commit da396a0, T1_serial.urdf"
_BERKELEY = "HybridRobotics/Berkeley-Humanoid-Lite-Assets, commit 205534d; inertia: their Isaac Lab configuration"
_ROBSTRIDE = "Berkeley-Humanoids/Lite-Description, commit 77509b5, robot_assets/actuators/robstride.py"


@dataclass(frozen=True)
class Servo:
    """What is published of a motor with its gears."""

    stall_torque_nm: float
    """Largest torque, at standstill (N·m)."""
    no_load_speed_rad_s: float
    """Speed without load (rad/s)."""
    source: str
    """Where the figures are from."""
    voltage_v: float | None = None
    """Voltage at which torque and speed hold (V); None where nobody says."""
    mass_kg: float | None = None
    """Mass (kg); None where nobody says."""
    armature_kg_m2: float | None = None
    """Inertia of the rotor, reflected through the gears (kg·m²); None where nobody has published it."""
    friction_nm: float | None = None
    """Dry friction (N·m); None where nobody has published it."""


SERVOS: Mapping[str, Servo] = MappingProxyType(
    {
        "XL330-M077": Servo(0.215, 40.11, _ROBOTIS, voltage_v=5.0, mass_kg=0.018),
        "XL330-M288": Servo(
            0.52,
            10.79,
            f"{_ROBOTIS}; {_BAM}",
            voltage_v=5.0,
            mass_kg=0.018,
            armature_kg_m2=0.001814,
            friction_nm=0.01283,
        ),
        "XC330-M288": Servo(0.93, 8.482, _ROBOTIS, voltage_v=5.0, mass_kg=0.023),
        "XC330-T288": Servo(
            0.92,
            6.807,
            f"{_ROBOTIS}; {_TODDLERBOT}",
            voltage_v=11.1,
            mass_kg=0.023,
            armature_kg_m2=0.0048,
            friction_nm=0.006,
        ),
        "XL430-W250": Servo(1.4, 5.969, _ROBOTIS, voltage_v=11.1, mass_kg=0.0572),
        "XC430-W150": Servo(1.6, 11.1, _ROBOTIS, voltage_v=12.0, mass_kg=0.065),
        "XC430-W240": Servo(
            1.9,
            7.33,
            f"{_ROBOTIS}; {_TODDLERBOT}",
            voltage_v=12.0,
            mass_kg=0.065,
            armature_kg_m2=0.0044,
            friction_nm=0.014,
        ),
        "XM430-W210": Servo(
            3.0,
            8.063,
            f"{_ROBOTIS}; {_TODDLERBOT}",
            voltage_v=12.0,
            mass_kg=0.082,
            armature_kg_m2=0.0022,
            friction_nm=0.038,
        ),
        "XM430-W350": Servo(
            4.1,
            4.817,
            f"{_ROBOTIS}; {_TODDLERBOT}",
            voltage_v=12.0,
            mass_kg=0.082,
            armature_kg_m2=0.0025,
            friction_nm=0.105,
        ),
        "XH430-W210": Servo(2.5, 5.236, _ROBOTIS, voltage_v=12.0, mass_kg=0.082),
        "XH540-W150": Servo(7.1, 7.33, _ROBOTIS, voltage_v=12.0, mass_kg=0.165),
        "XH540-W270": Servo(9.9, 4.084, _ROBOTIS, voltage_v=12.0, mass_kg=0.165),
        "XM540-W150": Servo(7.3, 5.55, _ROBOTIS, voltage_v=12.0, mass_kg=0.165),
        "XM540-W270": Servo(10.6, 3.142, _ROBOTIS, voltage_v=12.0, mass_kg=0.165),
        "STS3215-7V4": Servo(
            1.912,
            5.454,
            f"{_FEETECH}; {_BAM}",
            voltage_v=7.4,
            mass_kg=0.055,
            armature_kg_m2=0.0284,
            friction_nm=0.05239,
        ),
        "STS3215-12V": Servo(2.942, 4.718, _FEETECH, voltage_v=12.0, mass_kg=0.055),
        "STS3250": Servo(4.903, 7.874, _FEETECH, voltage_v=12.0, mass_kg=0.0745),
        "Unitree-N7520-14.3": Servo(88.0, 32.0, _UNITREE, armature_kg_m2=0.01018, friction_nm=1.6),
        "Unitree-N7520-22.5": Servo(139.0, 20.0, _UNITREE, armature_kg_m2=0.0251, friction_nm=2.4),
        "Unitree-N5020-16": Servo(25.0, 37.0, _UNITREE, armature_kg_m2=0.00361, friction_nm=0.6),
        "Unitree-Go1": Servo(23.7, 30.1, _UNITREE, armature_kg_m2=0.004026),
        "Unitree-Go2": Servo(23.7, 30.1, _UNITREE, armature_kg_m2=0.01, friction_nm=0.2),
        "Booster-T1-hip-pitch": Servo(45.0, 12.5, _BOOSTER),
        "Booster-T1-hip-roll": Servo(30.0, 10.9, _BOOSTER),
        "Booster-T1-knee-pitch": Servo(60.0, 11.7, _BOOSTER),
        "Booster-T1-ankle-pitch": Servo(20.0, 18.8, _BOOSTER),
        "Booster-T1-ankle-roll": Servo(15.0, 12.4, _BOOSTER),
        "BHL-6512": Servo(20.0, 15.0, _BERKELEY, voltage_v=24.0, armature_kg_m2=0.007),
        "BHL-5010": Servo(20.0, 15.0, _BERKELEY, voltage_v=24.0, armature_kg_m2=0.002),
        "Robstride-RS00": Servo(14.0, 32.99, _ROBSTRIDE, armature_kg_m2=0.002, friction_nm=0.1),
        "Robstride-RS03": Servo(60.0, 31.83, _ROBSTRIDE, armature_kg_m2=0.01, friction_nm=0.1),
        "Robstride-RS04": Servo(120.0, 31.83, _ROBSTRIDE, armature_kg_m2=0.016, friction_nm=0.1),
    }
)
"""Name to motor."""
