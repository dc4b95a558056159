"""Hand-made inputs for the pure functions."""

from dataclasses import replace

import torch

from biped.config.randomization import RandomizationConfig
from biped.config.task import EnvConfig
from biped.mdp.commands import asked_and_done, command_progress
from biped.mdp.gait import StepEvents, swing_height
from biped.mdp.observations import ObservationInputs
from biped.mdp.randomization import sample_dynamics
from biped.mdp.rewards import RewardInputs, RewardModel, deviation, follow
from biped.robot.state import BipedState

CPU = torch.device("cpu")
CONFIG = EnvConfig()
MODEL = RewardModel.build(CONFIG, CPU)


def standing_state(count: int = 1, **changes: torch.Tensor) -> BipedState:
    """Robots that stand in the default pose, at the height that the reward asks for."""
    default = torch.tensor(CONFIG.robot.default_joint_pos_rad)
    base = torch.zeros(count, 3)
    base[:, 2] = CONFIG.reward.target_height_m
    state = BipedState(
        base_pos_w=base,
        base_quat_w=torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(count, 1),
        base_lin_vel_b=torch.zeros(count, 3),
        base_ang_vel_b=torch.zeros(count, 3),
        projected_gravity_b=torch.tensor([[0.0, 0.0, -1.0]]).repeat(count, 1),
        joint_pos_rad=default.repeat(count, 1),
        joint_vel_rad_s=torch.zeros(count, len(default)),
        joint_torque_nm=torch.zeros(count, len(default)),
        foot_pos_w=torch.zeros(count, 2, 3),
        foot_vel_w=torch.zeros(count, 2, 3),
        foot_force_n=torch.full((count, 2), 8.0),
        error=torch.zeros(count, dtype=torch.bool),
    )
    return replace(state, **changes)


def standing_inputs(
    command: tuple[float, float, float] = (0.4, 0.0, 0.0), phase: float = 0.0, **changes: object
) -> RewardInputs:
    """One robot that stands still under a command, both feet on the ground, at a phase of the gait clock."""
    joints = len(CONFIG.robot.joint_names)
    inputs = RewardInputs(
        state=standing_state(),
        command=torch.tensor([command]),
        action=torch.zeros(1, joints),
        previous_action=torch.zeros(1, joints),
        swing=swing_height(torch.tensor([phase]), CONFIG.gait.swing_share),
        contacts=torch.ones(1, 2, dtype=torch.bool),
        steps=StepEvents.none(1, CPU),
        fell=torch.zeros(1, dtype=torch.bool),
        moving=torch.tensor([any(command)]),
        progress=torch.zeros(1),
        following=torch.zeros(1, 3),
        phase=torch.tensor([phase]),
        deviation_rad=torch.zeros(1, joints),
    )
    changed = replace(inputs, **changes)
    velocities = asked_and_done(changed.command, changed.state)
    return replace(
        changed,
        progress=command_progress(velocities, CONFIG.command),
        following=follow(velocities, MODEL),
        deviation_rad=deviation(changed.state.joint_pos_rad, MODEL),
    )


def observed(count: int = 1, **changes: object) -> ObservationInputs:
    """Robots that stand still and are told to walk: all that observations are made of."""
    robot, cfg = CONFIG.robot, RandomizationConfig()
    inputs = ObservationInputs(
        state=standing_state(count),
        command=torch.tensor([[0.5, -0.1, 0.4]]).repeat(count, 1),
        contacts=torch.tensor([[True, False]]).repeat(count, 1),
        previous_action=torch.full((count, len(robot.joint_names)), 0.7),
        gait_clock=torch.tensor([[1.0, 0.0]]).repeat(count, 1),
        dynamics=sample_dynamics(cfg, robot, count, torch.Generator()),
        into_ground_b=torch.tensor([[0.0, 0.0, -1.0]]).repeat(count, 1),
        push_force_b=torch.zeros(count, 3),
        bump_height_m=torch.zeros(count),
    )
    return replace(inputs, **changes)
