"""Creation of the learner from a configuration."""

from pathlib import Path
from typing import Any, cast

import torch

from biped.base.errors import ConfigError, UsageError
from biped.config.run import ESTIMATES, Config
from biped.env.env import BipedEnv, BipedVecEnv
from biped.mdp.observations import ObservationLayout
from biped.mdp.symmetry import mirror_action, mirror_observation
from biped.ppo.acting import DeterministicActor
from biped.ppo.groups import ACTOR, CRITIC
from biped.ppo.kl_schedule import KlSchedule
from biped.ppo.mirror import Mirror, Reflection
from biped.ppo.policy import MlpIntoLstmPolicy
from biped.ppo.precision import Precision, usable_precision
from biped.ppo.recurrent_pass import single_precision
from biped.ppo.recurrent_ppo import DeviceRecurrentPPO
from biped.runs.checkpoint import OTHER_SHAPE, CheckpointError, read_checkpoint, restore

_REMEDY = "name a checkpoint with --model PATH, with its config.json beside it"


def make_model(config: Config, env: BipedVecEnv, seed: int) -> DeviceRecurrentPPO:
    """Return the learner for a configuration.

    Args:
        config: network and hyperparameters.
        env: the environments; the learner is on their device.
        seed: seed of the initial weights, the exploration noise and the order of minibatches.

    Raises:
        ConfigError: `ppo.mirror` is on, but the robot is not symmetric.
    """
    ppo, policy = config.ppo, config.policy
    schedule = KlSchedule(ppo.desired_kl, ppo.min_learning_rate, ppo.max_learning_rate)
    model = DeviceRecurrentPPO(
        MlpIntoLstmPolicy,
        env,
        learning_rate=ppo.learning_rate,
        kl_schedule=schedule if ppo.adaptive_lr else None,
        precision=cast("Precision", ppo.precision),
        std_range=(policy.min_std, policy.max_std),
        mirror=_mirror(config, env.env.device) if ppo.mirror else None,
        n_steps=ppo.n_steps,
        batch_size=config.batch_size,
        n_epochs=ppo.n_epochs,
        gamma=ppo.gamma,
        gae_lambda=ppo.gae_lambda,
        clip_range=ppo.clip_range,
        ent_coef=ppo.ent_coef,
        vf_coef=ppo.vf_coef,
        max_grad_norm=ppo.max_grad_norm,
        policy_kwargs=_policy_kwargs(config),
        seed=seed,
        device=env.env.device,
    )
    model.two_streams = ppo.two_streams
    return model


def _policy_kwargs(config: Config) -> dict[str, Any]:
    policy = config.policy
    return {
        **_velocity_head(config),
        **({} if policy.memory else {"memory": False}),
        "hidden_sizes": policy.hidden_sizes,
        "lstm_hidden_size": policy.lstm_hidden_size,
        "n_lstm_layers": policy.lstm_layers,
        "initial_std": policy.initial_std,
        "normalize_observations": policy.normalize_observations,
    }


def _velocity_head(config: Config) -> dict[str, Any]:
    """Return the policy's arguments for the head that predicts velocity and height; empty without the head."""
    layout = ObservationLayout.of_critic(config.env)
    if not config.policy.velocity_head or layout is None:
        return {}
    where = layout.slices()
    places = [place for name in ESTIMATES for place in range(where[name].start, where[name].stop)]
    return {"estimates": tuple(places), "estimate_coef": config.ppo.velocity_coef}


def _mirror(config: Config, device: torch.device) -> Mirror:
    robot = config.env.robot
    try:
        index, sign = mirror_action(robot)
        of_policy = mirror_observation(ObservationLayout.build(config.env), robot)
        critic = ObservationLayout.of_critic(config.env)
        of_critic = None if critic is None else mirror_observation(critic, robot)
    except ValueError as error:
        raise ConfigError(f"{error}: use --set ppo.mirror=false") from error
    pose = robot.default_joint_pos_rad
    if any(pose[i] != pose[j] * s for i, (j, s) in enumerate(zip(index, sign, strict=True))):
        raise ConfigError("env.robot.default_joint_pos_rad is not its own mirror image: use --set ppo.mirror=false")
    actor, action = (Reflection.build(*rule, device) for rule in (of_policy, (index, sign)))
    if of_critic is None:
        return Mirror(actor, action)
    return Mirror({ACTOR: actor, CRITIC: Reflection.build(*of_critic, device)}, action)


def load_model(config: Config, env: BipedVecEnv, path: Path) -> DeviceRecurrentPPO:
    """Return the learner with the weights of a checkpoint.

    Args:
        config: the configuration that the checkpoint was trained with.
        env: any number of environments; the learner is on their device.
        path: the checkpoint.

    Raises:
        UsageError: the file is missing, damaged, or belongs to another network.
    """
    model = make_model(config, env, seed=0)
    try:
        restore(model, read_checkpoint(path))
    except CheckpointError as error:
        raise UsageError(f"{error}: {_REMEDY}") from error
    return model


def load_agent(config: Config, env: BipedEnv, path: Path) -> DeterministicActor:
    """Return the deterministic policy of a checkpoint, for the robots of an environment.

    It has no optimizer, and does not draw the weights that the checkpoint replaces: that would take most of the time.

    Raises:
        UsageError: the file is missing, damaged, or belongs to another network.
    """
    space, settings = env.single_observation_space, {"ortho_init": False, "optimizer_class": _NoOptimizer}
    kwargs = {**_policy_kwargs(config), **settings}
    with single_precision():
        policy = MlpIntoLstmPolicy(space, env.single_action_space, lambda _: config.ppo.learning_rate, **kwargs)
    try:
        policy.load_state_dict(read_checkpoint(path).policy)
    except CheckpointError as error:
        raise UsageError(f"{error}: {_REMEDY}") from error
    except RuntimeError as error:
        raise UsageError(f"{OTHER_SHAPE}: {_REMEDY}") from error
    policy = policy.to(env.device)
    policy.set_training_mode(False)
    return DeterministicActor(policy, env.num_envs, usable_precision(policy, cast("Precision", config.ppo.precision)))


class _NoOptimizer:
    """Stands where Stable-Baselines3's policies make an optimizer; one of torch's imports its compiler first."""

    def __init__(self, *_: object, **__: object) -> None:
        """Take whatever an optimizer takes."""
