"""Drive an exported policy in plain MuJoCo, from the contract inside the ONNX file and nothing else.

    pip install numpy mujoco onnxruntime
    python run_policy_numpy.py policy.onnx biped.xml --command 0.4 0 0 --seconds 20

What stands here a robot's computer does as well: `Observer` and `Policy` are the two parts to take over; `Robot` is
what real sensors and motors take the place of. It needs Python 3.9, ONNX Runtime 1.17 and MuJoCo 3.2.4, or later ones.
Exit codes: 0 it did not fall, 1 it fell or had to be stopped, 2 wrong usage.
"""
# pyright: reportAttributeAccessIssue=false
# (mujoco has no type stubs)

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Mapping, Sequence

import mujoco
import numpy as np
import onnxruntime
from numpy.typing import NDArray

Contract = Mapping[str, Any]
Array = NDArray[np.float64]

FORMAT, VERSION = "biped-policy-contract", 2
"""The contract that this file understands."""
OLDEST_MUJOCO = "3.2.4"
"""The first whose `MjSpec` reads a file by itself and lists geoms and joints."""
GROUND = 1
"""Collision bit of the ground and of what touches it."""


class RefusedError(Exception):
    """What cannot be used, in one line."""


class Policy:
    """The exported policy with its memory: the LSTM's states go out and come in again at the next step."""

    def __init__(self, file: Path) -> None:
        """Open the file on one CPU core and read its contract.

        Raises:
            RefusedError: it is missing, no ONNX file, none that this runtime knows, or has no contract of ours.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
        except OSError as error:
            raise RefusedError(f"cannot read {file} ({error.strerror})") from error
        except Exception as error:  # the runtime has error types of its own
            raise RefusedError(f"{file} {_why_not_opened(str(error))}") from error
        self.contract = _contract_in(self._session.get_modelmeta().custom_metadata_map.get("contract"), file)
        self._observation, *self._memory = self.contract["policy"]["inputs"]
        # A file of an older export does not hold: nothing may be done after the first such step.
        self._max_held_steps: int = self.contract["policy"].get("non_finite", {}).get("max_held_steps", 0)
        self.forget()

    def forget(self) -> None:
        """Begin an episode: the memory is empty."""
        self._state = [np.zeros(part["shape"], np.float32) for part in self._memory]
        self.held = self._held_in_a_row = 0
        self.estimate: Array | None = None
        """The policy's guess of velocity (m/s, base frame) and height (m), (4,), for you to use; None without one."""

    @property
    def must_stop(self) -> bool:
        """Whether observations were not finite for too long: the robot is to be stopped, not to act once more."""
        return self._held_in_a_row > self._max_held_steps

    def act(self, observation: Array) -> Array:
        """Return the action (num_joints,) for an observation (width,).

        Where a number of it is not finite, the file itself holds the memory and repeats the action before; `held`
        counts such observations. Look at `must_stop` before the action goes to the motors.
        """
        is_finite = bool(np.isfinite(observation).all())
        self.held += not is_finite
        self._held_in_a_row = 0 if is_finite else self._held_in_a_row + 1
        batch = observation.astype(np.float32).reshape(self._observation["shape"])
        names = [part["name"] for part in self._memory]
        inputs = {self._observation["name"]: batch, **dict(zip(names, self._state))}
        results: list[Any] = list(self._session.run(None, inputs))
        action, hidden, cell, *estimates = results
        self._state = [hidden, cell]
        self.estimate = estimates[0][0].astype(np.float64) if estimates else None
        return action[0].astype(np.float64)


def _why_not_opened(said: str) -> str:
    """Return in one line what is wrong with a file, and what to do, from what the runtime said of it."""
    if "protobuf" in said.lower():
        return "is not an ONNX file, or a damaged one: copy or export it anew"
    if "IR version" in said or "opset" in said:
        return (
            f"is of a newer ONNX than ONNX Runtime {onnxruntime.__version__} knows: install a newer onnxruntime, or "
            "export it anew with this project's newest biped_export.py"
        )
    return f"cannot be run by ONNX Runtime {onnxruntime.__version__}: {said.splitlines()[0]}"


