"""The whole build, as a person types it: a fine site is built, and a broken link ends it."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of what the site is made of, and an environment for its Makefile."""
    folder = tmp_path / "repository"
    shutil.copytree(
        ROOT,
        folder,
        ignore=shutil.ignore_patterns(".git", ".venv", "logs", "build", "site", "wandb", "wheels", "__pycache__"),
    )
    (folder / ".venv" / "bin").mkdir(parents=True)
    python = folder / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    (folder / ".venv" / ".installed").touch()
    return folder


def make_docs(folder: Path) -> tuple[int, str]:
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(
        ["make", "docs"], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=900
    )
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.slow
def test_the_site_is_built_and_a_broken_anchor_is_an_error(repository: Path) -> None:
    pytest.importorskip("material", reason="make docs installs what builds the site")
    code, said = make_docs(repository)
    assert code == 0, said
    front = (repository / "site" / "index.html").read_text()
    assert 'href="first-walk/"' in front
    page = (repository / "site" / "biped" / "mdp" / "gait" / "index.html").read_text()
    assert 'id="biped.mdp.gait.' in page
    with (repository / "docs" / "live.md").open("a") as file:
        file.write("\nSee [it](gpu.md#nowhere).\n")
    code, said = make_docs(repository)
    assert code != 0
    assert "does not contain an anchor '#nowhere'" in said
