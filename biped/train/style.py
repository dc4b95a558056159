"""The style of a training: clips from files, and the learner's part that pays for moving like them."""

from torch import Tensor

from biped.config.run import Config
from biped.env.env import BipedEnv
from biped.mdp.imitation import Features, steps_of_files
from biped.ppo.mirror import Reflection
from biped.ppo.recurrent_ppo import DeviceRecurrentPPO
from biped.ppo.style import Style, StyleSettings


def demonstrations(config: Config) -> Tensor | None:
    """Return the steps of a configuration's clips, and of their mirror images with `ppo.mirror`, (n, 2 × width).

    Returns:
        None: there is no style.

    Raises:
        UsageError: a file is missing, is no motion, or is of another robot.
        ConfigError: `ppo.mirror` is on, but the robot is not symmetric.
    """
    if not config.style.motions:
        return None
    dt_s = config.env.sim.control_dt_s
    return steps_of_files(_features(config), config.style.motions, dt_s, mirrored=config.ppo.mirror)


def add_style(config: Config, model: DeviceRecurrentPPO, env: BipedEnv, demos: Tensor, seed: int) -> None:
    """Have a learner pay for moving as demonstrations do, and its environments hand over what it sees.

    Args:
        config: the configuration.
        model: the learner.
        env: its environments.
        demos: what `demonstrations` returned.
        seed: seed of the discriminator's weights and draws.
    """
    style, features = config.style, _features(config)
    env.features = features
    mirror = Reflection.build(*features.mirror(), env.device) if config.ppo.mirror else None
    settings = StyleSettings(
        weight=style.weight * config.env.sim.control_dt_s,
        hidden_sizes=style.hidden_sizes,
        learning_rate=style.learning_rate,
        updates=style.updates,
        batch_size=style.batch_size,
        replay_size=style.replay_size,
        gradient_penalty=style.gradient_penalty,
        noise=style.noise,
        weight_decay=style.weight_decay,
    )
    model.style = Style(
        demos.to(env.device), settings, config.ppo.n_steps, config.env.num_envs, mirror=mirror, seed=seed
    )


def _features(config: Config) -> Features:
    return Features(config.style.features, config.env.robot)