def _contract_in(text: str | None, file: Path) -> Contract:
    """Return the contract from a file's metadata.

    Raises:
        RefusedError: there is none, or none that this program understands.
    """
    if not text:
        raise RefusedError(f"{file} has no contract in its metadata: export it with biped_export.py")
    try:
        contract = json.loads(text)
    except ValueError as error:
        raise RefusedError(f"the contract in the metadata of {file} is not JSON ({error}): export it anew") from error
    if not isinstance(contract, dict) or contract.get("format") != FORMAT:
        raise RefusedError(f"the contract in the metadata of {file} is no {FORMAT}: export it with biped_export.py")
    if contract.get("version") != VERSION:
        raise RefusedError(
            f"{file} has a contract of version {contract.get('version')}, and this program understands version "
            f"{VERSION}: take both from one version of the project"
        )
    return contract


class Observer:
    """From measurements to observations: scales, the gait clock, contacts with hysteresis, the action before.

    What is not finite stays so until the policy sees it: a clip would hide that a reading is infinite, and a comparison
    that a force is none.
    """

    def __init__(self, contract: Contract, command: Sequence[float]) -> None:
        """Begin an episode under a command: forward m/s, left m/s, counter-clockwise rad/s."""
        self._contract = contract
        self._phase: float = contract["gait_clock"]["initial_phase"]
        self._switches = contract["foot_contact"]  # None: the policy does without
        self._contacts = np.zeros(2, bool)
        self._force_is_known = np.ones_like(self._contacts)
        self._previous_action = np.zeros(len(contract["action"]["joint_names"]))
        rule, (forward, left, turn) = contract["command"], command
        size = np.linalg.norm((forward, left, rule["turning_lever_m"] * turn))
        self.is_moving = bool(size >= rule["moving_threshold_m_s"])
        self.command = np.array(command) * self.is_moving

    def advance(self, action: Array, foot_force_n: Array) -> None:
        """Let one control step pass.

        Args:
            action: what the policy asked for, (num_joints,).
            foot_force_n: vertical force on each foot after the step, left first, (2,), N; of no account for a policy
                that does without switches.
        """
        clock, contact = self._contract["gait_clock"], self._switches
        self._phase = (self._phase + clock["frequency_hz"] * self._contract["control"]["dt_s"]) % 1.0
        self._previous_action = action
        if contact is not None:
            now = (foot_force_n >= contact["on_n"]) | (self._contacts & (foot_force_n >= contact["off_n"]))
            self._force_is_known = np.isfinite(foot_force_n)
            self._contacts = np.where(self._force_is_known, now, self._contacts)

    def observe(self, measured: Mapping[str, Array]) -> Array:
        """Return the observation (width,) from what `Robot.measure` returns; what is not finite is NaN in it.

        Raises:
            RefusedError: the contract asks for something that nobody here measures.
        """
        angle = 2.0 * np.pi * self._phase
        forward, left, turn = self.command
        values = {
            **measured,
            "command_lin_vel_x_b": forward,
            "command_lin_vel_y_b": left,
            "command_ang_vel_b": turn,
            "foot_contact": np.where(self._force_is_known, self._contacts, np.nan),
            "previous_action": self._previous_action,
            "gait_phase": np.array((np.sin(angle), np.cos(angle))) * self.is_moving,
        }
        rule = self._contract["observation"]
        if missing := [term["name"] for term in rule["terms"] if term["name"] not in values]:
            raise RefusedError(f"the contract asks for {missing[0]}, which nobody measures")
        parts = [term["scale"] * np.atleast_1d(values[term["name"]]) for term in rule["terms"]]
        numbers = np.concatenate(parts)
        return np.where(np.isfinite(numbers), np.clip(numbers, -rule["clip"], rule["clip"]), np.nan)


