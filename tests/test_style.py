"""The checks that need nothing but an installed package."""

import sys

import pytest

from tests.processes import run


@pytest.mark.parametrize("arguments", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_is_content(arguments: list[str]) -> None:
    ended = run([sys.executable, "-m", "ruff", *arguments, "."])
    assert ended.returncode == 0, ended.stdout + ended.stderr
