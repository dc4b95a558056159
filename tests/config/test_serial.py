import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from biped.base.errors import ConfigError
from biped.config.run import Config
from biped.config.serial import (
    differences,
    flatten,
    from_json,
    to_dict,
    to_json,
)
from biped.config.settings import parse_setting, with_settings
from biped.mdp.observations import ObservationLayout, group_widths
from biped_config import PRESETS, cpu_preset


@pytest.mark.parametrize("name", PRESETS)
def test_json_round_trip_is_exact(name: str) -> None:
    config = PRESETS[name]()
    assert from_json(to_json(config)) == config


def test_dictionaries_hold_builtin_types_only() -> None:
    def check(value: object) -> None:
        assert type(value) in (dict, list, str, int, float, bool, type(None))
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            check(inner)

    check(to_dict(Config()))


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("env.gait.frequency_hz=1.6", "env.gait.frequency_hz", 1.6),
        ("env.gait.frequency_hz=2", "env.gait.frequency_hz", 2.0),
        ("ppo.n_epochs=5", "ppo.n_epochs", 5),
        ("ppo.adaptive_lr=true", "ppo.adaptive_lr", True),
        ("policy.hidden_sizes=[64, 32]", "policy.hidden_sizes", (64, 32)),
        ("env.command.lin_vel_x_m_s=(0, 0.5)", "env.command.lin_vel_x_m_s", (0.0, 0.5)),
        ("wandb.entity=lab", "wandb.entity", "lab"),
        ("wandb.entity=none", "wandb.entity", None),
        ("train.total_timesteps=1_000", "train.total_timesteps", 1000),
    ],
)
def test_settings_are_read_as_their_fields_type(text: str, path: str, expected: object) -> None:
    config = with_settings(Config(), [parse_setting(text)])
    value: object = config
    for name in path.split("."):
        value = getattr(value, name)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("env.gait.frequency=1.6", "did you mean frequency_hz"),
        ("gait.frequency_hz=1.6", "no setting gait"),
        ("env.gait=3", "a group of settings"),
        ("env.num_envs.x=3", "env.num_envs is a value"),
        ("env.num_envs=many", "a whole number"),
        ("env.num_envs=2.5", "a whole number"),
        ("env.num_envs=true", "a whole number"),
        ("env.num_envs=-1", "between 1 and"),
        ("ppo.adaptive_lr=yes", "true or false"),
        ("policy.hidden_sizes=64", "a list"),
        ("policy.hidden_sizes=[64, 'x']", "a whole number"),
        ("env.command.lin_vel_x_m_s=[1, 2, 3]", "a list of 2"),
        ("env.num_envs", "path.to.field=value"),
        ("=3", "path.to.field=value"),
        ("env.num_envs=", "path.to.field=value"),
        ("__class__=3", "no setting"),
    ],
)
def test_mistakes_are_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        with_settings(Config(), [parse_setting(text)])
    assert "\n" not in str(caught.value)


@example("0\n0=0")
@given(st.text(max_size=40))
def test_any_text_is_a_setting_or_one_line(text: str) -> None:
    try:
        with_settings(Config(), [parse_setting(text)])
    except ConfigError as error:
        assert "\n" not in str(error).replace(repr(text), "")


def test_settings_that_only_hold_together_are_set_together() -> None:
    changed = with_settings(
        Config(), [("env.gait.min_swing_s", 0.7), ("env.gait.max_swing_s", 0.9), ("env.gait.min_swing_s", 0.8)]
    )
    assert (changed.env.gait.min_swing_s, changed.env.gait.max_swing_s) == (0.8, 0.9)


def test_differences_name_paths_and_both_values() -> None:
    before = Config()
    after = with_settings(before, [("env.num_envs", 64), ("ppo.n_epochs", 3)])
    assert differences(before, after) == {"env.num_envs": (1024, 64), "ppo.n_epochs": (10, 3)}
    assert differences(before, before) == {}


def test_missing_fields_keep_their_defaults_and_unknown_ones_are_refused() -> None:
    values = to_dict(Config())
    del values["ppo"]["gamma"]
    assert from_json(json.dumps(values)) == Config()
    values["ppo"]["gama"] = 0.9
    with pytest.raises(ConfigError, match=r"ppo\.gama"):
        from_json(json.dumps(values))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"env": 3}', '{"env": {"num_envs": "x"}}', "null"])
def test_what_is_no_config_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        from_json(text)


def test_flatten_joins_names_with_dots() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {"a.b": 1, "a.c.d": 2, "e": 3}


def of_version_0_10() -> dict[str, Any]:
    """A configuration as 0.10 and before wrote it: one observation, of which nothing is said but its scales."""
    values = to_dict(cpu_preset())
    for name in ("policy", "critic"):
        del values["env"]["observation"][name]
    del values["env"]["robot"]["foot_switches"], values["policy"]["velocity_head"], values["ppo"]["velocity_coef"]
    return values


def test_a_configuration_from_before_there_were_groups_means_what_it_meant() -> None:
    config = from_json(json.dumps(of_version_0_10()))
    assert group_widths(config.env) == {"policy": 43}
    assert ObservationLayout.build(config.env).slices().keys() >= {"base_lin_vel_xy_b", "base_height_m", "foot_contact"}
    assert not config.policy.velocity_head
    # What is left out of a file of today is what it is by default.
    partial = to_dict(cpu_preset())
    del partial["env"]["robot"]["foot_switches"]
    assert not from_json(json.dumps(partial)).env.robot.foot_switches


def test_a_velocity_head_without_a_truth_to_learn_from_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"learns from base_lin_vel_b of env.obs.*velocity_head=false"):
        with_settings(cpu_preset(), [("env.observation.critic", "policy")])
    blind = with_settings(
        cpu_preset(), [("env.observation.critic", ["base_lin_vel_b", "base_height_m"]), ("policy.velocity_head", True)]
    )
    assert blind.policy.velocity_head