class Robot:
    """A robot in MuJoCo, on a plane, in its default pose, with the contract's position controllers."""

    def __init__(self, file: Path, contract: Contract) -> None:
        """Build it.

        Raises:
            RefusedError: MuJoCo is too old, or the file is missing, no MJCF, or of another robot.
        """
        if not hasattr(getattr(mujoco, "MjSpec", None), "geoms"):
            raise RefusedError(f"MuJoCo {mujoco.__version__} is older than {OLDEST_MUJOCO}: install a newer mujoco")
        self._contract, action, robot = contract, contract["action"], contract["robot"]
        try:
            spec = mujoco.MjSpec.from_file(str(file))
            self.model: Any = self._completed(spec).compile()
        except ValueError as error:
            raise RefusedError(f"MuJoCo cannot use {file} ({str(error).splitlines()[0]})") from error
        self.data: Any = mujoco.MjData(self.model)
        try:
            joints = [self.model.joint(name) for name in action["joint_names"]]
            self._feet = [self.model.body(name).id for name in robot["foot_links"]]
            base = self.model.body(robot["base_link"])
        except KeyError as error:
            raise RefusedError(f"{file} is of another robot than the policy ({str(error).splitlines()[0]})") from error
        if base.dofnum[0] != 6 or self.model.nq != 7 + len(joints):
            raise RefusedError(f"{file} must have a floating {robot['base_link']} and the policy's joints, no others")
        self._qpos = [int(joint.qposadr[0]) for joint in joints]
        self._qvel = [int(joint.dofadr[0]) for joint in joints]
        self._default_pose = np.array(action["default_pose_rad"])
        self.data.qpos[: -len(joints)] = (0.0, 0.0, robot["default_base_height_m"], 1.0, 0.0, 0.0, 0.0)
        self.data.qpos[self._qpos] = self._default_pose

    def _completed(self, spec: Any) -> Any:
        """Add ground and motors; what a model file has of motors goes, and the robot does not collide with itself."""
        control, motors = self._contract["control"], self._contract["motors"]
        for geom in spec.geoms:
            geom.contype, geom.conaffinity = (GROUND if geom.contype or geom.conaffinity else 0), 0
        spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1], contype=0, conaffinity=GROUND)
        spec.option.timestep = control["physics_dt_s"]
        for motor in list(spec.actuators):
            # Before 3.3.4 the part does it.
            spec.delete(motor) if hasattr(spec, "delete") else motor.delete()
        names, known = self._contract["action"]["joint_names"], {joint.name for joint in spec.joints}
        if missing := [name for name in names if name not in known]:
            raise RefusedError(f"the robot is another than the policy's: it has no joint {missing[0]}")
        gains = zip(names, motors["kp_nm_per_rad"], motors["kd_nm_s_per_rad"], motors["torque_limit_nm"])
        for name, kp, kd, limit in gains:
            motor = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
            # `set_to_position` by hand, which MuJoCo has since 3.3.3.
            motor.gaintype, motor.biastype = mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtBias.mjBIAS_AFFINE
            motor.gainprm[0], motor.biasprm[1], motor.biasprm[2] = kp, -kp, -kd
            motor.forcelimited, motor.forcerange = True, [-limit, limit]
        return spec

    def step(self, action: Array) -> None:
        """Hold the joint targets of an action (num_joints,) for one control step."""
        self.data.ctrl[:] = self._default_pose + self._contract["action"]["scale_rad"] * action
        for _ in range(self._contract["control"]["physics_substeps"]):
            mujoco.mj_step(self.model, self.data)

    def measure(self) -> dict[str, Array]:
        """Return what an IMU and encoders say, by the contract's names.

        The velocity and the height are here for policies that were trained with them: no sensor of a small robot gives
        them.
        """
        position, velocity, base_from_world = self.data.qpos, self.data.qvel, self._base_from_world()
        return {
            "projected_gravity_b": base_from_world @ (0.0, 0.0, -1.0),
            "base_ang_vel_b": velocity[3:6].copy(),  # MuJoCo has it in the base frame already
            "joint_pos_rad": position[self._qpos] - self._default_pose,
            "joint_vel_rad_s": velocity[self._qvel],
            "base_lin_vel_xy_b": (base_from_world @ velocity[:3])[:2],
            "base_height_m": position[2:3].copy(),
        }

    def truth(self) -> Array:
        """Return what the policy's estimate is of: velocity in the base frame (m/s) and height (m), (4,)."""
        return np.array((*(self._base_from_world() @ self.data.qvel[:3]), self.data.qpos[2]))

    def velocity(self) -> Array:
        """Return how the base moves, whatever was measured: forward m/s, left m/s, counter-clockwise rad/s, (3,)."""
        return np.array((*(self._base_from_world() @ self.data.qvel[:3])[:2], self.data.qvel[5]))

    def _base_from_world(self) -> Array:
        rotation = np.zeros(9)
        mujoco.mju_quat2Mat(rotation, self.data.qpos[3:7])
        return rotation.reshape(3, 3).T

    def foot_force_n(self) -> Array:
        """Return the vertical force of the ground on each foot, (2,), N."""
        total, wrench = np.zeros(len(self._feet)), np.zeros(6)
        for index, contact in enumerate(self.data.contact):
            mujoco.mj_contactForce(self.model, self.data, index, wrench)
            on_second_w = contact.frame.reshape(3, 3).T @ wrench[:3]
            first, second = self.model.geom_bodyid[contact.geom]
            for foot, body in enumerate(self._feet):
                total[foot] += on_second_w[2] * (int(second == body) - int(first == body))
        return total

    def has_fallen(self) -> bool:
        """Say whether the base is too low or too far from upright, whatever was measured."""
        limits = self._contract["fallen"]
        tilt_rad = np.arccos(np.clip(self._base_from_world()[2, 2], -1.0, 1.0))
        is_low = self.data.qpos[2] < limits["min_base_height_m"]
        return bool(is_low or tilt_rad > limits["max_tilt_rad"])


