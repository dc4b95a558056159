"""The robot in MuJoCo under its servos' law: numbers by hand, what an IMU must say, and a stand on the real bus."""

import time
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from biped.base.errors import MachineError
from biped.config.robot import JOINT_NAMES
from biped.config.task import EnvConfig
from biped.deploy.dynamixel import MODELS, Array, TorqueLaw
from biped.deploy.servos import DynamixelServos
from biped.sim.mujoco_servos import HANGING_HEIGHT_M, PHYSICS_DT_S, Mounting, MujocoServos, Wear
from tests.servo_bus import XM430, a_contract, a_wiring, mujoco_for, robot

JOINTS = len(JOINT_NAMES)
CFG = EnvConfig()
LAW = TorqueLaw.of([MODELS[XM430]] * JOINTS)
DEFAULT = np.array(CFG.robot.default_joint_pos_rad)
HEIGHT_M = CFG.robot.default_base_height_m
TICKS_PER_RAD = 4096 / (2 * np.pi)
WIRING = a_wiring(JOINT_NAMES)
MOUNTING = Mounting(tuple(WIRING.directions), tuple(WIRING.zero_ticks))
LIMP = np.zeros(JOINTS)


@dataclass
class Command:
    """What all servos are set to: the registers that the shipped policy's gains need (test_dynamixel.py)."""

    goal_ticks: Array
    position_p: Array = field(default_factory=lambda: np.full(JOINTS, 1158.0))
    position_d: Array = field(default_factory=lambda: np.full(JOINTS, 926.0))
    pwm_limit: Array = field(default_factory=lambda: np.full(JOINTS, 885.0))
    voltage_v: float = 12.0


def to(angles: Array) -> Command:
    return Command(WIRING.zero_ticks + WIRING.directions * angles * TICKS_PER_RAD)


def a_plant(hanging: bool = False, wear: Wear = Wear()) -> MujocoServos:  # noqa: B008 - it is frozen
    return MujocoServos(CFG, LAW, MOUNTING, wear, hanging=hanging)


def test_the_first_torque_by_hand() -> None:
    plant = a_plant(hanging=True)
    command = Command(np.rint(plant.pos_ticks) + 100.0, position_p=np.full(JOINTS, 800.0), position_d=LIMP)
    plant.advance(PHYSICS_DT_S, command)
    # 800 / 128 · 100 ticks = 625 of 885 PWM, of 3 N·m; a servo that is turned round drives its joint the other way.
    expected = 3.0 * 625.0 / 885.0 * WIRING.directions
    assert plant.data.qfrc_actuator[6:] == pytest.approx(expected, rel=1e-6)
    assert plant.current_a == pytest.approx(2.3 * 625.0 / 885.0)
    assert (np.sign(plant.vel_rad_s) == 1).all()


def test_torque_is_limited_and_falls_with_the_voltage() -> None:
    plant = a_plant(hanging=True)
    command = Command(plant.pos_ticks + 1000.0, pwm_limit=np.full(JOINTS, 442.0), voltage_v=9.0)
    plant.advance(PHYSICS_DT_S, command)
    assert np.abs(plant.data.qfrc_actuator[6:]) == pytest.approx(3.0 * 0.75 * 442 / 885, rel=1e-6)


def test_encoders_count_whole_ticks() -> None:
    plant, seen = a_plant(), []

    def law(goal: Array, pos: Array, *rest: Array) -> tuple[Array, Array]:
        seen.append(pos)
        return LAW(goal, pos, *rest)

    watched = MujocoServos(CFG, law, MOUNTING)  # type: ignore[arg-type]
    watched.advance(0.01, to(DEFAULT + 0.1))
    assert len(seen) == 10 and all((ticks == np.rint(ticks)).all() for ticks in seen)
    assert seen[0] == pytest.approx(WIRING.zero_ticks + WIRING.directions * DEFAULT * TICKS_PER_RAD, abs=0.5)
    assert plant.pos_rad == pytest.approx(DEFAULT)


@pytest.mark.parametrize("hanging", [False, True])
def test_a_held_base_stays_where_it_is_and_the_imu_rests(hanging: bool) -> None:
    plant = a_plant(hanging)
    plant.advance(1.0, to(DEFAULT + 0.2 * hanging))
    base = plant.base()
    assert base.pos_w == pytest.approx([0.0, 0.0, HEIGHT_M + HANGING_HEIGHT_M * hanging], abs=1e-4)
    assert base.quat == pytest.approx([1.0, 0.0, 0.0, 0.0], abs=1e-4)
    assert base.specific_force_b == pytest.approx([0.0, 0.0, 9.81], abs=1e-3)
    assert base.ang_vel_b == pytest.approx([0.0, 0.0, 0.0], abs=1e-4)


def test_hanging_legs_reach_their_targets_but_for_gravity_and_friction() -> None:
    plant = a_plant(hanging=True)
    plant.advance(1.5, to(DEFAULT + 0.3))
    # The heaviest part is held with less than 0.6 N·m: 0.03 rad at 20 N·m/rad.
    assert plant.pos_rad == pytest.approx(DEFAULT + 0.3, abs=0.03)


def test_a_limp_leg_hangs_down() -> None:
    plant = a_plant(hanging=True)
    command = to(DEFAULT)
    command.pwm_limit = LIMP
    plant.advance(3.0, command)
    knee = JOINT_NAMES.index("left_knee")
    assert plant.pos_rad[knee] < 0.5  # from 0.7, with the joint's dry friction
    assert not plant.current_a.any()


