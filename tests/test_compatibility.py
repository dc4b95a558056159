"""Every callback, wrapper and algorithm of the libraries around us, as docs/compatibility.md says it fares."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import imageio_ffmpeg
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
import torch
from gymnasium.utils.env_checker import check_env as check_single_env
from gymnasium.wrappers import TransformAction, TransformObservation, TransformReward
from gymnasium.wrappers import vector as wrappers
from stable_baselines3.common import callbacks, env_checker, vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.vec_env import VecCheckNan, VecEnvWrapper, VecMonitor, VecNormalize

from biped.config.task import EnvConfig, TerminationConfig
from biped.env.env import (
    BipedEnv,
    BipedVecEnv,
    make_env,
)
from biped.ppo.policy import MlpIntoLstmPolicy
from biped.ppo.recurrent_ppo import DeviceRecurrentPPO
from biped_config import cpu_preset
from biped_env import NumpyVectorEnv
from tests.conftest import ROOT, one_group
from tests.test_docs import table

COUNT, JOINTS, WIDTH, EPISODE = 4, 9, 43, 5
PAGE = ROOT / "docs" / "compatibility.md"
Check = Callable[..., Any]
ROWS: dict[str, dict[str, tuple[str, Check]]] = {}
"""Head of a table's first column to its rows: name to what the page says and what shows it."""


def row(kind: str, name: str, verdict: str) -> Callable[[Check], Check]:
    """Say what the page says of `name`; what is decorated takes fixtures by name and shows it."""

    def add(check: Check) -> Check:
        ROWS.setdefault(kind, {})[name] = (verdict, check)
        return check

    return add


def config() -> EnvConfig:
    """Return a configuration of a few robots whose episodes last five steps at most; see tests/env/test_groups.py."""
    cfg = one_group(cpu_preset().env)
    return replace(cfg, num_envs=COUNT, termination=TerminationConfig(episode_s=EPISODE * cfg.sim.control_dt_s))


def biped_env(seed: int = 0) -> BipedEnv:
    return make_env(config(), sim="mujoco", seed=seed)


def vec(seed: int = 0) -> BipedVecEnv:
    return BipedVecEnv(biped_env(seed))


@pytest.fixture(scope="module")
def filmed() -> Iterator[BipedEnv]:
    """An environment with a camera."""
    env = make_env(replace(config(), num_envs=2), camera=True)
    yield env
    env.close()


def learner(env: Any = None, **changes: Any) -> DeviceRecurrentPPO:
    sizes = {"hidden_sizes": (8,), "lstm_hidden_size": 8, "n_lstm_layers": 1}
    settings = {"n_steps": 8, "batch_size": 16, "n_epochs": 1, "policy_kwargs": sizes, "seed": 0, "device": "cpu"}
    return DeviceRecurrentPPO(MlpIntoLstmPolicy, env or vec(), **{**settings, **changes})


class Seen(callbacks.BaseCallback):
    """Keeps what a callback finds in its locals, as numpy and lists of dictionaries."""

    ARRAYS = ("dones", "rewards", "new_obs", "actions", "clipped_actions")

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[dict[str, Any]] = []

    def _on_step(self) -> bool:
        step: dict[str, Any] = {name: np.array(self.locals[name]) for name in self.ARRAYS}
        self.steps.append(step | {"infos": [dict(info) for info in self.locals["infos"]]})
        return True


# ---- callbacks ------------------------------------------------------------------------------------------------------

CALLBACK = "callback"


