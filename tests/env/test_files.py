"""Every file that makes an environment what it is."""

from dataclasses import replace
from pathlib import Path

from biped.config.style import ImitationConfig
from biped.config.task import EnvConfig
from biped.env.files import files_of
from tests.conftest import ROOT

CFG = EnvConfig()


def test_the_biped_is_its_model() -> None:
    assert files_of(CFG) == [ROOT / "assets" / "biped" / "biped.xml"]


def test_what_a_model_includes_and_clips_belong_to_it(tmp_path: Path) -> None:
    (tmp_path / "mine.xml").write_text(f'<mujoco><include file="{tmp_path}/legs.xml"/></mujoco>')
    (tmp_path / "legs.xml").write_text("<mujoco/>")
    cfg = replace(
        CFG,
        robot=replace(CFG.robot, model_path=str(tmp_path / "mine.xml")),
        imitation=ImitationConfig(motion="assets/motions/stride.csv"),
    )
    clips = ROOT / "assets" / "motions"
    expected = [tmp_path / "mine.xml", tmp_path / "legs.xml", clips / "stride.csv", clips / "walk.csv"]
    assert files_of(cfg, ["assets/motions/walk.csv"]) == expected
