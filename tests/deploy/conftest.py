"""Exports that several files of tests look at."""

import sys

import pytest

import biped_export
from biped.config.settings import with_settings
from biped.deploy.contract import Provenance, build_contract, scales_of_head
from biped.deploy.export import export_policy
from biped.deploy.network import PolicyStep
from biped.deploy.parity import parity_config, record_reference
from biped.env.env import make_env
from biped.runs.directory import RunDirectory
from tests.deploy.exported import SHIPPED, SMALL, Exported, model_of, untrained
from tests.processes import ROOT, run


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The shipped policy, exported by the command line in a process of its own."""
    folder = tmp_path_factory.mktemp("shipped") / "export"
    command = [sys.executable, str(ROOT / "biped_export.py"), "--model", str(SHIPPED), "--out", str(folder)]
    ended = run(command)
    assert (ended.returncode, ended.stderr) == (0, "")
    config = with_settings(RunDirectory(SHIPPED.parent).read_config(), [("train.device", "cpu")])
    model, env = model_of(config)
    env.close()
    model.set_parameters(str(SHIPPED), device="cpu")
    return Exported(folder, config, ended.stdout, model)


@pytest.fixture(scope="session")
def untrained_exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    """Untrained policies: one exported to where the command line puts it by itself, one after short episodes."""
    exports = {}
    for kind in SMALL:
        folder = tmp_path_factory.mktemp("run")
        model, config = untrained(kind, folder)
        out = folder / "export"
        if kind == "normalised strider":
            out = folder / "export_model_final"
            command = ["--model", str(folder / "model_final.zip"), "--log_dir", str(folder.parent)]
            assert biped_export.main(command) == 0
        else:
            env = make_env(parity_config(config.env, episode_s=2.0), sim="mujoco")
            contract = build_contract(config, Provenance("model_final.zip", "0" * 64, 0))
            scales = scales_of_head(config)
            network = PolicyStep(model.policy, config.env.control.action_clip, scales)
            export_policy(network, contract, record_reference(model.policy, env, scales), out, say=lambda _: None)
            env.close()
        exports[kind] = Exported(out, config, "", model)
    return exports
