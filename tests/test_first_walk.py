"""The notebook in examples/ runs from top to bottom, and is committed without what came out."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

NOTEBOOK = ROOT / "examples" / "first_walk.ipynb"


def cells() -> list[dict[str, Any]]:
    return json.loads(NOTEBOOK.read_text())["cells"]


def test_it_is_committed_without_outputs() -> None:
    assert [cell["id"] for cell in cells() if cell.get("outputs") or cell.get("execution_count")] == []


def test_it_installs_only_where_the_package_is_missing() -> None:
    install = next("".join(cell["source"]) for cell in cells() if cell["id"] == "install")
    lines = install.splitlines()
    assert next(line for line in lines if "%pip install" in line).startswith("    ")
    assert any(line.startswith("if importlib.util.find_spec(") for line in lines)


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="make docs installs what runs notebooks")
    nbclient = pytest.importorskip("nbclient", reason="make docs installs what runs notebooks")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    # A kernel of this Python, whatever kernels are registered on the machine.
    kernel = tmp_path / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": argv, "display_name": "Python", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    outputs = {cell["id"]: cell.get("outputs", []) for cell in notebook.cells}
    said = "".join(output.get("text", "") for output in outputs["walks"])
    assert "walking gate: " in said
    for name, kind in (("film", "image/gif"), ("curves", "image/png")):
        assert [kind in output["data"] for output in outputs[name]] == [True], name
    assert "it does not walk yet" in "".join(output.get("text", "") for output in outputs["judge"])
