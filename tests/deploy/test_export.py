"""Exports: what a robot's computer gets does what PyTorch does, and says all that it must know."""

import json
import resource
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import biped_export
from biped.base.errors import MachineError
from biped.config.serial import to_json
from biped.config.settings import with_settings
from biped.deploy.contract import Provenance, build_contract
from biped.deploy.contract_file import METADATA_KEY
from biped.deploy.export import ONNX_FILE, TORCHSCRIPT_FILE, export_policy
from biped.deploy.formats import CONTRACT_FILE, open_onnx, open_torchscript
from biped.deploy.network import PolicyStep
from biped.deploy.parity import MAX_DIFFERENCE, Episodes, parity_config, record_reference
from biped.env.env import make_env
from biped.mdp.observations import ObservationLayout
from biped.runs.checkpoint import read_checkpoint
from biped_config import PRESETS, smoke_preset
from tests.deploy.exported import FILES, SHIPPED, SMALL, Exported
from tests.processes import ROOT, run


@pytest.fixture(params=SMALL, ids=lambda kind: kind.replace(" ", "_"))
def small(request: pytest.FixtureRequest, untrained_exports: dict[str, Exported]) -> Exported:
    """One of them."""
    return untrained_exports[request.param]


@pytest.fixture(scope="module")
def episodes(shipped: Exported) -> Iterator[Episodes]:
    """What the shipped policy sees and does in PyTorch, in short episodes."""
    env = make_env(parity_config(shipped.config.env, episode_s=2.0), sim="mujoco")
    yield record_reference(shipped.model.policy, env)
    env.close()


def test_the_table_shows_both_formats_within_the_bar_over_full_episodes(shipped: Exported) -> None:
    rows = {line.split()[0]: line.split()[1:] for line in shipped.printed.splitlines()[1:4]}
    assert list(rows) == ["PyTorch", "ONNX", "TorchScript"]
    for steps, resets, difference, ms in rows.values():
        assert int(steps) == 4 * 1500
        assert int(resets) >= 8, "each robot's time-out, and the reset of all"
        assert 0.0 < float(difference) <= MAX_DIFFERENCE
        assert float(ms) > 0.0
    assert sorted(file.name for file in shipped.folder.iterdir()) == FILES


def test_each_robot_is_reset_by_its_time_out_and_in_mid_episode(episodes: Episodes) -> None:
    assert np.flatnonzero(episodes.starts.all(axis=1)).tolist() == [0, 100, 125]
    assert episodes.starts.sum() == 3 * 4, "nobody fell"
    assert not np.allclose(episodes.observations[0], episodes.observations[125]), "other starts than at first"


def test_both_formats_and_the_file_hold_one_contract(shipped: Exported) -> None:
    text = (shipped.folder / CONTRACT_FILE).read_text()
    model = onnx.load(str(shipped.folder / ONNX_FILE))
    assert {prop.key: prop.value for prop in model.metadata_props}[METADATA_KEY] == text
    extra = {CONTRACT_FILE: ""}
    torch.jit.load(str(shipped.folder / TORCHSCRIPT_FILE), _extra_files=extra)
    found = extra[CONTRACT_FILE]
    assert (found.decode() if isinstance(found, bytes) else found) == text


def test_no_file_names_a_folder_of_this_machine(shipped: Exported) -> None:
    for file in shipped.folder.iterdir():
        content = file.read_bytes()
        for folder in (ROOT, Path(sys.prefix), Path.home()):
            assert f"{folder}/".encode() not in content, f"{file.name} names {folder}"
        assert b"stack_trace" not in content
        assert b"debug_pkl" not in content


