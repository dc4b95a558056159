"""The small commands: `python -m biped COMMAND`."""

import json
from pathlib import Path

import pytest

from biped.__main__ import main
from biped.config.run import Config
from biped.config.serial import to_dict
from tests.conftest import ROOT


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 0
    return capsys.readouterr().out


def test_the_page_of_metrics_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "metrics") == (ROOT / "docs" / "metrics.md").read_text()


def test_the_defaults_are_a_whole_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(said(capsys, "config")) == to_dict(Config())


def test_the_schema_knows_every_field_its_bounds_and_its_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    schema = json.loads(said(capsys, "config", "--schema"))
    assert set(schema["properties"]) == set(to_dict(Config()))
    gait = schema["$defs"]["GaitConfig"]
    assert gait["additionalProperties"] is False
    frequency = gait["properties"]["frequency_hz"]
    assert (frequency["exclusiveMinimum"], frequency["default"]) == (0, 1.4)
    assert "Strides" in frequency["description"]
    missing = [
        f"{name}.{field}"
        for name, section in schema["$defs"].items()
        for field, item in section["properties"].items()
        if "description" not in item and "$ref" not in item  # where both say the same, the section has it
    ]
    assert missing == []


@pytest.mark.parametrize("words", [[], ["dance"], ["average"], ["average", "logs/none"], ["curves", "logs/none"]])
def test_what_cannot_be_is_one_line_and_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(words)
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_the_mean_of_too_few_checkpoints_says_how_many_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert main(["average", str(tmp_path), "--last", "3"]) == 2
    assert "holds 0 checkpoints" in capsys.readouterr().err
