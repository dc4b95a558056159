"""The presets: all numbers that they change from the defaults, in one place to read and edit.

A preset is a whole `Config`; `PRESETS` names them. Configurations are immutable: `dataclasses.replace` makes a changed
copy, and on the command line `--set env.gait.frequency_hz=1.6` does the same. Units and frames are in the names:
`_s`, `_m`, `_rad`, `_n` (newton), `_nm` (newton metre), `_w` (world frame), `_b` (base frame). Angles are in radians.

Modules with the fields, their defaults and their meanings:

    biped/config/actuators.py       ServoConfig ActuatorConfig
    biped/config/robot.py           RobotConfig SimConfig ControlConfig
    biped/config/task.py            CommandConfig GaitConfig RewardWeights RewardConfig TerminationConfig
                                    ResetConfig EnvConfig
    biped/config/observation.py     ObservationConfig
    biped/config/sensors.py         ImuConfig EncoderConfig
    biped/config/randomization.py   Randomized NoiseConfig ContactSensorConfig PushConfig BumpsConfig StartConfig
                                    RandomizationConfig
    biped/config/learning.py        PolicyConfig PPOConfig
    biped/config/run.py             TrainConfig WandbConfig Config

`python -m biped config` prints all defaults, `python -m biped config --schema` the JSON Schema of a config.json.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from types import MappingProxyType

from biped.base.errors import ConfigError
from biped.config.actuators import ActuatorConfig, ServoConfig
from biped.config.learning import PolicyConfig, PPOConfig
from biped.config.observation import ObservationConfig
from biped.config.randomization import (
    NOMINAL,
    BumpsConfig,
    ContactSensorConfig,
    NoiseConfig,
    PushConfig,
    RandomizationConfig,
    Randomized,
    StartConfig,
)
from biped.config.robot import ControlConfig, RobotConfig, SimConfig
from biped.config.run import Config, TrainConfig, WandbConfig
from biped.config.sensors import EncoderConfig, ImuConfig
from biped.config.task import (
    CommandConfig,
    EnvConfig,
    GaitConfig,
    ResetConfig,
    RewardConfig,
    RewardWeights,
    TerminationConfig,
)

__all__ = [
    "PRESETS",
    "RANDOMIZATIONS",
    "ActuatorConfig",
    "BumpsConfig",
    "CommandConfig",
    "Config",
    "ConfigError",
    "ContactSensorConfig",
    "ControlConfig",
    "EncoderConfig",
    "EnvConfig",
    "GaitConfig",
    "ImuConfig",
    "NoiseConfig",
    "ObservationConfig",
    "PPOConfig",
    "PolicyConfig",
    "PushConfig",
    "RandomizationConfig",
    "Randomized",
    "ResetConfig",
    "RewardConfig",
    "RewardWeights",
    "RobotConfig",
    "ServoConfig",
    "SimConfig",
    "StartConfig",
    "TerminationConfig",
    "TrainConfig",
    "WandbConfig",
    "cpu_preset",
    "finish_preset",
    "gpu_fast_preset",
    "gpu_preset",
    "polish_preset",
    "randomization_preset",
    "robust_preset",
    "smoke_preset",
    "steep_preset",
    "wide_preset",
]

RANDOMIZATIONS = ("none", "mild", "full")
"""Names of the randomisations, for `randomization_preset`."""


def randomization_preset(name: str) -> RandomizationConfig:
    """Return the randomisation for `--randomize`: `none`, `full`, or `mild`, which is half of `full`.

    Raises:
        KeyError: there is no such name.
    """
    share = {"none": 0.0, "mild": 0.5, "full": 1.0}[name]
    full = RandomizationConfig()
    ranges = {
        item.name: getattr(full, item.name).scaled(share, NOMINAL.get(item.name, 0.0))
        for item in fields(full)
        if isinstance(getattr(full, item.name), Randomized)
    }
    # Redrawn in each episode, because they cost the simulator nothing.
    for name in ("latency_steps", "backlash_rad"):
        ranges[name] = replace(ranges[name], mode="reset" if share else "off")
    return RandomizationConfig(
        **ranges,
        # A gyroscope's zero offset (Bosch BMI088: 1 degree/s), an IMU screwed on by hand, a filter's error under motion
        # (Madgwick 2010: 1.7 degrees at most); an XM430's encoder, play and velocity (ROBOTIS' e-Manual).
        imu=ImuConfig(0.02 * share, 0.02 * share, 0.02 * share, 2.0, 0.5 * share),
        encoders=EncoderConfig(4096, 0.0044 * share, True, 0.3 * share, 0.5 * share) if share else EncoderConfig(),
        noise=NoiseConfig(0.02 * share, 0.1 * share, 0.05 * share, 0.005 * share, 0.01 * share, 0.3 * share),
        contact_sensors=ContactSensorConfig(0.02 * share, 0.01 * share, 0.5 * share),
        push=PushConfig(interval_s=4.0, velocity_m_s=0.8 * share, force_n=3.0 * share),
        start=StartConfig(0.2 * share, 0.3 * share, 0.05 * share),
        bumps=BumpsConfig(tuple(share * height for height in (0.005, 0.01, 0.015, 0.02)) if share else ()),
    )


def gpu_preset() -> Config:
    """The reference sizes: 1024 environments, MLP 512-256-128 into a 2-layer LSTM of 512, 200 million steps."""
    return Config(preset="gpu", train=TrainConfig(device="cuda"))


def cpu_preset() -> Config:
    """A small policy and 256 environments; passes the walking gate after minutes on two CPU cores."""
    return Config(
        preset="cpu",
        env=EnvConfig(num_envs=256),
        policy=PolicyConfig(hidden_sizes=(128, 64), lstm_hidden_size=64, lstm_layers=1, initial_std=0.5),
        # The rate starts at its upper bound and is lowered once updates change the policy much.
        ppo=PPOConfig(
            n_steps=24, n_epochs=5, learning_rate=1.5e-3, adaptive_lr=True, desired_kl=0.04, max_learning_rate=1.5e-3
        ),
        # One thread, with actor and critic on a core each, is as fast as two, and faster on a busy machine.
        train=TrainConfig(
            device="cpu",
            torch_threads=1,
            total_timesteps=5_000_000,
            checkpoint_every_steps=250_000,
            eval_every_steps=250_000,
            stop_when_walking=4,
        ),
    )


def gpu_fast_preset() -> Config:
    """The CPU preset's policy with 4,096 environments and eight minibatches; nobody has run it on a GPU yet."""
    cpu = cpu_preset()
    often = {"checkpoint_every_steps": 2_000_000, "eval_every_steps": 2_000_000}
    return replace(
        cpu,
        preset="gpu-fast",
        env=replace(cpu.env, num_envs=4096),
        ppo=replace(cpu.ppo, n_minibatches=8),
        train=replace(cpu.train, device="cuda", total_timesteps=100_000_000, **often),
    )


