"""Checkpoints in a Python that has the libraries, but not this package."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np

from biped.ppo.kl_schedule import KlSchedule
from biped.runs.checkpoint import save_checkpoint
from tests.conftest import ROOT
from tests.test_compatibility import WIDTH, learner
from tests.test_docs import blocks


def without_us(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a Python that has the libraries, but not this package."""
    # -S: no .pth files, which an editable install is one of; so the libraries have to be named.
    environment = {"PYTHONPATH": sysconfig.get_path("purelib"), "PATH": ""}
    command = [sys.executable, "-S", "-c", program]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_stock_load_needs_this_package_or_the_objects_that_the_page_names(tmp_path: Path) -> None:
    model = learner(kl_schedule=KlSchedule()).learn(32)
    save_checkpoint(model, tmp_path / "model.zip")
    plain = without_us('from sb3_contrib import RecurrentPPO; RecurrentPPO.load("model.zip")', tmp_path)
    error = plain.stderr.splitlines()[-1]
    assert error in (ROOT / "docs" / "learner.md").read_text(), error

    (program,) = [block for block in blocks(ROOT / "docs" / "learner.md", "python") if "custom_objects" in block]
    program += "\nimport numpy, sys\nassert 'biped' not in sys.modules"
    program += f"\nprint(model.predict(numpy.linspace(-1, 1, {WIDTH}, dtype='f'), deterministic=True)[0].tolist())"
    ended = without_us(program, tmp_path)
    assert ended.returncode == 0, ended.stderr
    wanted = model.predict(np.linspace(-1, 1, WIDTH, dtype=np.float32), deterministic=True)[0]
    np.testing.assert_allclose(eval(ended.stdout.splitlines()[-1]), wanted, atol=1e-6)