def test_the_contract_says_what_the_configuration_says(small: Exported) -> None:
    contract, env, robot = small.contract, small.config.env, small.config.env.robot
    layout = ObservationLayout.build(env)
    terms = contract["observation"]["terms"]
    assert [(t["name"], t["width"], t["scale"], t["unit"]) for t in terms] == [
        (t.name, t.width, t.scale, t.unit) for t in layout.terms
    ]
    assert [t["start"] for t in terms] == [sum(u["width"] for u in terms[:i]) for i in range(len(terms))]
    assert all(len(t["elements"]) == t["width"] and t["meaning"] for t in terms)
    assert (contract["observation"]["width"], contract["observation"]["clip"]) == (layout.width, env.observation.clip)
    action = contract["action"]
    assert action["joint_names"] == list(robot.joint_names)
    assert action["default_pose_rad"] == list(robot.default_joint_pos_rad)
    assert (action["scale_rad"], action["clip"]) == (env.control.action_scale_rad, env.control.action_clip)
    joints = len(robot.joint_names)
    assert contract["motors"]["kp_nm_per_rad"] == [robot.kp_nm_per_rad] * joints
    assert contract["motors"]["kd_nm_s_per_rad"] == [robot.kd_nm_s_per_rad] * joints
    assert contract["motors"]["torque_limit_nm"] == [robot.servo.stall_torque_nm] * joints
    assert contract["motors"]["stall_torque_nm"] == [robot.servo.stall_torque_nm] * joints
    assert contract["motors"]["velocity_limit_rad_s"] == [robot.servo.no_load_speed_rad_s] * joints
    assert contract["motors"]["servo"] == [""] * joints
    control = contract["control"]
    assert (control["rate_hz"], control["physics_substeps"], control["physics_dt_s"]) == (50.0, 2, 0.01)
    assert contract["gait_clock"]["frequency_hz"] == env.gait.frequency_hz
    if robot.foot_switches:
        assert (contract["foot_contact"]["on_n"], contract["foot_contact"]["off_n"]) == (3.0, 1.0)
    else:
        assert contract["foot_contact"] is None
    assert contract["command"]["moving_threshold_m_s"] == env.command.moving_threshold_m_s
    assert contract["robot"]["base_link"] == robot.base_link
    assert contract["robot"]["default_base_height_m"] == robot.default_base_height_m
    assert contract["policy"]["normalizer_inside"] == small.config.policy.normalize_observations


def test_the_contracts_shapes_and_names_are_the_files(small: Exported) -> None:
    policy = small.contract["policy"]
    session = onnxruntime.InferenceSession(str(small.folder / ONNX_FILE))
    for mine, theirs in ((policy["inputs"], session.get_inputs()), (policy["outputs"], session.get_outputs())):
        assert [part["name"] for part in mine] == [part.name for part in theirs]
        for part, found in zip(mine, theirs, strict=True):
            assert [1 if isinstance(size, str) else size for size in found.shape] == part["shape"]
            assert isinstance(found.shape[part["batch_axis"]], str), "any batch size"


SENSORS = {
    "projected_gravity_b": "imu",
    "base_ang_vel_b": "imu",
    "joint_pos_rad": "joint encoders",
    "joint_vel_rad_s": "joint encoders",
    "foot_contact": "foot switches",
    "command_lin_vel_x_b": "controller",
    "command_lin_vel_y_b": "controller",
    "command_ang_vel_b": "controller",
    "previous_action": "controller",
    "gait_phase": "controller",
}
"""What a robot can measure, or its computer knows by itself, written down by hand. Nothing else may be asked for."""


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("switches", [False, True], ids=["without switches", "with switches"])
def test_no_policy_that_a_preset_trains_asks_for_what_no_sensor_gives(preset: str, switches: bool) -> None:
    config = with_settings(PRESETS[preset](), [("env.robot.foot_switches", switches)])
    contract = build_contract(config, Provenance("model.zip", "0" * 64, 1))
    asked = {term["name"]: term["sensor"] for term in contract["observation"]["terms"]}
    assert asked == {name: sensor for name, sensor in SENSORS.items() if switches or sensor != "foot switches"}
    assert contract["sensors"]["not_measured"] == []
    assert contract["sensors"]["needed"] == sorted(set(asked.values()) - {"controller"})


def test_a_policy_that_needs_a_state_estimator_says_so() -> None:
    config = with_settings(smoke_preset(), [("env.observation.policy", "privileged")])
    contract = build_contract(config, Provenance("model.zip", "0" * 64, 1))
    assert contract["sensors"]["not_measured"] == ["base_lin_vel_xy_b", "base_height_m"]


