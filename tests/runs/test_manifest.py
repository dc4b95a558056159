"""What a shared policy says of its files: damaged, foreign and dangerous manifests are refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from biped.base.errors import MachineError, UsageError
from biped.runs.manifest import Manifest, Part, is_name

WEIGHTS_SHA256 = "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c"
"""What `sha256sum` says of the word weights."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "robot").mkdir()
    (tmp_path / "model.zip").write_bytes(b"weights")
    (tmp_path / "robot" / "leg one.stl").write_bytes(b"")
    return tmp_path


def written(folder: Path, **changes: Any) -> Path:
    manifest = Manifest.of(folder, ["model.zip", "robot/leg one.stl"], {"steps": 7})
    file = folder / "manifest.json"
    file.write_text(json.dumps({**json.loads(manifest.as_json()), **changes}))
    return file


def test_a_manifest_is_read_as_it_was_written_and_knows_its_files(folder: Path) -> None:
    manifest = Manifest.read(written(folder), "it")
    assert manifest.about == {"steps": 7}
    assert manifest.parts["model.zip"] == Part(WEIGHTS_SHA256, 7)
    for name in manifest.parts:
        manifest.verify(name, folder / name, "it")


@pytest.mark.parametrize("content", [b"weighty", b"weights ", b""])
def test_another_content_is_refused_with_the_name_of_the_file(folder: Path, content: bytes) -> None:
    manifest = Manifest.read(written(folder), "hf://me/walk")
    (folder / "model.zip").write_bytes(content)
    with pytest.raises(MachineError, match=r"model\.zip of hf://me/walk .*wrong SHA-256"):
        manifest.verify("model.zip", folder / "model.zip", "hf://me/walk")


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "/etc/passwd", "a//b", "a/./b", ".ssh/key", "a\\b", "a\nb", "", "C:x", "a/", "a" * 300, "x."],
)
def test_a_name_that_could_lead_elsewhere_is_refused(folder: Path, name: str) -> None:
    assert not is_name(name)
    file = written(folder, files={name: {"sha256": "0" * 64, "bytes": 1}})
    with pytest.raises(UsageError, match="could lead elsewhere"):
        Manifest.read(file, "hf://me/walk")


def test_a_name_that_cannot_be_shared_is_said_before_anything_is_sent(folder: Path) -> None:
    (folder / ".hidden").touch()
    with pytest.raises(UsageError, match=r"\.hidden cannot be shared"):
        Manifest.of(folder, [".hidden"], {})


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"format": "another"}, "no policy of this project"),
        ({"version": 2}, "update this project"),
        ({"version": "x"}, "no policy of this project"),
        ({"files": []}, "no policy of this project"),
        ({"files": {"a": {"sha256": "short", "bytes": 1}}}, "no checksum of a"),
        ({"files": {"a": {"bytes": 1}}}, "no policy of this project"),
        ({"about": None}, "no policy of this project"),
    ],
)
def test_a_manifest_of_something_else_is_refused(folder: Path, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        Manifest.read(written(folder, **changes), "hf://me/walk")


@pytest.mark.parametrize("text", ["", "[]", "null", "{", " " * 2_000_000])
def test_what_is_no_manifest_is_refused(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(UsageError, match="no policy of this project"):
        Manifest.read(folder / "manifest.json", "hf://me/walk")