def wide_preset() -> Config:
    """Learns to walk as the CPU preset does, with quicker steps and a wider stance: what `robust` continues."""
    cpu = cpu_preset()
    # Quicker and smaller steps: the next step comes before a push has grown too large to catch.
    gait = GaitConfig(
        frequency_hz=1.8, hip_amplitude_rad=0.2, knee_amplitude_rad=0.4, ankle_amplitude_rad=0.2, swing_share=0.4
    )
    # From the beginning: a policy that walks with its feet close together stays with that.
    reward = RewardConfig(weights=RewardWeights(feet_apart=-4.0))
    return replace(
        cpu,
        preset="wide",
        env=replace(cpu.env, gait=gait, reward=reward),
        train=replace(cpu.train, total_timesteps=3_000_000),
    )


def robust_preset() -> Config:
    """Continues the policy of `wide`, once it walks (`--load_model`), with different robots and pushes."""
    wide = wide_preset()
    # Pushed robots walk more slowly and sway for safety; following the command must be worth more than that.
    weights = RewardWeights(
        tracking_lin_vel_x=20.0,
        tracking_lin_vel_y=10.0,
        tracking_ang_vel=32.0,
        contact_schedule=8.0,
        feet_apart=-16.0,
    )
    full = randomization_preset("full")
    return replace(
        wide,
        preset="robust",
        env=replace(
            wide.env,
            command=CommandConfig(start_share=0.7, standing_fraction=0.2),
            reward=RewardConfig(weights=weights, lin_vel_x_scale_m_s=0.15),
            randomization=replace(
                full,
                push=PushConfig(interval_s=1.0, velocity_m_s=1.0),
                # Steeper than the 5 degrees that are asked for: what is at the end of a range is learned worst.
                slope_rad=Randomized("startup", (0.03, 0.11)),
                nominal_share=0.35,
            ),
        ),
        # Without an upper bound, such large updates increase the noise, and pushes are learned more slowly.
        policy=replace(wide.policy, initial_std=0.12, max_std=0.12),
        # Longer sequences than in `wide`: a slope, or a velocity that nobody measures, shows only in time.
        ppo=replace(wide.ppo, n_steps=48, learning_rate=2e-4, desired_kl=0.03, ent_coef=0.002),
        train=replace(
            wide.train,
            total_timesteps=6_000_000,
            checkpoint_every_steps=500_000,
            eval_every_steps=500_000,
            stop_when_walking=0,
        ),
    )


