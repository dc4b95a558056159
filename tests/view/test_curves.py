"""The overview page of a real run, and the moving mean behind its curves."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from biped.__main__ import main
from biped.runs.directory import RunDirectory
from biped.runs.metrics_log import Curve
from biped.train.metrics import METRICS
from biped.view import curves as overview
from biped.view.smoothing import moving_mean


def test_training_leaves_its_page_and_the_command_draws_it_again(
    logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert RunDirectory(logs / "demo").overview.exists()
    out = tmp_path / "page.png"
    assert main(["curves", str(logs / "demo"), "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    with Image.open(out) as page:
        assert page.width > 1000
        # Something is drawn, in more colours than a white page with black axes has.
        pixels = np.asarray(page.convert("RGB").resize((300, 300))).reshape(-1, 3)
        assert len(np.unique(pixels, axis=0)) > 50


def test_without_metrics_there_is_one_line_and_no_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["curves", str(tmp_path / "nothing")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    (tmp_path / "metrics.jsonl").write_text("not json\n")
    assert main(["curves", str(tmp_path)]) == 2
    assert "no metrics yet" in capsys.readouterr().err
    assert not (tmp_path / "overview.png").exists()


def test_every_panel_names_metrics_of_the_table() -> None:
    for panel in overview.PANELS + overview.STYLE_PANELS:
        for name in panel.names:
            assert name in METRICS or (name.endswith("/") and any(known.startswith(name) for known in METRICS))


def test_a_run_with_a_style_has_a_row_for_its_discriminator_and_others_have_none(tmp_path: Path) -> None:
    plain = {"rollout/ep_len_mean": Curve(np.array([1, 2]), np.array([50.0, 60.0]))}
    styled = plain | {"losses/disc_loss": Curve(np.array([1, 2]), np.array([0.9, 0.8]))}
    heights = []
    for curves in (plain, styled):
        overview.draw(curves, "demo", tmp_path / "page.png")
        with Image.open(tmp_path / "page.png") as page:
            heights.append(page.height)
    assert heights[1] / heights[0] == pytest.approx(5 / 4)


def test_the_moving_mean_is_centred_and_passes_over_gaps() -> None:
    values = np.array([0.0, 3.0, 6.0, np.nan, 12.0, 15.0])
    np.testing.assert_allclose(moving_mean(values, 3), [1.5, 3.0, 4.5, 9.0, 13.5, 13.5])
    np.testing.assert_allclose(moving_mean(values, 1), values)
    assert np.isnan(moving_mean(np.full(3, np.nan), 3)).all()