def test_the_estimate_comes_out_in_physical_units_and_is_never_fed_back(small: Exported) -> None:
    """The environment's critic has the same numbers as they are scaled; the file divides by the scales."""
    policy, step = small.config.policy, open_onnx(small.folder / ONNX_FILE)
    memory = (np.zeros((policy.lstm_layers, 1, policy.lstm_hidden_size), np.float32),) * 2
    observation = np.ones((1, small.contract["observation"]["width"]), np.float32)
    found = step(observation, memory)
    latent = torch.from_numpy(found.memory[0][-1])
    with torch.no_grad():
        scaled = small.model.policy.estimator(latent).numpy()
    scale = small.config.env.observation.lin_vel_scale
    np.testing.assert_allclose(found.estimates, scaled / [[scale, scale, scale, 1.0]], atol=1e-6)
    assert [part["name"] for part in small.contract["policy"]["inputs"]] == ["obs", "h", "c"]
    assert len(small.contract["estimate"]["elements"]) == found.estimates.shape[1] == 4
    with pytest.raises(ValueError, match="predicts 4 numbers, not 1"):
        PolicyStep(small.model.policy, 1.0, (1.0,))


def test_a_model_is_known_by_its_hash(shipped: Exported, tmp_path: Path) -> None:
    found = shipped.contract["provenance"]
    assert found["model_file"] == "biped_walk.zip"
    assert found["trained_steps"] == read_checkpoint(SHIPPED).num_timesteps
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (found["package"], found["package_version"]) == (project["name"], project["version"])
    sha256sum = run(["sha256sum", str(SHIPPED)], check=True).stdout
    assert sha256sum.startswith(found["model_sha256"] + " ")
    (tmp_path / "other.zip").write_bytes(SHIPPED.read_bytes() + b" ")
    assert Provenance.of(tmp_path / "other.zip", 0).model_sha256 != found["model_sha256"]


@pytest.mark.parametrize("file", [ONNX_FILE, TORCHSCRIPT_FILE])
def test_files_agree_with_stock_predict_for_a_batch(small: Exported, file: str) -> None:
    """Stable-Baselines3's own `predict` is a path that the export has nothing in common with."""
    step = {ONNX_FILE: open_onnx, TORCHSCRIPT_FILE: open_torchscript}[file](small.folder / file)
    policy, generator = small.config.policy, np.random.default_rng(0)
    batch, width = 3, small.contract["observation"]["width"]
    critic = small.model.observation_space["critic"].shape[0]
    memory = (np.zeros((policy.lstm_layers, batch, policy.lstm_hidden_size), np.float32),) * 2
    state, at_the_clip = None, 0
    for index in range(20):
        observation = generator.normal(3.0, 2.0, (batch, width)).astype(np.float32)
        seen = {"policy": observation, "critic": np.zeros((batch, critic), np.float32)}
        wanted, state = small.model.predict(
            seen, state=state, episode_start=np.full(batch, index == 0), deterministic=True
        )
        action, memory, _ = step(observation, memory)
        np.testing.assert_allclose(action, wanted, rtol=0, atol=5e-5)
        at_the_clip += int((np.abs(action) == small.config.env.control.action_clip).sum())
    assert at_the_clip > 10, "the clip must have something to do"


@pytest.mark.parametrize(
    ("spoil", "difference"),
    [
        (lambda network: network.head.bias.add_(2e-5), "2."),
        (lambda network: network.lstm.bias_ih_l0.add_(1e-3), ""),
        (lambda network: network.extractor.layers[0].weight.mul_(1.001), ""),
        (lambda network: network.head.bias.fill_(float("nan")), "inf"),
    ],
    ids=["head", "lstm", "extractor", "not a number"],
)
def test_what_is_off_is_not_exported(
    shipped: Exported, episodes: Episodes, tmp_path: Path, spoil: Any, difference: str
) -> None:
    network = PolicyStep(shipped.model.policy, 4.0)
    with torch.no_grad():
        spoil(network)
    with pytest.raises(MachineError, match=f"^ONNX is off PyTorch by {difference}.*nothing was written"):
        export_policy(network, shipped.contract, episodes, tmp_path / "new", say=lambda _: None)
    assert not (tmp_path / "new").exists()


def test_files_of_an_earlier_export_outlive_one_that_fails(
    shipped: Exported, episodes: Episodes, tmp_path: Path
) -> None:
    network = PolicyStep(shipped.model.policy, 4.0)
    network.head.bias.data += 2e-5
    before = shutil.copytree(shipped.folder, tmp_path / "before")
    with pytest.raises(MachineError):
        export_policy(network, {**shipped.contract, "format": "another"}, episodes, before, say=lambda _: None)
    assert sorted(file.name for file in before.iterdir()) == FILES
    for name in FILES:
        assert (before / name).read_bytes() == (shipped.folder / name).read_bytes()


