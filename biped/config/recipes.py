"""Recipes: robot's files of public robots, whose models are somebody else's: `--robot recipe:NAME=PATH`.

A recipe is a file in `assets/recipes`: what a robot's file holds, but no `model_path`, and the section `about`, which
says where the model is from. The model itself is not in the repository.
"""

import importlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biped.base.errors import ConfigError, first_line
from biped.base.shipped import ASSETS
from biped.config.section import suggestion

PREFIX = "recipe:"
"""How the name of a recipe begins on the command line."""
FOLDER = ASSETS / "recipes"
"""Where the recipes are."""
ABOUT = "about"
"""The section that says where a model is from."""


@dataclass(frozen=True)
class Recipe:
    """A public robot's file without its model."""

    name: str
    """Its name."""
    robot: str
    """The robot, and who makes it."""
    repository: str
    """Address of the repository with the model."""
    commit: str
    """Commit that the recipe was made from."""
    file: str
    """Path of the model in that repository."""
    licence: str
    """Licence of the model."""
    description: str
    """Module of the package robot_descriptions that has this very file; empty: none has."""
    content: Mapping[str, Any]
    """The sections of the robot's file."""
    tuned: tuple[str, ...] = ()
    """Paths of values that trainings have shown to be better than what follows from the robot's size."""


def is_recipe(file: Path) -> bool:
    """Return whether a value of `--robot` names a recipe instead of a file."""
    return str(file).startswith(PREFIX)


def names() -> list[str]:
    """Return the names of all recipes."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read_recipe(name: str) -> Recipe:
    """Read a recipe.

    Raises:
        ConfigError: there is no such recipe.
    """
    if name not in names():
        raise ConfigError(f"there is no recipe {name}{suggestion(name, names())}")
    content = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    about = content.pop(ABOUT)
    found = {"description": about.pop("robot_descriptions", ""), "tuned": tuple(about.pop("tuned", ()))}
    return Recipe(name=name, content=content, **found, **about)


def content_of(text: str) -> dict[str, Any]:
    """Return the robot's file that `recipe:NAME=PATH` stands for, with the model's path in it.

    PATH is the model, or a folder with a copy of its repository. Without `=PATH` the package robot_descriptions, where
    it is installed, fetches the model.

    Raises:
        ConfigError: there is no such recipe, or no model at PATH, or the package is not installed or cannot fetch it.
    """
    name, _, path = text.removeprefix(PREFIX).partition("=")
    recipe = read_recipe(name)
    model = _model_at(recipe, path) if path else _described(recipe)
    return {**recipe.content, "robot": {**recipe.content["robot"], "model_path": str(model)}}


def _model_at(recipe: Recipe, text: str) -> Path:
    path = Path(os.path.expanduser(text))  # noqa: PTH111 - leaves a home that does not exist as it is
    model = path / recipe.file if path.is_dir() else path
    if not model.is_file():
        raise ConfigError(
            f"{PREFIX}{recipe.name}: there is no model {model}; name {recipe.file} of {recipe.repository}, or the "
            "folder of that repository"
        )
    return model.resolve()


def _described(recipe: Recipe) -> Path:
    """Let robot_descriptions find a model; it clones the repository if it has not yet."""
    needed = (
        f"{PREFIX}{recipe.name} needs the model: {PREFIX}{recipe.name}=PATH, with {recipe.file} of {recipe.repository}"
    )
    if not recipe.description:
        raise ConfigError(needed)
    try:
        module = importlib.import_module(f"robot_descriptions.{recipe.description}")
        return Path(getattr(module, "URDF_PATH", None) or module.MJCF_PATH)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{needed}; or install robot_descriptions, which fetches it ({error})") from error
    except Exception as error:  # git's, of many kinds, without a network or a disk
        raise ConfigError(f"{needed}; robot_descriptions cannot fetch it ({first_line(error)})") from error
