"""From sensor readings to joint targets, as a policy's contract says: observation, memory, gait clock, held readings.

It needs numpy and ONNX Runtime alone; `docs/export.md` documents the contract.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biped.base.errors import MachineError, UsageError, first_line
from biped.deploy.contract_file import contract_in
from biped.deploy.hardware import ImuReading, JointReading

Array = NDArray[np.float64]
Memory = tuple[NDArray[np.float32], ...]

GIVEN = (
    "projected_gravity_b",
    "base_ang_vel_b",
    "command_lin_vel_x_b",
    "command_lin_vel_y_b",
    "command_ang_vel_b",
    "joint_pos_rad",
    "joint_vel_rad_s",
    "previous_action",
    "gait_phase",
)
"""What a policy can be given here, by the contract's names."""


@dataclass(frozen=True)
class Decision:
    """What the policy wants in one step."""

    targets_rad: Array
    """Joint targets, (num_joints,), rad."""
    action: Array
    """The policy's action, (num_joints,)."""
    observation: Array
    """What it was given, (width,), NaN where a reading was."""
    command: Array
    """The command that it was given, (3,): forward m/s, left m/s, counter-clockwise rad/s."""
    estimate: Array | None
    """Its guess of velocity (m/s, base frame) and height (m), (4,); None for a policy without one."""


class OnnxPolicy:
    """The network of an exported policy, on one core."""

    def __init__(self, file: Path) -> None:
        """Open the file and read its contract.

        Raises:
            UsageError: it is missing, no ONNX file, or without a contract that this program understands.
            MachineError: ONNX Runtime is missing.
        """
        try:
            runtime: Any = importlib.import_module("onnxruntime")
        except ImportError as error:
            raise MachineError("onnxruntime is not installed: pip install 'biped-walking[robot]'") from error
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            content = file.read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read {file} ({error.strerror})") from error
        try:
            self._session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime has error types of its own
            raise UsageError(f"{file} is no ONNX file that this runtime reads ({first_line(error)})") from error
        self.contract = contract_in(self._session.get_modelmeta().custom_metadata_map, content, file)
        self._names = [part.name for part in self._session.get_inputs()]

    def empty_memory(self) -> Memory:
        """Return the memory of the first step."""
        return tuple(np.zeros(shape, np.float32) for shape in self.contract.memory_shapes)

    def __call__(self, observation: Array, memory: Memory) -> tuple[Array, Memory, Array | None]:
        """Return action (num_joints,), the next memory, and the estimate (4,), None without one."""
        batch = observation.astype(np.float32)[None]
        action, hidden, cell, *rest = self._session.run(None, dict(zip(self._names, (batch, *memory), strict=True)))
        return action[0].astype(float), (hidden, cell), rest[0][0].astype(float) if rest else None


class Controller:
    """The policy with all that it carries from step to step: memory, gait clock, the action before."""

    def __init__(self, policy: OnnxPolicy) -> None:
        """Begin with an empty memory.

        Raises:
            UsageError: the policy observes something that this program cannot give it.
        """
        self.contract = policy.contract
        self._policy = policy
        if unknown := [term.name for term in self.contract.terms if term.name not in GIVEN]:
            raise UsageError(f"the policy observes {', '.join(unknown)}, which biped_run.py cannot give it")
        self.forget()
        self._try()

    def _try(self) -> None:
        """Run the network once, before a robot stands on it: its first run is also its slowest.

        Raises:
            UsageError: it does not do what its contract says.
        """
        joints = len(self.contract.motors)
        try:
            action, memory, _ = self._policy(np.zeros(self.contract.width), self._memory)
        except Exception as error:  # the runtime has error types of its own
            raise UsageError(f"the policy does not run as its contract says ({first_line(error)})") from error
        shapes = [part.shape for part in memory]
        if action.shape != (joints,) or shapes != list(self.contract.memory_shapes) or not np.isfinite(action).all():
            raise UsageError("the policy's actions or memory are not what its contract says: export it anew")

    def forget(self) -> None:
        """Begin anew: an empty memory, the clock at its beginning."""
        self._memory = self._policy.empty_memory()
        self._previous = np.zeros(len(self.contract.motors))
        self._phase = 0.0
        self.held = 0
        """How many readings in a row were not finite."""

    @property
    def must_stop(self) -> bool:
        """Whether readings were not finite for so long that the contract says to stop."""
        return self.held > self.contract.max_held_steps

    def step(self, imu: ImuReading, joints: JointReading, wanted: Array) -> Decision:
        """Return what the policy does for a command (3,): forward m/s, left m/s, counter-clockwise rad/s.

        A reading that is not finite reaches the policy as NaN: its file holds memory and action by itself.
        """
        contract = self.contract
        command = contract.command.followed(wanted)
        observation = self._observe(command, imu, joints)
        is_finite = bool(np.isfinite(observation).all())
        self.held = 0 if is_finite else self.held + 1
        action, self._memory, estimate = self._policy(observation, self._memory)
        self._previous = action
        self._phase = (self._phase + contract.frequency_hz * contract.dt_s) % 1.0
        targets = contract.default_pose_rad + contract.action_scale_rad * action
        return Decision(targets, action, observation, command, estimate)

    def _observe(self, command: Array, imu: ImuReading, joints: JointReading) -> Array:
        values, observation = self._values(command, imu, joints), np.empty(self.contract.width)
        for term in self.contract.terms:
            observation[term.where] = term.scale * values[term.name]
        # A clip would hide that a reading is infinite.
        observation[~np.isfinite(observation)] = np.nan
        return observation.clip(-self.contract.clip, self.contract.clip)

    def _values(self, command: Array, imu: ImuReading, joints: JointReading) -> dict[str, Any]:
        """Return each term's physical value by its name in the contract."""
        angle = 2.0 * np.pi * self._phase
        clock = np.array((np.sin(angle), np.cos(angle))) * bool(command.any())
        position = joints.pos_rad - self.contract.default_pose_rad
        values = (imu.gravity_b, imu.ang_vel_b, *command, position, joints.vel_rad_s, self._previous, clock)
        return dict(zip(GIVEN, values, strict=True))
