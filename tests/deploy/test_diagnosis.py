"""The diagnosis of a run names the fault of a robot in MuJoCo, and nothing where it is sound."""

import json
from collections.abc import Container, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biped.__main__ import main
from biped.config.randomization import RandomizationConfig
from biped.config.task import EnvConfig
from biped.deploy.contract_file import PolicyContract
from biped.deploy.controller import OnnxPolicy
from biped.deploy.diagnosis import CAUSES, GAIN_OF_GUESS, as_lines, diagnose, has_fallen, ranked
from biped.deploy.diagnosis_body import Guess, Motion, not_negative, played, slopes
from biped.deploy.diagnosis_guesses import consistency, guesses_of_tilt, guesses_of_wiring, signed_axes
from biped.deploy.diagnosis_log import (
    RULES,
    Finding,
    deaf,
    frozen,
    gravity_not_down,
    gravity_scale,
    gyro_factor,
    lost_packets,
    sagging,
    stuck_switch,
    wrong_clock,
    wrong_observation,
    wrong_rate,
)
from biped.deploy.diagnosis_policy import findings_of_policy, replay
from biped.deploy.run_log import PHASES, LogWriter, RunLog
from biped.runs.directory import RunDirectory
from biped.sim.mujoco_kinematics import MujocoKinematics
from tests.conftest import ROOT
from tests.deploy.faulty_robot import Faults, World, run_with
from tests.deploy.still_robot import POLICY

