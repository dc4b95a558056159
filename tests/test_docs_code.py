"""Python that the documentation shows does run, with smaller numbers."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_docs import PAGES, blocks, name_of

FEWER = {"(100_000)": "(64)", "(10_000)": "(256)", "cpu_preset().env,": "smoke_preset().env,"}
FEWER |= {"import cpu_preset": "import smoke_preset", 'device="cpu")': 'device="cpu", sim="mujoco")'}
ELSEWHERE = "custom_objects"
"""What of it needs a checkpoint: see tests/runs/test_stock_load.py."""
PROGRAMS = [
    (page, code) for page in PAGES for code in blocks(page, "python") if "import " in code and ELSEWHERE not in code
]
"""Blocks that are whole programs, which import what they use."""


@pytest.mark.parametrize("page, code", PROGRAMS, ids=[name_of(page) for page, _ in PROGRAMS])
def test_it_runs(page: Path, code: str, logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(logs / "demo", tmp_path / "logs" / "walk")
    monkeypatch.chdir(tmp_path)
    for text, smaller in FEWER.items():
        code = code.replace(text, smaller)
    exec(compile(code, str(page.relative_to(ROOT)), "exec"), {"__name__": "shown"})


def test_there_is_some() -> None:
    assert {name_of(page) for page, _ in PROGRAMS} >= {"docs/tracking.md", "docs/compatibility.md", "docs/running.md"}
