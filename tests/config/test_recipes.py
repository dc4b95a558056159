"""Recipes for public robots: what they say of their models, and how a model is found."""

import json
import re
import sys
from pathlib import Path

import pytest

from biped.__main__ import main
from biped.base.errors import ConfigError
from biped.base.files import REPOSITORY
from biped.config import recipes
from biped.config.recipes import names, read_recipe
from biped.config.run import Config
from biped.config.scale import Scale, scaled_sections
from biped.config.serial import flatten
from biped.config.settings import robot_settings, with_settings
from biped_config import PRESETS
from tests import mini_robot
from tests.mini_robot import mjcf

HEIGHTS = {"termination": {"min_base_height_m": 0.2}, "reward": {"target_height_m": 0.3}}


@pytest.fixture
def mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of recipes with the small robot's, and a copy of its repository, which is returned."""
    about = {
        "robot": "Mini",
        "repository": "https://example.org/mini",
        "commit": "0a1b2c3",
        "file": "models/mini.xml",
        "licence": "MIT",
        "robot_descriptions": "mini_mj_description",
    }
    folder, copy = tmp_path / "recipes", tmp_path / "copy"
    (copy / "models").mkdir(parents=True)
    folder.mkdir()
    (folder / "mini.json").write_text(json.dumps({"about": about, "robot": mini_robot.ROBOT, **HEIGHTS}))
    (copy / "models" / "mini.xml").write_text(mjcf())
    monkeypatch.setattr(recipes, "FOLDER", folder)
    return copy


@pytest.mark.parametrize("name", names())
def test_a_recipe_says_where_its_model_is_from_and_fits_the_configuration(name: str, tmp_path: Path) -> None:
    recipe = read_recipe(name)
    assert re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", recipe.repository)
    assert re.fullmatch(r"[0-9a-f]{7,40}", recipe.commit)
    assert recipe.licence
    model = tmp_path / recipe.file
    model.parent.mkdir(parents=True)
    model.write_text("")
    robot = with_settings(Config(), robot_settings(Path(f"recipe:{name}={tmp_path}"))).env.robot
    assert robot.model_path == str(model)
    assert len(robot.joint_names) == len(robot.motors)


@pytest.mark.parametrize("name", names())
def test_a_recipe_has_what_follows_from_its_size(name: str) -> None:
    recipe = read_recipe(name)
    content = recipe.content
    scaled = scaled_sections(Scale.of(content["robot"]["leg_length_m"], content["robot"]["mass_kg"]))
    for path, value in flatten(scaled).items():
        if path != "gait.frequency_hz" or path in flatten(content):
            assert (flatten(content)[path] == value) != (path in recipe.tuned), path


def test_there_are_recipes_for_robots_of_all_sizes() -> None:
    sizes_m = [read_recipe(name).content["robot"]["leg_length_m"] for name in names()]
    assert len(sizes_m) >= 8
    assert min(sizes_m) < 0.25
    assert max(sizes_m) > 0.8


@pytest.mark.parametrize("path", ["", "models/mini.xml"])
def test_a_robot_is_its_recipe_and_a_model_or_the_folder_of_its_repository(mini: Path, path: str, capsys) -> None:
    assert main(["check-robot", f"recipe:mini={mini / path}"]) == 0, capsys.readouterr().out


def test_the_package_robot_descriptions_finds_a_model(mini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = mini / "robot_descriptions"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "mini_mj_description.py").write_text(f"MJCF_PATH = {str(mini / 'models' / 'mini.xml')!r}")
    monkeypatch.syspath_prepend(str(mini))
    for name in ("robot_descriptions", "robot_descriptions.mini_mj_description"):
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, name)
    found = dict(robot_settings(Path("recipe:mini")))["env.robot.model_path"]
    assert found == str(mini / "models" / "mini.xml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("recipe:mimi=x", "there is no recipe mimi: did you mean mini?"),
        ("recipe:mini=", "recipe:mini=PATH, with models/mini.xml of https://example.org/mini"),
        ("recipe:mini=nowhere.xml", "there is no model nowhere.xml; name models/mini.xml of https://example.org/mini"),
        (
            "recipe:mini=~no-such-user/x",
            "there is no model ~no-such-user/x; name models/mini.xml of https://example.org/mini",
        ),
        ("recipe:mini", "recipe:mini=PATH, with models/mini.xml of https://example.org/mini; or install robot_descr"),
    ],
)
@pytest.mark.usefixtures("mini")
def test_what_is_missing_of_a_recipe_is_said_in_one_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        robot_settings(Path(text))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_takes_a_robot_that_says_with_how_much_noise_to_begin(preset: str) -> None:
    before = PRESETS[preset]()
    strider = robot_settings(REPOSITORY / "assets" / "strider" / "robot.json", before.policy)
    assert with_settings(before, strider).policy.initial_std == min(0.4, before.policy.max_std)
