"""Checkpoints of real models: what is read, what is refused, and that nothing is unpickled."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from sb3_contrib import RecurrentPPO

from biped.ppo.policy import MlpIntoLstmPolicy
from biped.runs.checkpoint import CheckpointError, read_checkpoint, restore, save_checkpoint


def make_model(width: int = 8, seed: int = 0) -> RecurrentPPO:
    sizes = {"hidden_sizes": (8,), "lstm_hidden_size": width, "n_lstm_layers": 1}
    return RecurrentPPO(
        MlpIntoLstmPolicy,
        "Pendulum-v1",
        n_steps=8,
        batch_size=8,
        n_epochs=1,
        policy_kwargs=sizes,
        seed=seed,
        device="cpu",
    )


@pytest.fixture(scope="module")
def trained() -> RecurrentPPO:
    return make_model().learn(16)


@pytest.fixture
def path(trained: RecurrentPPO, tmp_path: Path) -> Path:
    save_checkpoint(trained, tmp_path / "model.zip")
    return tmp_path / "model.zip"


def test_a_restored_model_is_the_saved_one(trained: RecurrentPPO, path: Path) -> None:
    other = make_model(seed=1)
    restore(other, read_checkpoint(path))
    for name, value in trained.policy.state_dict().items():
        torch.testing.assert_close(other.policy.state_dict()[name], value)
    ours, theirs = (m.policy.optimizer.state_dict()["state"] for m in (other, trained))
    torch.testing.assert_close(ours[0]["exp_avg_sq"], theirs[0]["exp_avg_sq"])
    assert other.num_timesteps == trained.num_timesteps == 16
    assert other._n_updates == trained._n_updates > 0


def test_starting_from_weights_counts_from_zero(path: Path) -> None:
    other = make_model(seed=1)
    restore(other, read_checkpoint(path), counters=False)
    assert other.num_timesteps == 0


def test_stock_recurrent_ppo_opens_it_and_acts_alike(trained: RecurrentPPO, path: Path) -> None:
    stock = RecurrentPPO.load(path, device="cpu")
    observations = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    states_a = states_b = None
    for observation in observations:
        a, states_a = trained.predict(observation, states_a, deterministic=True)
        b, states_b = stock.predict(observation, states_b, deterministic=True)
        np.testing.assert_allclose(a, b, atol=1e-6)
        np.testing.assert_allclose(states_a[0], states_b[0], atol=1e-6)


def test_notes_go_with_it_and_stock_passes_over_them(trained: RecurrentPPO, tmp_path: Path) -> None:
    path = tmp_path / "noted.zip"
    save_checkpoint(trained, path, {"curriculum": 0.75})
    assert read_checkpoint(path).notes == {"curriculum": 0.75}
    assert RecurrentPPO.load(path, device="cpu").num_timesteps == trained.num_timesteps
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(rewritten(path, "notes.json", b"[1, 2]"))
    trained.save(path)  # stock writes none
    assert read_checkpoint(path).notes == {}


def test_another_shape_is_refused(path: Path) -> None:
    with pytest.raises(CheckpointError, match="another shape"):
        restore(make_model(width=16), read_checkpoint(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no file .*nothing\.zip"):
        read_checkpoint(tmp_path / "nothing.zip")


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(path: Path, keep: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(path)


def test_a_flipped_bit_in_the_weights_is_noticed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"policy.pth") + 2000] ^= 0x10
    path.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(path)


def test_a_foreign_zip_is_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "photos.zip"
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("holiday.txt", "sun")
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        read_checkpoint(foreign)


def rewritten(path: Path, member: str, content: bytes) -> Path:
    """Return a copy of a checkpoint with one member replaced or added, and without the manifest that would tell."""
    copy = path.with_name("rewritten.zip")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(copy, "w") as target:
        for name in {*source.namelist(), member} - {"manifest.json"}:
            target.writestr(name, content if name == member else source.read(name))
    return copy


def as_bytes(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def test_what_is_not_what_the_manifest_says_is_refused(trained: RecurrentPPO, path: Path) -> None:
    """A sound zip, with sound weights of another model in it."""
    weights = {name: value + 1.0 for name, value in trained.policy.state_dict().items()}
    other = rewritten(path, "policy.pth", as_bytes(weights))
    read_checkpoint(other)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(other, "a") as target:
        target.writestr("manifest.json", source.read("manifest.json"))
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(other)


def test_weights_that_are_not_numbers_are_refused(trained: RecurrentPPO, path: Path) -> None:
    weights = {name: torch.full_like(value, torch.nan) for name, value in trained.policy.state_dict().items()}
    with pytest.raises(CheckpointError, match="not numbers"):
        read_checkpoint(rewritten(path, "policy.pth", as_bytes(weights)))


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, 3])
def test_members_that_are_something_else_are_refused(path: Path, content: object) -> None:
    with pytest.raises(CheckpointError):
        restore(make_model(), read_checkpoint(rewritten(path, "policy.pth", as_bytes(content))))


@pytest.mark.parametrize("steps", [-1, 10**40, "many", None])
def test_impossible_counters_are_refused(path: Path, steps: object) -> None:
    with zipfile.ZipFile(path) as archive:
        data = json.loads(archive.read("data"))
    data["num_timesteps"] = steps
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(rewritten(path, "data", json.dumps(data).encode()))


def test_an_optimizer_of_another_shape_is_refused(trained: RecurrentPPO, path: Path) -> None:
    state = trained.policy.optimizer.state_dict()
    moments = {key: {**value, "exp_avg": torch.zeros(3, 3, 3)} for key, value in state["state"].items()}
    other = rewritten(path, "policy.optimizer.pth", as_bytes({**state, "state": moments}))
    with pytest.raises(CheckpointError, match="another shape"):
        restore(make_model(), read_checkpoint(other))


class Bomb:
    def __reduce__(self) -> tuple:
        return (Path("/tmp/biped_bomb_went_off").touch, ())


@pytest.mark.parametrize("member", ["policy.pth", "policy.optimizer.pth", "live.pt", "data"])
def test_reading_a_malicious_checkpoint_runs_none_of_its_code(path: Path, member: str) -> None:
    trigger = Path("/tmp/biped_bomb_went_off")
    trigger.unlink(missing_ok=True)
    is_torch = member.endswith((".pth", ".pt"))
    payload = as_bytes({"weights": Bomb()}) if is_torch else pickle.dumps(Bomb())
    with pytest.raises(CheckpointError):
        read_checkpoint(rewritten(path, member, payload))
    assert not trigger.exists()
    if is_torch:
        torch.load(io.BytesIO(payload), weights_only=False)
        assert trigger.exists(), "the bomb is no bomb: this test would prove nothing"
        trigger.unlink()


@pytest.mark.parametrize("member", ["policy.pth", "policy.optimizer.pth", "live.pt"])
def test_a_small_file_does_not_grow_in_memory(path: Path, member: str) -> None:
    """One number that is shown two thousand million times, and a file that is packed twice."""
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(rewritten(path, member, as_bytes({"weights": torch.zeros(1).expand(2**31)})))
    packed = io.BytesIO()
    stored = io.BytesIO(as_bytes({"weights": torch.zeros(1000)}))
    with zipfile.ZipFile(stored) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert torch.load(io.BytesIO(packed.getvalue()), weights_only=True)["weights"].numel() == 1000
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(rewritten(path, member, packed.getvalue()))


def test_a_failed_write_leaves_the_old_checkpoint_and_no_rubbish(trained: RecurrentPPO, path: Path) -> None:
    before = path.read_bytes()

    class Full(RecurrentPPO):
        def save(self, file, *_: object, **__: object) -> None:
            file.write(b"half")
            raise OSError(28, "No space left on device")

    trained.__class__ = Full
    try:
        with pytest.raises(OSError, match="No space"):
            save_checkpoint(trained, path)
    finally:
        trained.__class__ = RecurrentPPO
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["model.zip"]