def walk(policy: Policy, robot: Robot, command: Sequence[float], seconds: float) -> bool:
    """Let the robot follow a command; print how it went, and return whether it walked to the end."""
    dt_s = policy.contract["control"]["dt_s"]
    observer = Observer(policy.contract, command)
    policy.forget()
    velocities, path_m, off = [], 0.0, []
    for _ in range(max(1, round(seconds / dt_s))):
        truth = robot.truth()
        action = policy.act(observer.observe(robot.measure()))
        if policy.estimate is not None:
            off.append(policy.estimate - truth)
        if policy.must_stop:
            break
        before = robot.data.qpos[:2].copy()
        robot.step(action)
        observer.advance(action, robot.foot_force_n())
        velocities.append(robot.velocity())
        path_m += float(np.linalg.norm(robot.data.qpos[:2] - before))
        if robot.has_fallen():
            break
    fell = robot.has_fallen()
    x, y = robot.data.qpos[:2]
    how = "stopped" if policy.must_stop else "fell" if fell else "on its feet"
    print(f"{how} after {len(velocities) * dt_s:.2f} s")
    if policy.held:
        print(f"held      {policy.held} observations that were not finite")
    print(f"distance  {np.hypot(x, y):.2f} m as the crow flies, {path_m:.2f} m along the base's path")
    means = np.mean(velocities or [robot.velocity()], axis=0)
    rows = zip(("forward", "left", "turn"), ("m/s", "m/s", "rad/s"), observer.command, means)
    for name, unit, wanted, got in rows:
        print(f"{name:9} {got:+.3f} {unit}, asked for {wanted:+.3f}")
    if off:
        speed, height = (
            float(np.sqrt(np.mean(np.square(part)))) for part in (np.array(off)[:, :2], np.array(off)[:, 3])
        )
        print(f"estimate  off by {speed:.3f} m/s and {1000.0 * height:.1f} mm (root mean square)")
    return how == "on its feet"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("policy", type=Path, help="policy.onnx, as biped_export.py writes it")
    parser.add_argument("robot", type=Path, help="the robot's MJCF")
    parser.add_argument("--command", type=float, nargs=3, default=(0.4, 0.0, 0.0), metavar=("VX", "VY", "WZ"))
    parser.add_argument("--seconds", type=float, default=20.0, metavar="S")
    args = parser.parse_args(argv)
    try:
        policy = Policy(args.policy)
        return 0 if walk(policy, Robot(args.robot, policy.contract), args.command, args.seconds) else 1
    except RefusedError as error:
        print(f"run_policy_numpy.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