def test_exporting_leaves_the_policy_as_it_was_and_replaces_older_files(
    shipped: Exported, episodes: Episodes, tmp_path: Path
) -> None:
    weights = {name: value.clone() for name, value in shipped.model.policy.state_dict().items()}
    (tmp_path / CONTRACT_FILE).write_text("old")
    (tmp_path / "mine.txt").write_text("kept")
    export_policy(PolicyStep(shipped.model.policy, 4.0), shipped.contract, episodes, tmp_path, say=lambda _: None)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*FILES, "mine.txt"])
    assert json.loads((tmp_path / CONTRACT_FILE).read_text()) == shipped.contract
    assert all(torch.equal(weights[name], value) for name, value in shipped.model.policy.state_dict().items())
    assert all(parameter.requires_grad for parameter in shipped.model.policy.parameters())


def test_a_disk_that_takes_no_more_is_said_and_nothing_is_left(
    shipped: Exported, episodes: Episodes, tmp_path: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))  # less than either format takes
    try:
        with pytest.raises(MachineError, match=r"^cannot write .* use another --out$"):
            export_policy(
                PolicyStep(shipped.model.policy, 4.0), shipped.contract, episodes, tmp_path / "new", say=lambda _: None
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("package", ["onnxscript", "onnxruntime"])
def test_a_package_that_is_missing_is_named(
    shipped: Exported, episodes: Episodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MachineError, match=rf"^{package} cannot be imported .*install_genesis\.sh"):
        export_policy(
            PolicyStep(shipped.model.policy, 4.0), shipped.contract, episodes, tmp_path / "new", say=lambda _: None
        )
    assert not (tmp_path / "new").exists()


def bad_inputs(folder: Path) -> dict[str, tuple[list[str], str]]:
    (folder / "alone").mkdir()
    (folder / "damaged").mkdir()
    shutil.copy(SHIPPED, folder / "alone" / "model.zip")
    shutil.copy(SHIPPED.parent / "config.json", folder / "damaged")
    (folder / "damaged" / "model.zip").write_bytes(SHIPPED.read_bytes()[:5000])
    (folder / "other").mkdir()
    shutil.copy(SHIPPED, folder / "other" / "model.zip")
    (folder / "other" / "config.json").write_text(to_json(smoke_preset()))
    shipped = ["--model", str(SHIPPED)]
    return {
        "no such model": (["--model", str(folder / "none.zip")], "there is no file"),
        "no such run": (["-e", "none", "--log_dir", str(folder)], "there is no run in"),
        "no configuration": (["--model", str(folder / "alone" / "model.zip")], "there is no config.json beside"),
        "damaged": (["--model", str(folder / "damaged" / "model.zip")], "damaged or not a checkpoint"),
        "another network": (["--model", str(folder / "other" / "model.zip")], "of a network of another shape"),
        "out is a file": ([*shipped, "--out", str(folder / "alone" / "model.zip")], "is a file: name a folder"),
        "out is nowhere": ([*shipped, "--out", str(folder / "a" / "b")], "there is no folder"),
        "unknown flag": ([*shipped, "--onnx"], "unrecognized arguments"),
    }


def test_wrong_usage_is_one_line_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind, (arguments, said) in bad_inputs(tmp_path).items():
        before = sorted(tmp_path.rglob("*"))
        try:
            code = biped_export.main(arguments)
        except SystemExit as ended:
            code = ended.code
        out, line = capsys.readouterr()
        assert (code, out) == (2, ""), kind
        assert said in line, kind
        assert line.startswith("biped_export.py: "), kind
        assert line.count("\n") == 1, kind
        assert sorted(tmp_path.rglob("*")) == before, kind


def test_the_contract_names_the_robots_model_without_its_folder(tmp_path: Path) -> None:
    config = with_settings(smoke_preset(), [("env.robot.model_path", str(tmp_path / "mine.xml"))])
    contract = json.dumps(build_contract(config, Provenance("model.zip", "0" * 64, 1)))
    assert '"model_file": "mine.xml"' in contract
    assert str(tmp_path) not in contract
