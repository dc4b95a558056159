"""What names a model: paths stay as they are, and a service is only asked where its library is installed."""

import subprocess
import sys
from pathlib import Path

import pytest

from biped.base.errors import UsageError
from biped.runs.shared import local_model, local_policy
from tests.conftest import ROOT

BARE = """
import sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("huggingface_hub", "wandb", "torch", "pydantic"):
            raise ImportError(f"No module named {name}")

sys.meta_path.insert(0, Without())
from pathlib import Path
from biped.base.command_line import exit_code
from biped.runs.shared import local_policy
sys.exit(exit_code("biped_run.py", lambda: print(local_policy(sys.argv[1], Path("logs")))))
"""
"""A robot's computer, which has no library of a service."""


def test_paths_and_nothing_are_left_as_they_are(tmp_path: Path) -> None:
    assert local_model(None, tmp_path) is None
    assert local_model(Path("hf:/odd/model.zip"), tmp_path) == Path("hf:/odd/model.zip")
    assert local_policy(Path("policy.onnx"), tmp_path) == Path("policy.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_website_is_no_address(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="hf://USER/REPO"):
        local_model("https://huggingface.co/me/walk", tmp_path)


@pytest.mark.parametrize(
    ("address", "package"), [("hf://me/walk", "huggingface-hub"), ("wandb://me/lab/walk", "wandb")]
)
def test_a_robots_computer_is_told_what_to_install(address: str, package: str) -> None:
    ended = subprocess.run([sys.executable, "-c", BARE, address], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        f"biped_run.py: addresses with {address.partition('/')[0]}// need {package}: pip install {package}"
    ]