ROBUST = ROOT / "assets" / "policies" / "robust" / "biped_robust.zip"
QUARTER = ((0.0, 1.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
"""An IMU that is turned by a quarter about the vertical axis."""
Y_WRONG, ON_ITS_SIDE = (
    ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0)),
    ((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
)

DOWN = np.array((0.0, 0.0, -1.0))


def tilted(pitch: float = 0.0, roll: float = 0.0) -> tuple[tuple[float, float, float], ...]:
    """Return what makes of a level robot's readings those of an IMU that says it leans, by degrees, back or left."""
    (cosine, sine), (c, s) = ((np.cos(angle), np.sin(angle)) for angle in np.radians((pitch, roll)))
    about_y = np.array(((cosine, 0.0, sine), (0.0, 1.0, 0.0), (-sine, 0.0, cosine)))
    matrix = about_y @ ((1.0, 0.0, 0.0), (0.0, c, -s), (0.0, s, c))
    x, y, z = matrix.tolist()
    return tuple(x), tuple(y), tuple(z)


@pytest.fixture(scope="module")
def env() -> EnvConfig:
    """The robot of the robust policy, without randomisation."""
    return replace(RunDirectory(ROBUST.parent).read_config().env, randomization=RandomizationConfig())


@pytest.fixture(scope="module")
def policy() -> OnnxPolicy:
    return OnnxPolicy(POLICY)


@pytest.fixture(scope="module")
def body(env: EnvConfig) -> MujocoKinematics:
    return MujocoKinematics(env)


@pytest.fixture(scope="module")
def sound(env: EnvConfig, policy: OnnxPolicy) -> RunLog:
    """The log of a robot with nothing wrong."""
    return run_with(env, policy)


def changed(log: RunLog, **columns: Any) -> RunLog:
    """Return a log with other columns."""
    return replace(log, columns={**log.columns, **columns})


def causes(log: RunLog, *rules: Any) -> list[str]:
    return [finding.cause for rule in rules for finding in rule(log, log.policy)]


# The table: what is injected, what must be named first, and a word that must be in what it is about

L_ROLL, L_PITCH, L_KNEE, L_ANKLE, R_ROLL, R_PITCH, R_KNEE, R_ANKLE, YAW = range(9)
FAULTS: Mapping[str, tuple[Faults, str, str]] = {
    "knees exchanged": (Faults(swapped=(L_KNEE, R_KNEE)), "joint order", "left_knee and right_knee"),
    "ankles exchanged": (Faults(swapped=(L_ANKLE, R_ANKLE)), "joint order", "left_ankle and right_ankle"),
    "hip and knee exchanged": (Faults(swapped=(L_PITCH, L_KNEE)), "joint order", "left_hip_pitch and left_knee"),
    "roll reversed": (Faults(reversed=L_ROLL), "joint direction", "left_hip_roll"),
    "ankle reversed": (Faults(reversed=R_ANKLE), "joint direction", "right_ankle"),
    "hip 8 degrees off": (Faults(offsets_rad=((L_PITCH, 0.14),)), "joint offset", "left_hip_pitch"),
    "ankle 7 degrees off": (Faults(offsets_rad=((R_ANKLE, -0.12),)), "joint offset", "right_ankle"),
    "half gain": (Faults(gain=0.5), "gain too low", "all joints"),
    "a soft knee": (Faults(gain=0.35, gain_joint=L_KNEE), "gain too low", "left_knee"),
    "threefold gain": (Faults(gain=3.0, latency_s=0.004), "gain too high", "all joints"),
    "a fifth of the torque": (Faults(limit_nm=0.6), "torque limit", "all joints"),
    "60 ms late": (Faults(latency_s=0.06), "latency", "all joints"),
    "IMU turned": (Faults(imu_from=QUARTER), "IMU axes", "x should be -y, y should be x"),
    "IMU on its side": (Faults(imu_from=ON_ITS_SIDE), "IMU axes", "IMU"),
    "IMU's y wrong": (Faults(imu_from=Y_WRONG), "IMU sign", "IMU: y should be -y"),
    "gyroscope's y wrong": (Faults(gyro_from=Y_WRONG), "IMU sign", "gyroscope: y should be -y"),
    "IMU tilted forwards": (Faults(imu_from=tilted(pitch=-7.0)), "IMU tilt", "leaned forwards"),
    "IMU tilted back": (Faults(imu_from=tilted(pitch=6.0)), "IMU tilt", "leaned back"),
    "IMU tilted to the left": (Faults(imu_from=tilted(roll=10.0)), "IMU tilt", "leaned to the left"),
    "IMU tilted to the right": (Faults(imu_from=tilted(roll=-20.0)), "IMU tilt", "leaned to the right"),
    "two faults at once": (Faults(reversed=L_KNEE, swapped=(L_PITCH, R_PITCH)), "unknown", ""),
    "gravity in m/s2": (Faults(gravity_factor=9.81), "gravity scale", "IMU"),
    "gyroscope in deg/s": (Faults(gyro_factor=57.296), "gyroscope scale", "IMU"),
    "velocities unscaled": (Faults(scales=(("joint_vel_rad_s", 20.0),)), "observation scale", "joint_vel_rad_s"),
    "terms exchanged": (
        Faults(exchanged_terms=("projected_gravity_b", "base_ang_vel_b")),
        "observation order",
        "projected_gravity_b",
    ),
    "no memory": (Faults(forgets=True), "memory", ""),
    "slow clock": (Faults(clock_factor=0.7), "wrong rate", "the gait clock"),
    "38 Hz": (Faults(dt_factor=1.3), "wrong rate", "the loop"),
    "deaf": (Faults(deaf=True), "command", ""),
    "weak battery": (Faults(resistance_ohm=0.8), "voltage sag", ""),
    "play": (Faults(play_rad=0.15), "play", ""),
    "bad plug": (Faults(lost=0.2, lost_joint=L_KNEE), "lost packets", "left_knee"),
    "bad bus": (Faults(lost=0.05), "lost packets", "the bus"),
    "IMU frozen": (Faults(frozen="imu"), "frozen sensor", "IMU"),
    "knee frozen": (Faults(frozen="left_knee", frozen_after_s=4.6), "frozen sensor", "left_knee"),
    "hot knee": (Faults(hot_joint=L_KNEE), "overheating", "left_knee"),
}
WORLDS: Mapping[str, World] = {
    "plain": World(),
    "slippery, heavy, in a curve": World(seed=1, friction=0.5, mass=1.1, command=(0.4, 0.0, 0.3)),
    "on a slope, pushed": World(seed=2, slope_rad=(0.03, 0.02), push_n=4.0),
    "light, sideways": World(seed=3, mass=0.9, command=(0.0, 0.1, 0.4)),
    "standing in the default pose first": World(seed=4, standing_by_policy=False),
    "standing": World(seed=5, command=(0.0, 0.0, 0.0)),
    "fast, on rubber": World(seed=6, friction=1.2, command=(0.5, 0.0, 0.0)),
    "backwards": World(seed=7, command=(-0.2, 0.0, 0.0), mass=1.05),
    "downhill": World(seed=8, slope_rad=(0.035, 0.0)),
    "turning": World(seed=9, command=(0.0, 0.0, 0.6), friction=0.8),
}


FIRST_OF_ITS_CAUSE = {cause: name for name, (_, cause, _) in reversed(FAULTS.items())}


def quick_and_slow(names: Mapping[str, Any], quick: Container[str]) -> list[Any]:
    """Leave what is one more of a kind to the slow tests: each is a walk."""
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", quick_and_slow(FAULTS, FIRST_OF_ITS_CAUSE.values()))
def test_the_cause_is_named_first(name: str, env: EnvConfig, policy: OnnxPolicy, body: MujocoKinematics) -> None:
    faults, cause, what = FAULTS[name]
    found = diagnose(run_with(env, policy, faults, World(seed=200 + list(FAULTS).index(name))), body, policy)
    assert found, "nothing found"
    assert found[0].cause == cause, found
    assert what in found[0].what


@pytest.mark.parametrize("name", quick_and_slow(WORLDS, list(WORLDS)[::2]))
def test_nothing_is_found_where_nothing_is_wrong(
    name: str, env: EnvConfig, policy: OnnxPolicy, body: MujocoKinematics
) -> None:
    tolerated = Faults(lost=0.01, latency_s=0.005) if list(WORLDS).index(name) % 2 else Faults()
    log = run_with(env, policy, tolerated, WORLDS[name])
    assert log.about["ended"] == "the time was over"
    assert diagnose(log, body, policy) == ()


# Rules, by hand

COUNT, DT = 9, 0.02


@pytest.fixture(scope="module")
def contract(policy: OnnxPolicy) -> PolicyContract:
    return policy.contract


def written(contract: PolicyContract, steps: int = 60, phase: str = "walking", **columns: Any) -> RunLog:
    """Return a log of a robot that stands upright and does nothing, but for these columns."""
    log = LogWriter(contract)
    for step in range(steps):
        row: dict[str, Any] = {
            "time_s": DT * step,
            "phase": PHASES.index(phase),
            "gravity_b": (1e-3 * step, 0.0, -1.0),
            "ang_vel_b": (0.0, 0.0, 0.0),
            "pos_rad": contract.default_pose_rad,
            "vel_rad_s": np.zeros(COUNT),
            "target_rad": contract.default_pose_rad,
            "given_command": np.zeros(3),
            "command": np.zeros(3),
            "voltage_v": np.full(COUNT, 12.0),
        }
        log.add(**row | {name: value[step] for name, value in columns.items()})
    return log.finish({"ended": "", "policy_sha256": contract.sha256})


def test_a_log_in_which_nothing_happens_has_nothing_wrong(contract: PolicyContract) -> None:
    assert causes(written(contract), *RULES) == []
    assert causes(written(contract, steps=0), *RULES) == []


@given(st.floats(0.5, 2.0))
def test_the_loops_rate_is_wrong_from_5_percent_on(contract: PolicyContract, factor: float) -> None:
    log = written(contract, time_s=factor * DT * np.arange(60))
    if abs(abs(factor - 1.0) - 0.05) > 1e-3:
        assert (causes(log, wrong_rate) == ["wrong rate"]) == (abs(factor - 1.0) > 0.05)


def test_the_loops_rate_is_said_in_hertz(contract: PolicyContract) -> None:
    (found,) = wrong_rate(written(contract, time_s=0.04 * np.arange(60)), contract)
    assert "it runs at 25.0 Hz, the policy was trained at 50 Hz; 100% of the steps" in found.evidence


def test_a_clock_that_stands_or_goes_back_is_said(contract: PolicyContract) -> None:
    (found,) = wrong_rate(written(contract, time_s=np.full(60, 7.0)), contract)
    assert (found.what, found.evidence) == ("the log's clock", "time_s stands still")
    time = DT * np.arange(60)
    time[30] -= 1.0
    (found,) = wrong_rate(written(contract, time_s=time), contract)
    assert "goes back in 1 of 59 steps" in found.evidence


def test_the_gait_clocks_rate_is_that_of_its_sine_and_cosine(contract: PolicyContract) -> None:
    angle = 2.0 * np.pi * 2.7 * DT * np.arange(60)
    observation = np.zeros((60, contract.width))
    observation[:, contract.terms[-1].where] = np.stack((np.sin(angle), np.cos(angle)), axis=1)
    (found,) = wrong_clock(written(contract, observation=observation), contract)
    assert "2.70 strides per second, the contract says 1.80" in found.evidence


def test_packets_are_lost_from_3_percent_on(contract: PolicyContract) -> None:
    position = np.tile(contract.default_pose_rad, (100, 1))
    position[::100] = np.nan  # 1% of all
    assert causes(written(contract, 100, pos_rad=position), lost_packets) == []
    position[::20, 3] = np.nan  # and 5% of one servo
    assert causes(written(contract, 100, pos_rad=position), lost_packets) == []
    position[::5, 3] = np.nan
    (found,) = lost_packets(written(contract, 100, pos_rad=position), contract)
    assert (found.what, "20.0% of the answers of left_ankle are missing" in found.evidence) == ("left_ankle", True)


def test_the_share_that_is_too_large_is_the_one_that_is_said(contract: PolicyContract) -> None:
    position = np.tile(contract.default_pose_rad, (100, 1))
    position[::25] = np.nan
    (found,) = lost_packets(written(contract, 100, pos_rad=position), contract)
    assert found.evidence.startswith("4.0% of all answers are missing (")
    position = np.tile(contract.default_pose_rad, (400, 1))
    position[:7, 2] = np.nan
    (found,) = lost_packets(written(contract, 400, pos_rad=position), contract)
    assert found.evidence.startswith(f"7 steps in a row lack an answer, the policy bears {contract.max_held_steps} (")


def test_six_answers_in_a_row_are_too_many(contract: PolicyContract) -> None:
    position = np.tile(contract.default_pose_rad, (400, 1))
    position[100:105, 2] = np.nan
    assert causes(written(contract, 400, pos_rad=position), lost_packets) == []
    position[105, 2] = np.nan
    assert causes(written(contract, 400, pos_rad=position), lost_packets) == ["lost packets"]


def test_gravity_must_be_one_long_and_point_down(contract: PolicyContract) -> None:
    down = np.tile((0.0, 0.0, -1.0), (60, 1))
    assert causes(written(contract, gravity_b=1.04 * down), gravity_scale) == []
    (found,) = gravity_scale(written(contract, gravity_b=9.81 * down), contract)
    assert "9.81 long, as if in m/s²" in found.evidence
    for dead in (0.0 * down, np.where(np.arange(60)[:, None] % 4, down, 0.0)):
        found = causes(written(contract, gravity_b=dead), *RULES)
        assert found[0] == "gravity scale"
        assert "IMU axes" not in found
    for gravity, cause in (((0.0, 0.0, 1.0), "IMU sign"), ((0.0, -1.0, 0.1), "IMU axes")):
        log = written(contract, phase="to pose", gravity_b=np.tile(gravity, (60, 1)))
        assert causes(log, gravity_not_down) == [cause]


@given(st.floats(0.2, 60.0))
def test_the_gyroscopes_factor_is_found(contract: PolicyContract, factor: float) -> None:
    """A base that pitches as 0.3 sin(3 t): gravity is (sin, 0, -cos) of it, turned about y."""
    time = DT * np.arange(100)
    pitch, rate = 0.3 * np.sin(3.0 * time), 0.9 * np.cos(3.0 * time)
    gravity = np.stack((np.sin(pitch), 0.0 * pitch, -np.cos(pitch)), axis=1)
    turning = factor * np.stack((0.0 * rate, rate, 0.0 * rate), axis=1)
    log = written(contract, 100, gravity_b=gravity, ang_vel_b=turning)
    assert gyro_factor(log, contract) == pytest.approx(factor, rel=0.02)
    motion = Motion(log["pos_rad"], log["vel_rad_s"], gravity, turning / factor, log["target_rad"], np.arange(2, 98))
    plain, wrong = np.eye(3), np.diag((1.0, -1.0, 1.0))
    assert consistency(motion, DT, plain, plain) < 1e-3
    assert consistency(motion, DT, plain, wrong) == pytest.approx(4.0, rel=0.01), "twice as wrong as nothing, squared"


def test_a_scale_and_an_order_of_the_observation_are_compared_with_the_readings(
    contract: PolicyContract, sound: RunLog
) -> None:
    assert causes(sound, wrong_observation) == []
    terms = {term.name: term.where for term in contract.terms}
    observation = sound["observation"].copy()
    observation[:, terms["base_ang_vel_b"]] *= 3.0
    (found,) = wrong_observation(changed(sound, observation=observation), contract)
    assert (found.what, found.evidence) == ("base_ang_vel_b", "its scale is 1.5, the contract says 0.5")


def test_a_command_that_is_too_small_to_follow_is_no_lost_one(contract: PolicyContract) -> None:
    for command, silent in (((0.05, 0.0, 0.0), []), ((0.3, 0.0, 0.0), ["command"])):
        assert causes(written(contract, given_command=np.tile(command, (60, 1))), deaf) == silent


def test_a_joint_at_its_stop_is_not_a_frozen_encoder(contract: PolicyContract) -> None:
    moving = np.tile(contract.default_pose_rad, (60, 1))
    moving[:, 2] += 0.2 * np.sin(np.arange(60))
    assert causes(written(contract, target_rad=moving), frozen) == ["frozen sensor"]
    moving[:, 2] += 0.4
    assert causes(written(contract, target_rad=moving), frozen) == [], "pushed one way throughout"
    same = np.tile((0.0, 0.0, -1.0), (60, 1))
    assert causes(written(contract, gravity_b=same), frozen) == ["frozen sensor"]


def test_a_voltage_may_drop_by_15_percent(contract: PolicyContract) -> None:
    for low, found in ((10.3, []), (10.0, ["voltage sag"])):
        volts = np.where(np.arange(60)[:, None] % 2, low, 12.0) * np.ones(COUNT)
        assert causes(written(contract, voltage_v=volts), sagging) == found


def test_a_foot_switch_that_never_changes_is_stuck(contract: PolicyContract) -> None:
    raw = json.loads(json.dumps(contract.raw))
    place = {"name": "foot_contact", "start": 38, "width": 2, "scale": 1.0}
    raw["observation"] |= {"width": 40, "terms": [*raw["observation"]["terms"], place]}
    with_switches = PolicyContract.of(raw)
    observation = np.zeros((90, 40))
    observation[::2, 38] = 1.0
    (found,) = stuck_switch(written(with_switches, 90, observation=observation), with_switches)
    assert (found.what, "it is off in every step" in found.evidence) == ("the right foot", True)
    observation[1::2, 39] = 1.0
    assert causes(written(with_switches, 90, observation=observation), stuck_switch) == []


# The policy


def test_a_memory_that_is_begun_anew_once_is_no_fault(sound: RunLog, policy: OnnxPolicy) -> None:
    found = replay(sound, policy)
    assert (found.steps, found.carried, found.empty) == (300, 1.0, 0.0)
    assert list(findings_of_policy(sound, policy)) == []


def test_actions_of_another_policy_are_known(sound: RunLog, policy: OnnxPolicy) -> None:
    log = changed(sound, action=sound["action"] + 0.1)
    (found,) = findings_of_policy(log, policy)
    assert found.cause == "another policy"
    assert "only 0% of the 300" in found.evidence


def test_a_policy_of_other_joints_is_named_by_the_first_that_differs(sound: RunLog, policy: OnnxPolicy) -> None:
    raw = json.loads(json.dumps(policy.contract.raw))
    raw["action"]["joint_names"][2] = "left_tibia"
    (found,) = findings_of_policy(replace(sound, contract=raw), policy)
    assert found.evidence.startswith("its joint 3 is left_knee, the log's left_tibia; ")


# The laws of motion


def test_the_soles_of_the_default_pose_are_level_and_as_low_as_the_contract_says(
    body: MujocoKinematics, contract: PolicyContract
) -> None:
    soles = body.soles(contract.default_pose_rad[None])[0]
    height = contract.raw["robot"]["default_base_height_m"]
    np.testing.assert_allclose(soles[..., 2], -height, atol=1e-3)
    np.testing.assert_allclose(soles[0] - soles[1], np.tile((0.0, 0.11, 0.0), (4, 1)), atol=1e-9)


def test_a_body_at_rest_weighs_what_it_weighs(body: MujocoKinematics, contract: PolicyContract) -> None:
    pose, still = np.concatenate(((1.0, 0.0, 0.0, 0.0), contract.default_pose_rad)), np.zeros((1, 6 + COUNT))
    forces, jacobians = body.forces(pose[None], still, still)
    np.testing.assert_allclose(forces[0, :3], (0.0, 0.0, 9.81 * body.mass_kg), atol=1e-6)
    np.testing.assert_allclose(jacobians[0, :, :, :3], np.tile(np.eye(3), (8, 1, 1)), atol=1e-9)
    left = [*range(4, 8)]
    assert np.abs(jacobians[0][:4, :, 6:][..., left]).max() == 0.0, "the right leg does not move the left sole"


def test_a_leaning_sole_slopes_by_its_ankle(body: MujocoKinematics, contract: PolicyContract) -> None:
    pose = np.tile(contract.default_pose_rad, (3, 1))
    pose[:, 3] += 0.1
    gravity = np.tile((0.0, 0.0, -1.0), (3, 1))
    motion = Motion(pose, 0.0 * pose, gravity, 0.0 * gravity, pose, np.arange(3))
    slope, _ = slopes(motion, body)
    np.testing.assert_allclose(np.abs(slope), np.tile((np.sin(0.1), 0.0), (3, 1)), atol=1e-6)


def test_a_reading_that_is_lost_takes_nothing_but_itself(contract: PolicyContract) -> None:
    time = DT * np.arange(100)
    pitch, rate = 0.3 * np.sin(3.0 * time), 0.9 * np.cos(3.0 * time)
    gravity = np.stack((np.sin(pitch), 0.0 * time, -np.cos(pitch)), axis=1)
    turning = np.stack((0.0 * time, 3.0 * rate, 0.0 * time), axis=1)
    for broken in (np.nan, np.inf, 0.0):
        gravity[50] = broken
        turning[70, 1] = np.nan
        log = written(contract, 100, gravity_b=gravity, ang_vel_b=turning)
        assert gyro_factor(log, contract) == pytest.approx(3.0, rel=0.02)
        assert [found.cause for found in diagnose(log)] == ["gyroscope scale"]
    gravity[50], pose = np.nan, np.tile(contract.default_pose_rad, (100, 1))
    motion = Motion(
        pose, 0.0 * pose, np.asarray(gravity, np.float64), np.asarray(turning / 3.0, np.float64), pose, np.arange(100)
    )
    assert consistency(motion, DT, np.eye(3), np.eye(3)) < 0.01
    assert consistency(motion, DT, np.eye(3), np.array(Y_WRONG)) > 1.0


@given(st.lists(st.floats(-2.0, 2.0), min_size=3, max_size=3))
def test_what_may_only_push_does_not_pull(wanted: list[float]) -> None:
    """With the unit matrix the solution is each number itself, or 0."""
    found = not_negative(np.eye(3)[None], np.array([wanted]), steps=400)
    np.testing.assert_allclose(found[0], np.maximum(wanted, 0.0), atol=1e-3)


def test_gears_with_play_follow_when_it_is_used_up() -> None:
    targets = np.array([0.0, 0.3, 0.2, -0.3])[:, None]
    np.testing.assert_allclose(played(targets, np.array([0.2]))[:, 0], [0.0, 0.2, 0.2, -0.2])


def test_guesses_are_all_there_are() -> None:
    axes = list(signed_axes())
    assert len({matrix.tobytes() for matrix in axes}) == 48
    assert sum(guess.cause == "joint order" for guess in guesses_of_wiring(("a", "b", "c"))) == 3
    assert sum(guess.cause == "joint direction" for guess in guesses_of_wiring(("a", "b", "c"))) == 3
    for tilt in guesses_of_tilt():
        seen = np.linalg.inv(tilt.gravity_from) @ DOWN
        ways = {"forwards": seen[0], "back": -seen[0], "to the left": seen[1], "to the right": -seen[1]}
        (way,) = [words for words in ways if tilt.what.endswith(f"leaned {words}")]
        assert ways[way] == pytest.approx(np.sin(tilt.size))
    assert not Guess(sign=np.ones(3)).is_of_motors
    assert Guess(gain=2.0).is_of_motors


# What is said


def test_what_follows_from_a_cause_is_not_said() -> None:
    findings = [Finding("latency", "", "", 0.99), Finding("memory", "", "", 0.5), Finding("command", "", "", 1.0)]
    assert [finding.cause for finding in ranked(findings)] == ["command", "memory"]
    assert set(GAIN_OF_GUESS) <= set(CAUSES)


def test_what_could_not_be_examined_is_said(contract: PolicyContract) -> None:
    standing, silent = written(contract, 60), np.full((60, 3), np.nan)
    for log, said in (
        (written(contract, 0), "not examined: the log has 0 steps"),
        (written(contract, 1), "not examined: the log has 1 step,"),
        (written(contract, phase="limp"), "not examined: the servos are limp throughout the 60 steps"),
        (changed(standing, phase=np.full(60, 99)), "not examined: none of the 60 steps is in a phase that"),
        (written(contract, phase="to pose"), "were not examined: 0 steps of standing or walking are too few"),
        (written(contract, gravity_b=silent), "were not examined: readings of the IMU are missing"),
    ):
        (line,) = as_lines(diagnose(log), log)
        assert said in line
    assert as_lines(diagnose(standing), standing) == ("nothing found in 60 steps",)


def test_the_page_lists_every_cause() -> None:
    page = (ROOT / "docs" / "diagnose.md").read_text()
    assert [name for name in CAUSES if f"| {name} |" not in page] == []


def test_the_door_says_it_in_two_lines(
    env: EnvConfig, sound: RunLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = run_with(env, OnnxPolicy(POLICY), Faults(forgets=True))
    log.save(tmp_path / "run.npz")
    assert main(["diagnose", str(tmp_path / "run.npz"), "--policy", str(POLICY)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("memory: the policy's memory is not carried over: ")
    assert second == f"    remedy: {CAUSES['memory'].remedy}"
    assert as_lines((), sound) == ("nothing found in 400 steps",)


@pytest.mark.parametrize("words", [["none.npz"], ["none.npz", "--policy", "none.onnx"]])
def test_no_log_is_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", *words]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_without_the_robot_less_is_found_and_that_is_said(
    sound: RunLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = {**sound.contract, "robot": {**sound.contract["robot"], "model_file": "elsewhere.xml"}}
    replace(sound, contract=elsewhere).save(tmp_path / "run.npz")
    assert main(["diagnose", str(tmp_path / "run.npz")]) == 0
    said = capsys.readouterr()
    assert said.out == "nothing found in 400 steps\n"
    assert "less is found: no robot in " in said.err


def test_another_robot_is_refused(contract: PolicyContract, tmp_path: Path) -> None:
    written(contract).save(tmp_path / "run.npz")
    strider = str(ROOT / "assets" / "strider" / "robot.json")
    assert main(["diagnose", str(tmp_path / "run.npz"), "--robot", strider]) == 2


def test_a_robot_that_walks_on_has_no_fault_without_a_name(sound: RunLog, contract: PolicyContract) -> None:
    assert not has_fallen(sound, contract)
    gravity_b = sound["gravity_b"].copy()
    gravity_b[-1] = (np.sin(0.5), 0.0, -np.cos(0.5))
    assert has_fallen(changed(sound, gravity_b=gravity_b), contract)
    gravity_b[-1] = np.nan
    assert not has_fallen(changed(sound, gravity_b=gravity_b), contract)