def polish_preset() -> Config:
    """Continues `robust` (`--load_model`): smaller updates, half of the robots unchanged, until the gate passes."""
    robust = robust_preset()
    env = _paying(
        robust.env, tracking_lin_vel_x=20.0, tracking_lin_vel_y=12.0, tracking_ang_vel=40.0, contact_schedule=10.0
    )
    command, random = replace(env.command, start_share=1.0), replace(env.randomization, nominal_share=0.5)
    return replace(
        robust,
        preset="polish",
        env=replace(env, command=command, randomization=random),
        ppo=replace(robust.ppo, desired_kl=0.01, ent_coef=0.0),
        train=replace(robust.train, total_timesteps=5_500_000),
    )


def steep_preset() -> Config:
    """Continues `polish` (`--load_model`) on steeper slopes: half are beyond the 5 degrees that are asked for."""
    polish = polish_preset()
    env = _paying(polish.env, tracking_lin_vel_x=24.0, tracking_lin_vel_y=14.0, tracking_ang_vel=36.0)
    slopes = Randomized("startup", (0.05, 0.13))
    return replace(
        polish,
        preset="steep",
        env=replace(env, randomization=replace(env.randomization, slope_rad=slopes, nominal_share=0.4)),
        ppo=replace(polish.ppo, desired_kl=0.015),
        train=replace(polish.train, total_timesteps=5_000_000),
    )


def finish_preset() -> Config:
    """Continues `steep` (`--load_model`): small updates, walking straight paid more, twice as many robots on bumps."""
    steep = steep_preset()
    env = _paying(steep.env, tracking_lin_vel_x=20.0, tracking_lin_vel_y=18.0, tracking_ang_vel=34.0)
    random = env.randomization
    bumps = replace(random.bumps, share=2.0 * random.bumps.share)
    return replace(
        steep,
        preset="finish",
        env=replace(env, randomization=replace(random, bumps=bumps)),
        ppo=replace(steep.ppo, desired_kl=0.01),
        train=replace(steep.train, total_timesteps=2_500_000),
    )


def _paying(env: EnvConfig, **weights: float) -> EnvConfig:
    return replace(env, reward=replace(env.reward, weights=replace(env.reward.weights, **weights)))


def smoke_preset() -> Config:
    """A run of seconds through all code, to check that everything works; it learns almost nothing."""
    cpu = cpu_preset()
    return replace(
        cpu,
        preset="smoke",
        env=replace(cpu.env, num_envs=16, termination=TerminationConfig(episode_s=4.0)),
        policy=PolicyConfig(hidden_sizes=(32,), lstm_hidden_size=16, lstm_layers=1),
        ppo=replace(cpu.ppo, n_steps=16, n_epochs=2, adaptive_lr=False),
        train=replace(
            cpu.train, total_timesteps=4096, checkpoint_every_steps=2048, eval_every_steps=4096, eval_episodes=8
        ),
    )


_ALL = (gpu_preset, gpu_fast_preset, cpu_preset, wide_preset, robust_preset, polish_preset, steep_preset, finish_preset)
PRESETS: Mapping[str, Callable[[], Config]] = MappingProxyType({make().preset: make for make in (*_ALL, smoke_preset)})
"""From preset name to configuration. On the command line, `auto` picks `gpu` if CUDA is available, else `cpu`."""