def test_released_it_stands() -> None:
    plant = a_plant()
    plant.advance(0.2, to(DEFAULT))
    plant.release()
    plant.advance(4.0, to(DEFAULT))
    base = plant.base()
    assert base.pos_w == pytest.approx([0.0, 0.0, HEIGHT_M], abs=0.015)
    assert base.quat[0] > 0.999
    assert base.specific_force_b == pytest.approx([0.0, 0.0, 9.81], abs=0.5)


def test_released_and_limp_it_falls_and_lies_on_the_ground() -> None:
    plant, command = a_plant(), to(DEFAULT)
    command.pwm_limit = LIMP
    plant.release()
    plant.advance(2.0, command)
    assert 0.01 < plant.base().pos_w[2] < 0.6 * HEIGHT_M


def test_it_may_be_held_again() -> None:
    plant, command = a_plant(), to(DEFAULT)
    command.pwm_limit = LIMP
    plant.release()
    plant.advance(1.0, command)
    plant.hold()
    plant.advance(1.1, command)
    assert plant.base().pos_w == pytest.approx([0.0, 0.0, HEIGHT_M], abs=1e-4)


def test_in_free_fall_the_imu_feels_nothing() -> None:
    plant, command = a_plant(hanging=True), to(DEFAULT)
    plant.advance(1.0, command)
    plant.release()
    plant.advance(1.1, command)
    assert plant.base().pos_w[2] == pytest.approx(HEIGHT_M + HANGING_HEIGHT_M - 0.5 * 9.81 * 0.1**2, abs=3e-3)
    assert np.linalg.norm(plant.base().specific_force_b) < 0.5


def test_the_gyro_says_how_the_base_turns() -> None:
    plant, command = a_plant(), to(DEFAULT)
    plant.release()
    plant.push((8.0, 0.0, 0.0))
    plant.advance(0.3, command)
    before = plant.base()
    plant.advance(0.3 + PHYSICS_DT_S, command)
    after = plant.base()
    # The vector part of the conjugate of one orientation times the next is half of the turn between them.
    w, v = before.quat[0], before.quat[1:]
    turn = w * after.quat[1:] - after.quat[0] * v - np.cross(v, after.quat[1:])
    assert np.linalg.norm(after.ang_vel_b) > 0.1
    assert 2.0 * turn / PHYSICS_DT_S == pytest.approx(after.ang_vel_b, rel=0.05, abs=0.02)


def test_play_is_where_a_joint_is_not_driven() -> None:
    loose, tight = a_plant(hanging=True, wear=Wear(play_rad=0.1)), a_plant(hanging=True)
    yaw = JOINT_NAMES.index("torso_yaw")
    for plant in (loose, tight):
        plant.advance(0.5, to(DEFAULT))
    targets = DEFAULT.copy()
    targets[yaw] = 0.15
    for plant in (loose, tight):
        plant.advance(1.5, to(targets))
    assert tight.pos_rad[yaw] - loose.pos_rad[yaw] == pytest.approx(0.05, abs=0.01)


def test_a_heavier_robot_weighs_more() -> None:
    light, heavy = a_plant(), a_plant(wear=Wear(mass_factor=1.2))
    assert heavy.model.body_mass.sum() == pytest.approx(1.2 * light.model.body_mass.sum())
    assert (a_plant(wear=Wear(friction_factor=0.0)).model.dof_frictionloss == 0.0).all()


def test_it_has_the_training_robots_mass_and_joints() -> None:
    plant = a_plant()
    assert plant.joint_names == CFG.robot.joint_names
    assert plant.model.body_mass.sum() == pytest.approx(CFG.robot.mass_kg, abs=1e-3)


def test_it_is_at_least_twice_as_fast_as_real_time() -> None:
    plant, command = a_plant(), to(DEFAULT)
    plant.release()
    begin = time.process_time()
    plant.advance(2.0, command)
    assert time.process_time() - begin < 1.0
    assert plant.data.time == pytest.approx(2.0)


def test_a_mounting_of_another_robot_is_refused() -> None:
    with pytest.raises(MachineError, match="the mounting has 8 servos, the robot 9 joints"):
        MujocoServos(CFG, LAW, replace(MOUNTING, directions=MOUNTING.directions[:8]))


def test_the_robot_stands_on_the_bus() -> None:
    """All parts together: contract, wiring, ROBOTIS' package, terminal, simulated servos, physics."""
    pytest.importorskip("dynamixel_sdk")
    raw = dict(a_contract(JOINT_NAMES).raw)
    raw["action"] = {**raw["action"], "default_pose_rad": DEFAULT.tolist()}
    simulated, wiring = robot(WIRING, make_plant=mujoco_for(WIRING))
    with simulated:
        contract = type(a_contract(JOINT_NAMES)).of(raw)
        servos = DynamixelServos(contract, wiring, watchdog_s=1.0, patience_s=0.05)  # of a busy machine
        servos.stiffen()
        simulated.ask("plant", "release")
        end = time.monotonic() + 2.0
        while time.monotonic() < end:
            reading = servos.read()
            servos.write(DEFAULT)
            time.sleep(0.01)
        base = simulated.ask("plant", "base")
        assert reading.pos_rad == pytest.approx(DEFAULT, abs=0.05)
        assert base.pos_w[2] == pytest.approx(HEIGHT_M, abs=0.02) and base.quat[0] > 0.99
        servos.go_limp()
        time.sleep(1.0)
        assert simulated.ask("plant", "base").pos_w[2] < 0.6 * HEIGHT_M
        servos.close()
