"""The paths that a GPU takes, on virtual GPUs: devices, waits, and how many kernels are launched.

The budgets are what there is today. They may fall, never rise: a kernel launched from Python costs 4 to 10 µs.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from torch import Tensor

from biped.base.cuda_graph import CudaGraph
from biped.config.run import Config
from biped.config.style import StyleConfig
from biped.config.task import EnvConfig
from biped.env.env import BipedEnv, BipedVecEnv
from biped.ppo.precision import Precision, autocast, run_lstm
from biped.ppo.recurrent_ppo import DeviceRecurrentPPO
from biped.train.learner import make_model
from biped.train.style import add_style, demonstrations
from biped_config import cpu_preset, randomization_preset, smoke_preset
from tests import processes, virtual_genesis
from tests.stub_scene import StubScene
from tests.virtual_device import CUDA, VirtualCuda, VirtualStream

ROBOTS, STEPS, SOME_STEPS = 6, 12, 7


@pytest.fixture
def gpu() -> Iterator[VirtualCuda]:
    with VirtualCuda() as mode:
        yield mode


def drawn_again(cfg: EnvConfig, name: str) -> EnvConfig:
    """Return the environment with a randomisation, everything in it drawn at each reset."""
    random = randomization_preset(name)
    drawn = {
        item: replace(getattr(random, item), mode="reset")
        for item in ("friction", "strength", "slope_rad", "torso_com_m")
    }
    return replace(cfg, randomization=replace(random, nominal_share=0.25, **drawn))


PLAIN = replace(cpu_preset().env, num_envs=ROBOTS)
ENVIRONMENTS = {
    "alike": PLAIN,
    "mild": replace(PLAIN, randomization=randomization_preset("mild")),
    "full": replace(PLAIN, randomization=randomization_preset("full")),
    "full, drawn at each reset": drawn_again(PLAIN, "full"),
    "foot switches": replace(drawn_again(PLAIN, "mild"), robot=replace(PLAIN.robot, foot_switches=True)),
}
KERNELS_OF_A_STEP = {
    "alike": 150,
    "mild": 389,
    "full": 389,
    "full, drawn at each reset": 429,
    "foot switches": 431,
}
"""At most so many per control step, the stub's own left out."""
KERNELS_OF_GENESIS = {"alike": 13, "full, drawn at each reset": 19}
"""At most so many of Genesis's own."""
LAUNCHES_IN_GENESIS = {"alike": 65, "full, drawn at each reset": 171}
"""With CUDA graphs, at most so many per control step in all, with Genesis's own kernels, getters and setters."""
LAUNCHES_WITH_GRAPHS = {
    "alike": 16,
    "full, drawn at each reset": 20,
    "foot switches": 20,
    "with the learner": 39,
    "with a style": 40,
}
"""At most so many per control step, the simulator's left out; a graph is one."""


_RAISES = "cumsum kthvalue median histc bincount put put_ scatter_reduce scatter_reduce_"
RAISES = frozenset(_RAISES.split())
"""Operations, of those that one might use here, for which CUDA has no algorithm that `--deterministic` allows."""


def leaves(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict | list | tuple):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from leaves(part)


def stub_env(cfg: EnvConfig, device: torch.device, seed: int = 0) -> BipedEnv:
    return BipedEnv(cfg, StubScene(cfg, device), seed=seed)