@row(CALLBACK, "BaseCallback", "yes")
def its_locals_are_what_stock_shows_behind_a_wrapper() -> None:
    on_tensors, on_numpy = Seen(), Seen()
    learner().learn(128, on_tensors)
    learner(VecCheckNan(vec())).learn(128, on_numpy)
    assert len(on_tensors.steps) == len(on_numpy.steps) == 32
    for ours, theirs in zip(on_tensors.steps, on_numpy.steps, strict=True):
        for name in Seen.ARRAYS:
            assert ours[name].dtype == theirs[name].dtype, name
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
        for mine, its in zip(ours["infos"], theirs["infos"], strict=True):
            assert mine.keys() == its.keys()
            if mine:
                np.testing.assert_array_equal(mine["terminal_observation"], its["terminal_observation"])
                assert mine["TimeLimit.truncated"] == its["TimeLimit.truncated"]
                assert {k: mine["episode"][k] for k in "rl"} == {k: its["episode"][k] for k in "rl"}
                assert 0.0 <= mine["episode"]["t"] < 1e6
    assert sum(bool(info) for step in on_tensors.steps for info in step["infos"]) >= COUNT * (32 // EPISODE)


@row(CALLBACK, "EventCallback", "yes")
def it_triggers_its_child() -> None:
    class Often(callbacks.EventCallback):
        def _on_step(self) -> bool:
            return self._on_event()

    child = Seen()
    learner().learn(32, Often(child))
    assert len(child.steps) == 8


@row(CALLBACK, "CallbackList", "yes")
def all_of_a_list_are_called() -> None:
    both = [Seen(), Seen()]
    learner().learn(32, callbacks.CallbackList(both))
    assert [len(callback.steps) for callback in both] == [8, 8]


@row(CALLBACK, "CheckpointCallback", "yes")
def checkpoints_can_be_loaded(tmp_path: Path) -> None:
    learner().learn(32, callbacks.CheckpointCallback(4, str(tmp_path), name_prefix="m"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m_16_steps.zip", "m_32_steps.zip"]
    assert DeviceRecurrentPPO.load(tmp_path / "m_16_steps.zip", device="cpu").num_timesteps == 16


@row(CALLBACK, "ConvertCallback", "yes")
def a_function_sees_the_locals() -> None:
    ended = []
    learner().learn(64, lambda locals_, _: ended.append(int(locals_["dones"].sum())) or True)
    assert sum(ended) >= COUNT * (16 // EPISODE)


@row(CALLBACK, "EvalCallback", "yes")
def evaluations_are_written_and_the_best_is_kept(tmp_path: Path) -> None:
    evaluation = callbacks.EvalCallback(
        VecMonitor(vec(seed=1)),
        n_eval_episodes=6,
        eval_freq=8,
        log_path=str(tmp_path),
        best_model_save_path=str(tmp_path),
        verbose=0,
    )
    with pytest.warns(UserWarning, match="not of the same type"):
        learner().learn(64, evaluation)
    written = np.load(tmp_path / "evaluations.npz")
    assert written["results"].shape == written["ep_lengths"].shape == (2, 6)
    assert written["ep_lengths"].max() <= EPISODE
    assert (tmp_path / "best_model.zip").exists()


@row(CALLBACK, "EveryNTimesteps", "yes")
def a_child_is_called_every_so_many_steps() -> None:
    child = Seen()
    learner().learn(64, callbacks.EveryNTimesteps(16, child))
    assert len(child.steps) == 4


@row(CALLBACK, "LogEveryNTimesteps", "yes")
def numbers_are_written_every_so_many_steps() -> None:
    class Written(KVWriter):
        steps: list[int] = []  # noqa: RUF012 - of the one that there is

        def write(self, key_values: Any, key_excluded: Any, step: int = 0) -> None:
            self.steps.append(step)

        def close(self) -> None:
            pass

    model = learner()
    model.set_logger(Logger(folder=None, output_formats=[Written()]))
    model.learn(64, callbacks.LogEveryNTimesteps(16), log_interval=None)
    assert Written.steps == [16, 32, 48, 64]


@row(CALLBACK, "ProgressBarCallback", "yes")
def the_bar_is_full_in_the_end(capfd: pytest.CaptureFixture[str]) -> None:
    bar = callbacks.ProgressBarCallback()
    learner().learn(64, bar)
    assert bar.pbar.n == bar.pbar.total == 64
    assert "100%" in "".join(capfd.readouterr())


@row(CALLBACK, "StopTrainingOnMaxEpisodes", "yes")
def training_stops_after_so_many_episodes() -> None:
    stop = callbacks.StopTrainingOnMaxEpisodes(3)
    model = learner()
    model.learn(10_000, stop)
    assert 3 * COUNT <= stop.n_episodes < 4 * COUNT
    assert model.num_timesteps <= 3 * COUNT * EPISODE


@row(CALLBACK, "StopTrainingOnNoModelImprovement", "yes")
def training_stops_where_nothing_gets_better() -> None:
    stop = callbacks.StopTrainingOnNoModelImprovement(1)
    model = learner(learning_rate=1e-12)
    model.learn(10_000, evaluated(callback_after_eval=stop))
    assert stop.no_improvement_evals == 2
    assert model.num_timesteps < 10_000


@row(CALLBACK, "StopTrainingOnRewardThreshold", "yes")
def training_stops_where_it_is_good_enough() -> None:
    model = learner()
    model.learn(10_000, evaluated(callback_on_new_best=callbacks.StopTrainingOnRewardThreshold(-1e9)))
    assert model.num_timesteps == 4 * COUNT


def evaluated(**kwargs: Any) -> callbacks.EvalCallback:
    return callbacks.EvalCallback(vec(seed=1), n_eval_episodes=COUNT, eval_freq=4, verbose=0, warn=False, **kwargs)


# ---- wrappers of a VecEnv -------------------------------------------------------------------------------------------

VEC_WRAPPER = "wrapper of a `VecEnv`"


@row(VEC_WRAPPER, "VecCheckNan", "yes")
def numbers_that_are_none_are_caught() -> None:
    env = VecCheckNan(vec(), raise_exception=True)
    learner(env).learn(32)
    with pytest.raises(ValueError, match="nan"):
        env.step(np.full((COUNT, JOINTS), np.nan, np.float32))


@row(VEC_WRAPPER, "VecFrameStack", "yes")
def frames_are_stacked() -> None:
    env = vec_env.VecFrameStack(vec(), 3)
    model = learner(env).learn(32)
    assert model.rollout_buffer.observations.shape == (8, COUNT, 3 * WIDTH)


@row(VEC_WRAPPER, "VecMonitor", "yes")
def episodes_are_written(tmp_path: Path) -> None:
    env = VecMonitor(vec(), str(tmp_path / "log"))
    model = learner(env).learn(64)
    env.close()
    lines = (tmp_path / "log.monitor.csv").read_text().splitlines()
    assert lines[1] == "r,l,t"
    assert len(lines) - 2 == len(model.ep_info_buffer) >= COUNT * (16 // EPISODE)


@row(VEC_WRAPPER, "VecNormalize", "yes")
def statistics_are_kept_and_loaded(tmp_path: Path) -> None:
    env = VecNormalize(vec())
    learner(env).learn(64)
    assert env.obs_rms.count > 64
    env.save(str(tmp_path / "statistics.pkl"))
    again = VecNormalize.load(str(tmp_path / "statistics.pkl"), vec())
    np.testing.assert_array_equal(again.obs_rms.mean, env.obs_rms.mean)


@row(VEC_WRAPPER, "VecVideoRecorder", "yes")
def films_run_at_the_robots_speed(filmed: BipedEnv, tmp_path: Path) -> None:
    env = vec_env.VecVideoRecorder(BipedVecEnv(filmed), str(tmp_path), lambda step: step == 0, video_length=10)
    env.reset()
    for _ in range(12):
        env.step(np.zeros((2, JOINTS), np.float32))
    check_film(tmp_path, frames=11)


def check_film(folder: Path, frames: int) -> None:
    (film,) = folder.glob("*.mp4")
    meta = next(imageio_ffmpeg.read_frames(str(film)))
    assert meta["fps"] == 50.0, "a control step is 0.02 s"
    # moviepy may lose the last one: it multiplies a length in seconds by the rate and rounds down.
    assert imageio_ffmpeg.count_frames_and_secs(str(film))[0] in (frames - 1, frames)


@row(VEC_WRAPPER, "VecExtractDictObs", "no")
def a_vector_has_no_entries_by_name() -> None:
    with pytest.raises((AssertionError, AttributeError, TypeError)):
        vec_env.VecExtractDictObs(vec(), "observation")


@row(VEC_WRAPPER, "VecTransposeImage", "no")
def a_vector_is_no_picture() -> None:
    with pytest.raises(AssertionError):
        vec_env.VecTransposeImage(vec())


# ---- algorithms -----------------------------------------------------------------------------------------------------

ALGORITHM = "algorithm"
ROLLOUTS = {"n_steps": 8, "batch_size": 16}
REPLAY = {"learning_starts": 16, "batch_size": 8, "buffer_size": 200}
LEARNS = {
    "A2C": {},
    "ARS": {"n_delta": 2, "n_eval_episodes": 2},
    "CrossQ": REPLAY,
    "DDPG": REPLAY,
    "PPO": ROLLOUTS,
    "RecurrentPPO": ROLLOUTS,
    "SAC": REPLAY,
    "TD3": REPLAY,
    "TQC": REPLAY,
    "TRPO": ROLLOUTS,
}
"""Algorithm to the arguments that make a short training."""


def algorithm(name: str) -> Any:
    return getattr(stable_baselines3, name, None) or getattr(sb3_contrib, name)


def learns(name: str) -> Check:
    def check() -> None:
        policy = "MlpLstmPolicy" if name == "RecurrentPPO" else "MlpPolicy"
        model = algorithm(name)(policy, VecMonitor(vec()), device="cpu", seed=0, **LEARNS[name])
        before = {key: value.clone() for key, value in model.policy.state_dict().items()}
        model.learn(64)
        after = model.policy.state_dict()
        assert all(value.isfinite().all() for value in after.values())
        assert any((after[key] != before[key]).any() for key in before)

    return check


def refuses_continuous_actions(name: str) -> Check:
    def check() -> None:
        with pytest.raises(AssertionError, match="only supports"):
            algorithm(name)("MlpPolicy", vec(), device="cpu")

    return check


for _name in LEARNS:
    row(ALGORITHM, _name, "yes")(learns(_name))
for _name in ("DQN", "MaskablePPO", "QRDQN"):
    row(ALGORITHM, _name, "no")(refuses_continuous_actions(_name))


@row(ALGORITHM, "HerReplayBuffer", "no")
def there_are_no_goals() -> None:
    with pytest.raises((AssertionError, TypeError, ValueError)):
        algorithm("SAC")("MlpPolicy", vec(), replay_buffer_class=algorithm("HerReplayBuffer"), device="cpu")


# ---- helpers --------------------------------------------------------------------------------------------------------

HELPER = "helper"


@row(HELPER, "evaluate_policy", "yes")
def whole_episodes_are_counted() -> None:
    _, lengths = evaluate_policy(learner(), VecMonitor(vec()), n_eval_episodes=9, return_episode_rewards=True)
    assert len(lengths) == 9
    assert max(lengths) <= EPISODE


@row(HELPER, "sync_envs_normalization", "yes")
def statistics_are_carried_over() -> None:
    env, other = VecNormalize(vec()), VecNormalize(vec())
    learner(env).learn(32)
    vec_env.sync_envs_normalization(env, other)
    np.testing.assert_array_equal(env.obs_rms.mean, other.obs_rms.mean)


@row(HELPER, "check_env", "no")
def it_checks_single_environments() -> None:
    with pytest.raises(AssertionError):
        env_checker.check_env(biped_env())
    with pytest.raises(TypeError):
        check_single_env(biped_env())


# ---- gymnasium's wrappers -------------------------------------------------------------------------------------------

WRAPPER = "wrapper of a vector environment"
TENSORS, NUMPY = "`BipedEnv`", "`NumpyVectorEnv`"


def steps(env: Any, count: int = 3) -> list[Any]:
    """Return what the steps return under the same small actions."""
    env.reset(seed=0)
    return [env.step(np.full((env.num_envs, JOINTS), 0.1, np.float32)) for _ in range(count)]


def as_array(value: Any) -> np.ndarray:
    return np.asarray(value.cpu() if isinstance(value, torch.Tensor) else value)


def rewards(results: list[Any]) -> np.ndarray:
    return np.stack([as_array(result[1]) for result in results])


def actions_halved(wrap: Check) -> None:
    """Check that an action wrapper hands half of each action on: the robots do what they do under half of it."""
    env = biped_env()
    found = steps(wrap(env))
    env.reset(seed=0)
    wanted = [env.step(torch.full((COUNT, JOINTS), 0.05)) for _ in range(3)]
    np.testing.assert_allclose(rewards(found), rewards(wanted), rtol=1e-5)


@row(WRAPPER, "TransformAction", TENSORS)
def a_function_of_actions() -> None:
    actions_halved(lambda env: wrappers.TransformAction(env, lambda actions: 0.5 * actions))


@row(WRAPPER, "VectorizeTransformAction", TENSORS)
def a_function_of_each_action() -> None:
    actions_halved(
        lambda env: wrappers.VectorizeTransformAction(
            env, TransformAction, func=lambda action: 0.5 * action, action_space=env.single_action_space
        )
    )


@row(WRAPPER, "RescaleAction", TENSORS)
def actions_in_other_units() -> None:
    actions_halved(
        lambda env: wrappers.RescaleAction(env, 2 * env.single_action_space.low, 2 * env.single_action_space.high)
    )


@row(WRAPPER, "ClipAction", TENSORS)
def actions_within_their_bounds() -> None:
    env = wrappers.ClipAction(biped_env())
    env.reset(seed=0)
    found = env.step(np.full((COUNT, JOINTS), 1e6, np.float32))[1]
    env.reset(seed=0)
    torch.testing.assert_close(env.unwrapped.step(torch.full((COUNT, JOINTS), 4.0))[1], found)


def rewards_doubled(wrap: Check) -> None:
    np.testing.assert_allclose(rewards(steps(wrap(biped_env()))), 2 * rewards(steps(biped_env())), rtol=1e-6)


@row(WRAPPER, "TransformReward", TENSORS)
def a_function_of_rewards() -> None:
    rewards_doubled(lambda env: wrappers.TransformReward(env, lambda rewards: 2 * rewards))


@row(WRAPPER, "VectorizeTransformReward", TENSORS)
def a_function_of_each_reward() -> None:
    rewards_doubled(lambda env: wrappers.VectorizeTransformReward(env, TransformReward, func=lambda reward: 2 * reward))


@row(WRAPPER, "ClipReward", TENSORS)
def rewards_within_bounds() -> None:
    found = rewards(steps(wrappers.ClipReward(biped_env(), 0.0, 0.01)))
    assert found.max() == np.float32(0.01)


@row(WRAPPER, "RecordVideo", TENSORS)
def the_first_robot_is_filmed(filmed: BipedEnv, tmp_path: Path) -> None:
    env = wrappers.RecordVideo(
        filmed, str(tmp_path), record_first_only=True, step_trigger=lambda step: step == 0, video_length=4
    )
    steps(env, count=6)
    check_film(tmp_path, frames=5)


@row(WRAPPER, "ArrayConversion", TENSORS)
def any_array_library() -> None:
    for result in steps(wrappers.ArrayConversion(biped_env(), env_xp=torch, target_xp=np)):
        assert all(isinstance(part, np.ndarray) for part in (*result[:4], *result[4].values()))


@row(WRAPPER, "NumpyToTorch", NUMPY)
def there_and_back() -> None:
    found = steps(wrappers.NumpyToTorch(NumpyVectorEnv(biped_env())))
    assert all(isinstance(part, torch.Tensor) for part in found[-1][:4])
    np.testing.assert_array_equal(rewards(found), rewards(steps(biped_env())))


@row(WRAPPER, "RecordEpisodeStatistics", NUMPY)
def statistics_of_episodes() -> None:
    env = wrappers.RecordEpisodeStatistics(NumpyVectorEnv(biped_env()))
    results = steps(env, EPISODE)
    ended = results[-1][4]["_episode"]
    assert ended.any()
    np.testing.assert_array_equal(ended, results[-1][2] | results[-1][3])
    np.testing.assert_allclose(results[-1][4]["episode"]["r"][ended], rewards(results).sum(axis=0)[ended], rtol=1e-5)
    assert env.episode_count == ended.sum()


@row(WRAPPER, "DictInfoToList", NUMPY)
def one_dictionary_per_robot() -> None:
    *_, infos = steps(wrappers.DictInfoToList(NumpyVectorEnv(biped_env())), EPISODE)[-1]
    assert len(infos) == COUNT
    assert infos[0]["episode_length"] == EPISODE
    assert infos[0]["final_obs"].shape == (WIDTH,)


@row(WRAPPER, "NormalizeReward", NUMPY)
def rewards_of_one_size() -> None:
    env = wrappers.NormalizeReward(NumpyVectorEnv(biped_env()))
    found, plain = rewards(steps(env, 10)), rewards(steps(biped_env(), 10))
    last = plain[-1] / np.sqrt(env.return_rms.var + env.epsilon)
    np.testing.assert_allclose(found[-1], last, rtol=1e-5)


@row(WRAPPER, "HumanRendering", "no")
def it_wants_a_picture_of_every_robot(filmed: BipedEnv) -> None:
    with pytest.raises((AssertionError, gymnasium.error.DependencyNotInstalled)):
        wrappers.HumanRendering(filmed).reset()


def resets_in_the_same_step(name: str, *args: Any, **kwargs: Any) -> Check:
    def check() -> None:
        for env in (biped_env(), NumpyVectorEnv(biped_env())):
            with pytest.raises(ValueError, match=r"got AutoresetMode\.SAME_STEP"):
                getattr(wrappers, name)(env, *args, **kwargs)

    return check


OBSERVATIONS = {
    "DtypeObservation": {"dtype": np.float64},
    "FilterObservation": {"filter_keys": ()},
    "FlattenObservation": {},
    "GrayscaleObservation": {},
    "NormalizeObservation": {},
    "RescaleObservation": {"min_obs": -1.0, "max_obs": 1.0},
    "ReshapeObservation": {"shape": (WIDTH, 1)},
    "ResizeObservation": {"shape": (3, 3)},
    "TransformObservation": {"func": abs},
    "VectorizeTransformObservation": {"wrapper": TransformObservation, "func": abs, "observation_space": None},
}
for _name, _kwargs in OBSERVATIONS.items():
    row(WRAPPER, _name, "no")(resets_in_the_same_step(_name, **_kwargs))


def is_for_jax(name: str) -> Check:
    def check() -> None:
        try:
            import jax  # noqa: F401
        except ImportError:
            with pytest.raises(ImportError):
                getattr(wrappers, name)(biped_env())
        else:
            pytest.skip("jax is here: it converts what an environment in jax returns, and ours is none")

    return check


for _name in ("JaxToNumpy", "JaxToTorch"):
    row(WRAPPER, _name, "no")(is_for_jax(_name))


# ---- the page, the packages, and the rows ---------------------------------------------------------------------------


def classes(module: Any, base: type) -> set[str]:
    return {name for name, value in inspect.getmembers(module, inspect.isclass) if issubclass(value, base)}


PUBLIC = {
    CALLBACK: classes(callbacks, callbacks.BaseCallback),
    VEC_WRAPPER: classes(vec_env, VecEnvWrapper) - {"VecEnvWrapper"},
    ALGORITHM: {*stable_baselines3.__all__, *sb3_contrib.__all__} - {"get_system_info"},
    WRAPPER: set(wrappers.__all__),
}
"""What the installed packages offer."""


@pytest.mark.parametrize("kind", PUBLIC)
def test_every_one_that_the_packages_have_is_in_the_table(kind: str) -> None:
    assert set(ROWS[kind]) == PUBLIC[kind]


@pytest.mark.parametrize("kind", ROWS)
def test_the_page_says_of_each_what_is_shown_here(kind: str) -> None:
    said = {entry[kind].strip("`"): list(entry.values())[1] for entry in table(PAGE, kind)}
    assert said == {name: verdict for name, (verdict, _) in ROWS[kind].items()}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param(kind, name, marks=[pytest.mark.genesis] if "filmed" in inspect.signature(check).parameters else [])
        for kind, rows in ROWS.items()
        for name, (_, check) in rows.items()
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_the_page_says_of(kind: str, name: str, request: pytest.FixtureRequest) -> None:
    check = ROWS[kind][name][1]
    check(**{fixture: request.getfixturevalue(fixture) for fixture in inspect.signature(check).parameters})