def watch_stub(gpu: VirtualCuda, env: BipedEnv) -> None:
    """Note what the stub does apart from what we do."""
    step = env.scene.step

    def apart(*args: Any) -> Any:
        with gpu.region("stub"):
            return step(*args)

    vars(env.scene)["step"] = apart


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_control_step_stays_on_the_device_and_the_host_waits_for_nothing(name: str, gpu: VirtualCuda) -> None:
    env = stub_env(ENVIRONMENTS[name], CUDA)
    watch_stub(gpu, env)
    env.reset(seed=0)
    actions = torch.zeros(ROBOTS, 9, device=CUDA)
    with gpu.region("step") as seen:
        for _ in range(STEPS):
            result = env.step(actions)
    assert {tensor.device for tensor in leaves(result)} == {CUDA}
    assert not seen.waits
    assert not seen.on_the_cpu
    assert not RAISES & set(seen.kernels)
    assert seen.launched() / STEPS <= KERNELS_OF_A_STEP[name], seen.kernels.most_common(12)
    env.set_state({key: value.cpu() for key, value in env.get_state().items()})
    assert {tensor.device for tensor in leaves(env.step(actions))} == {CUDA}
    assert env.end_rollout().episodes > 0


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_gpu_goes_the_way_of_the_cpu_to_the_last_bit(name: str) -> None:
    """Code may ask for the device, but must not do anything else because of the answer."""

    def path(device: torch.device) -> list[Tensor]:
        env = stub_env(ENVIRONMENTS[name], device, seed=3)
        seen = [*leaves(env.reset(seed=1)[0])]
        for _ in range(STEPS):
            seen += leaves(env.step(torch.ones(ROBOTS, 9, device=device))[:4])
        return [tensor.cpu() for tensor in seen]

    wanted = path(torch.device("cpu"))
    with VirtualCuda():
        found = path(CUDA)
    assert all(torch.equal(a, b) for a, b in zip(wanted, found, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["alike", "full, drawn at each reset"])
def test_genesis_does_not_wait_either_but_for_its_own_look_for_errors(name: str) -> None:
    """Genesis's own Python, in a process that starts it on a virtual GPU; it looks for errors every ten substeps."""
    text = processes.run([sys.executable, "-m", "tests.virtual_genesis", name], check=True).stdout
    seen = json.loads(text.splitlines()[-1])[name]
    assert seen["finite"]
    assert not seen["on_the_cpu"]
    assert all("from cuda:0 to cpu" in wait for wait in seen["waits"]), seen["waits"]
    looks = -(-virtual_genesis.STEPS * PLAIN.sim.substeps // 10)
    assert sum(seen["waits"].values()) <= looks, seen["waits"]
    assert sum(seen["kernels"].values()) <= KERNELS_OF_GENESIS[name], seen["kernels"]
    assert seen["same"], "as CUDA graphs it goes another way"
    assert set(seen["waits_of_graphs"]) == set(seen["waits"])
    assert seen["launches"] <= LAUNCHES_IN_GENESIS[name]


@pytest.mark.parametrize("name", ["alike", "full, drawn at each reset", "foot switches"])
def test_with_cuda_graphs_the_same_happens_in_few_launches(name: str, gpu: VirtualCuda) -> None:
    """New commands, other command ranges, a new episode and a restored state reach the graph."""
    plain, quick = (stub_env(ENVIRONMENTS[name], CUDA, seed=3) for _ in range(2))
    quick.use_graphs(CudaGraph)
    watch_stub(gpu, quick)
    actions = torch.randn(ROBOTS, 9, generator=torch.Generator(CUDA).manual_seed(5), device=CUDA)

    def change(env: BipedEnv, turn: int) -> None:
        if turn == 1:
            env.command_share = 0.6
            env.hold_commands(torch.full((ROBOTS, 3), 0.3, device=CUDA))
        elif turn == 2:
            env.reset(seed=9)
        elif turn == 3:
            env.set_state(plain.get_state())

    for turn in range(4):
        change(plain, turn)
        change(quick, turn)
        for step in range(SOME_STEPS):
            wanted = [*leaves(plain.step(actions)), plain.reward_shares, plain.events.touchdown, plain.phase]
            shares = quick.reward_shares.clone(), quick.reward_shares
            with gpu.region(f"turn {turn}") as seen:
                results = quick.step(actions)
            assert torch.equal(*shares), "what somebody keeps of the step before has changed"
            found = [*leaves(results), quick.reward_shares, quick.events.touchdown, quick.phase]
            assert all(torch.equal(a, b) for a, b in zip(wanted, found, strict=True)), (turn, step)
    assert not seen.waits
    assert not seen.on_the_cpu
    assert seen.launched() / SOME_STEPS <= LAUNCHES_WITH_GRAPHS[name], seen.kernels.most_common(12)
    assert plain.end_rollout() == quick.end_rollout()


def test_draws_of_another_kind_of_device_are_refused_before_anything_is_restored() -> None:
    first, second = (stub_env(ENVIRONMENTS["full"], torch.device("cpu"), seed=seed) for seed in (1, 2))
    first.step(torch.ones(ROBOTS, 9))
    before, other = second.get_state(), first.get_state()
    with pytest.raises(RuntimeError, match="another kind of device"):
        second.set_state({**other, "generator": other["generator"][:16]})  # as long as a GPU's
    assert all(torch.equal(value, before[name]) for name, value in second.get_state().items())
    second.set_state(other)
    assert not torch.equal(second.get_state()["_phase"], before["_phase"])


def small(**changes: Any) -> Config:
    """Return the smoke preset with fields of `ppo` changed, on a GPU."""
    config = smoke_preset()
    return replace(
        config,
        env=replace(config.env, num_envs=ROBOTS),
        ppo=replace(config.ppo, n_steps=16, **changes),
        train=replace(config.train, device="cuda"),
    )


LEARNERS = {
    "fp32": small(),
    "bf16": small(precision="bf16"),
    "adaptive rate": small(adaptive_lr=True),
    "target KL": small(),
    "observations as they are": replace(small(), policy=replace(small().policy, normalize_observations=False)),
    "without memory": replace(small(), policy=replace(small().policy, memory=False)),
    "without a mirror": small(mirror=False),
    "with a style": replace(small(), style=StyleConfig(motions=("assets/motions/walk.csv",))),
}
KERNELS_OF_LEARNING = {
    "fp32": (59, 199),
    "bf16": (98, 250),
    "adaptive rate": (59, 200),
    "target KL": (59, 203),
    "observations as they are": (59, 199),
    "without memory": (67, 197),
    "without a mirror": (45, 198),
    "with a style": (61, 366),
}
"""At most so many per step of a rollout, and per minibatch; an LSTM call is one, the environment's are left out."""
WAITS_OF_A_ROLLOUT = Counter({"ppo/env_edge.py": 1})
"""Files to how often the host waits there: for the episodes that ended."""
WAITS_OF_AN_UPDATE = Counter({"ppo/buffer.py": 1, "ppo/recurrent_ppo.py": 2})
"""For where episodes start, and for what is logged; once more per epoch where the host decides by the divergence."""


def places(waits: Counter[str]) -> Counter[str]:
    """Return the files of the package to how often the host waited in them."""
    found: Counter[str] = Counter()
    for what, count in waits.items():
        found[what.partition(" @ ")[2].partition(":")[0].rpartition("biped/")[2]] += count
    return found


def begun(config: Config) -> tuple[BipedVecEnv, DeviceRecurrentPPO, BaseCallback]:
    """Return environments, a learner that logs nothing, and the callback for its rollouts, on a GPU."""
    env = BipedVecEnv(stub_env(config.env, CUDA))
    model = make_model(config, env, seed=0)
    if (demos := demonstrations(config)) is not None:
        add_style(config, model, env.env, demos, seed=0)
    model.set_logger(Logger(folder=None, output_formats=[]))
    _, callback = model._setup_learn(1, None)
    return env, model, callback


@pytest.mark.parametrize("name", LEARNERS)
def test_a_rollout_and_an_update_stay_on_the_device_and_wait_where_it_is_written(name: str, gpu: VirtualCuda) -> None:
    config = LEARNERS[name]
    env, model, callback = begun(config)
    model.target_kl = 10.0 if name == "target KL" else None
    step = env.step_tensor

    def apart(actions: Tensor) -> Any:
        with gpu.region("environment"):
            return step(actions)

    env.step_tensor = apart
    for turn in range(2):
        with gpu.region(f"rollout {turn}") as rollout:
            model.collect_rollouts(env, callback, model.rollout_buffer, model.n_steps)
        with gpu.region(f"update {turn}") as update:
            model.train()
    assert all(parameter.device == CUDA for parameter in model.policy.parameters())
    acting, minibatch = rollout.launched() / model.n_steps, update.launched() / (model.n_epochs * model.n_minibatches)
    assert acting <= KERNELS_OF_LEARNING[name][0], rollout.kernels.most_common(12)
    assert minibatch <= KERNELS_OF_LEARNING[name][1], update.kernels.most_common(12)
    decides = model.n_epochs if name in ("adaptive rate", "target KL") else 0
    assert places(rollout.waits) == WAITS_OF_A_ROLLOUT
    styled = Counter({"ppo/style.py": int(name == "with a style")})  # for what is logged of it
    assert places(update.waits) == WAITS_OF_AN_UPDATE + Counter({"ppo/recurrent_ppo.py": decides}) + styled
    assert not rollout.on_the_cpu
    assert not update.on_the_cpu
    assert not RAISES & (set(rollout.kernels) | set(update.kernels))
    assert gpu.lstm_in == {torch.bfloat16 if name == "bf16" else torch.float32}


def learned(config: Config) -> list[Tensor]:
    """Return the weights after a rollout and an update."""
    env, model, callback = begun(config)
    model.collect_rollouts(env, callback, model.rollout_buffer, model.n_steps)
    model.train()
    return [parameter.detach() for parameter in model.policy.parameters()]


@pytest.mark.usefixtures("gpu")
def test_on_two_streams_the_same_is_learned_and_each_waits_for_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a virtual GPU cannot show is whether it is faster, and what happens where a wait is missing."""
    monkeypatch.setattr(VirtualStream, "seen", [])
    alone = learned(small())
    assert VirtualStream.seen == []
    together = learned(small(two_streams=True))
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))
    once = ["side waits for main", "on side", "on main", "main waits for side", "kept for main"]
    minibatches = small().ppo.n_epochs * small().ppo.n_minibatches
    assert VirtualStream.seen == once * minibatches


@pytest.mark.parametrize("name", ["bf16", "without a mirror", "with a style"])
def test_with_cuda_graphs_the_same_is_learned(name: str, gpu: VirtualCuda) -> None:
    """Weights change between two replays, and are restored from a copy where an update is undone."""
    found = []
    for is_graphed in (False, True):
        env, model, callback = begun(LEARNERS[name])
        watch_stub(gpu, env.env)
        if is_graphed:
            env.env.use_graphs(CudaGraph)
            model.use_graphs(CudaGraph)
        for turn in range(3):
            with gpu.region(f"rollout {turn}, {is_graphed}") as seen:
                model.collect_rollouts(env, callback, model.rollout_buffer, model.n_steps)
            model.train()
            if turn == 1:
                model._last_good.restore(model.policy, model.policy.optimizer, confirmed=False)
        found.append([parameter.detach() for parameter in model.policy.parameters()])
        if is_graphed:
            assert places(seen.waits) == WAITS_OF_A_ROLLOUT
            launched = seen.launched() / model.n_steps
            assert launched <= LAUNCHES_WITH_GRAPHS.get(name, LAUNCHES_WITH_GRAPHS["with the learner"]), (
                seen.kernels.most_common(12)
            )
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def gradients(precision: Precision) -> Tensor:
    """Return the gradient of a loss as small as an update's by the LSTM's weights, on a GPU, as one vector."""
    torch.manual_seed(3)
    lstm = torch.nn.LSTM(24, 32, 2)
    with VirtualCuda():
        lstm = lstm.to(CUDA)
        with autocast(CUDA, precision):
            output, _ = run_lstm(lstm, torch.randn(20, 8, 24, device=CUDA), None, precision)
        (1e-6 * output.float().square().mean()).backward()
    return torch.cat([weight.grad.flatten() for weight in lstm.parameters() if weight.grad is not None])


def test_a_small_gradient_is_not_lost_in_a_gpus_bf16() -> None:
    """In float16, which autocast would take, most of it is zero: it has no number below 6e-8."""
    exact, rounded = gradients("fp32"), gradients("bf16")
    assert exact.abs().max() < 6e-8
    assert (rounded - exact).norm() < 0.01 * exact.norm()
