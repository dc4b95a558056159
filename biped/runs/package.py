"""Sharing a policy: everything that belongs to it in one folder, with a card and checksums, and sent."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from biped.base.command_line import FILMS
from biped.base.errors import UsageError, disk_error, say, warn
from biped.base.shipped import located
from biped.config.run import Config, WandbConfig
from biped.config.serial import to_json
from biped.config.settings import expanded, with_settings
from biped.runs import hub, wandb_artifacts
from biped.runs.address import Address
from biped.runs.card import Shown, make_card
from biped.runs.checkpoint import CheckpointError, read_checkpoint
from biped.runs.directory import RunDirectory
from biped.runs.manifest import CONFIG, MANIFEST, MODEL, POLICY, RESULTS, ROBOT, Manifest, Part
from biped.runs.models import find_model
from biped.runs.results import Place, sha256_of

SHIPPED_ROBOTS = ("assets/biped/biped.xml", "assets/strider/strider.xml")
"""Models of robots that every copy of this project has."""
SHIPPED_CLIPS = "assets/motions/"
"""How the paths of motions begin that every copy of this project has."""
FILM = "replay"
"""Name of the film, without its ending."""
CARD = "README.md"
"""Name of the card."""

ModelParts = Callable[[Path], Sequence[Path]]
"""Returns a robot's model file and the files that it refers to, as absolute paths."""


@dataclass(frozen=True)
class PushRequest:
    """A request to share a policy."""

    what: str | Path
    """A run's name, its folder, or a checkpoint."""
    to: Path | str
    """An address; or a new folder, to look at what would be sent."""
    logs: Path
    """The folder of all runs."""
    private: bool = False
    """Whether a repository that is made is private."""
    film: Path | None = None
    """A film of the policy; None: the report's, or that of its evaluation in training."""
    has_robot: bool = True
    """Whether the files of a robot that does not ship go along."""
    license: str | None = None
    """Identifier of a licence, such as mit, for the card."""


@dataclass
class _Package:
    """A folder that is being filled."""

    folder: Path
    names: list[str]

    def add(self, name: str, source: Path) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, self.folder / name)
        self.names.append(name)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")
        self.names.append(name)


def push(request: PushRequest, model_parts: ModelParts) -> None:
    """Gather a policy with its configuration, results, film, card and checksums, and send it.

    Args:
        request: the request.
        model_parts: finds the files of a robot.

    Raises:
        UsageError: there is no such policy, it is damaged, or the address is not one.
        MachineError: the service or the disk refuses it.
    """
    address = Address.parse(request.to) if isinstance(request.to, str) else None
    if address is not None and address.revision is not None:
        raise UsageError(f"--to {address}: each push makes a revision of its own: leave out {address.revision}")
    if isinstance(request.to, Path) and request.to.exists():
        raise UsageError(f"--to {request.to}: it exists already: name a new folder")
    model, run, place = _find(request)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "policy"
            folder.mkdir()
            manifest = _fill(_Package(folder, []), request, model, run, place, model_parts)
            size = sum(part.size for part in manifest.parts.values())
            say(f"{model}: {len(manifest.parts)} files, {size / 1e6:.1f} MB: {', '.join(manifest.parts)}")
            if isinstance(request.to, Path):
                shutil.copytree(folder, request.to)
                say(f"nothing was sent; it is in {request.to}")
            elif address is not None:
                say(f"sending it to {address}")
                say(f"it is at {_send(folder, address, request, manifest)}")
    except OSError as error:
        raise disk_error(error.filename or "the policy", error, "--to") from error


def _send(folder: Path, address: Address, request: PushRequest, manifest: Manifest) -> str:
    steps = manifest.about["steps"]
    if address.service == "hf":
        return hub.upload(folder, address, private=request.private, message=f"A policy of {steps:,} steps")
    if request.private:
        raise UsageError("--private is for hf://: a W&B project says itself who sees it")
    return wandb_artifacts.upload(folder, address, manifest.about)


def _find(request: PushRequest) -> tuple[Path, RunDirectory, Place]:
    """Return the checkpoint, its folder, and the place of its results."""
    what, logs = request.what, request.logs
    if isinstance(what, Path) and what.suffix == ".zip":
        model, run = find_model(what, logs, "")
        return model, run, Place.of(model, logs, by_name=True)
    if isinstance(what, Path):
        logs, what = what.parent, what.name
    model, run = find_model(None, logs, str(what))
    return model, run, Place.of(model, logs, by_name=False)


def _fill(
    package: _Package, request: PushRequest, model: Path, run: RunDirectory, place: Place, model_parts: ModelParts
) -> Manifest:
    """Fill a folder with all that belongs to a policy; return the manifest."""
    try:
        steps = read_checkpoint(model).num_timesteps
    except CheckpointError as error:
        raise UsageError(f"{error}: nothing is shared") from error
    package.add(MODEL, model)
    digest = sha256_of(model)
    config = _without_own_clips(run.read_config())
    config, robot, about = _with_robot(package, config, request.has_robot, model_parts)
    # Names in W&B are nobody else's business, and would be used by trainings that start from this configuration.
    package.write(CONFIG, to_json(replace(config, wandb=WandbConfig())))
    results = {name: _result(_places(place, model, name), digest) for name in RESULTS}
    for name, found in results.items():
        if found is not None:
            package.write(name, json.dumps({**found[1], "model": MODEL}, indent=2) + "\n")
    if results["eval.json"] is None:
        warn(f"{model} has no eval.json: the card has no figures (python biped_eval.py makes it)")
    exported = _exported(place, model, digest)
    if exported is not None:
        package.add(POLICY, exported)
    film = request.film or _film(results["eval.json"], run, steps)
    if film is not None:
        if film.suffix.lower() not in FILMS or not film.is_file():
            raise UsageError(f"--film: {film} is no film, ending in {' or '.join(FILMS)}")
        package.add(f"{FILM}{film.suffix.lower()}", film)
    shown = Shown(
        name=str(request.to).rstrip("/").rpartition("/")[2],
        address=str(request.to) if isinstance(request.to, str) else f"{request.to}/{MODEL}",
        config=config,
        steps=steps,
        evaluation=results["eval.json"] and results["eval.json"][1],
        robustness=results["robustness.json"] and results["robustness.json"][1],
        film=None if film is None else f"{FILM}{film.suffix.lower()}",
        is_exported=exported is not None,
        robot=robot,
        license=request.license,
    )
    about = {"made_by": f"biped-walking {_version()}", "steps": steps, **about}
    manifest = Manifest.of(package.folder, package.names, about)
    # The card is in no manifest, because its owner may change it on the website.
    (package.folder / CARD).write_text(make_card(shown), encoding="utf-8")
    (package.folder / MANIFEST).write_text(manifest.as_json(), encoding="utf-8")
    return manifest


def _without_own_clips(config: Config) -> Config:
    """Return a configuration without motions that do not ship: only training needs them, and others have none."""
    kept = tuple(clip for clip in config.style.motions if clip.startswith(SHIPPED_CLIPS))
    changes: list[tuple[str, Any]] = [] if kept == config.style.motions else [("style.motions", kept)]
    followed = config.env.imitation.motion
    if followed and not followed.startswith(SHIPPED_CLIPS):
        changes += [("env.reward.weights.imitation", 0.0), ("env.imitation.max_error_rad", 0.0)]
        changes += [("env.imitation.motion", "")]
    if changes:
        say("motions that do not come with this project stay here: using the policy needs none")
    return with_settings(config, changes)


def _with_robot(
    package: _Package, config: Config, has_robot: bool, model_parts: ModelParts
) -> tuple[Config, str, dict[str, str]]:
    """Add a robot that does not ship; return the configuration that finds it, a sentence, and what is noted of it."""
    path = config.env.robot.model_path
    file = located(expanded(path))
    if path in SHIPPED_ROBOTS:
        return config, f"`{path}`, which ships with biped-walking.", {"robot_sha256": Part.of(file).sha256}
    if not file.is_file():
        raise UsageError(f"the robot's model {file} is missing: restore it")
    parts = model_parts(file) if has_robot else [Path(os.path.normpath(file.absolute()))]
    root = Path(os.path.commonpath([part.parent for part in parts]))
    model = f"{ROBOT}/{parts[0].relative_to(root).as_posix()}"
    config = with_settings(config, [("env.robot.model_path", model)])
    if not has_robot:
        warn(f"the robot's files stay here: others need a model of their own at {model}")
        return config, f"Its model is **not** part of this repository: put it at `{model}`.", {}
    for part in dict.fromkeys([*parts, *_licences(root, parts[0].parent)]):
        package.add(f"{ROBOT}/{part.relative_to(root).as_posix()}", part)
    size = sum(part.stat().st_size for part in parts) / 1e6
    say(f"the robot's {len(parts)} files ({size:.1f} MB) go along; --no_robot leaves them out")
    return config, f"Its model is `{model}`, with all files that it needs. They have their makers' licence.", {}


def _licences(*folders: Path) -> Iterable[Path]:
    return (file for folder in folders for file in sorted(folder.glob("LICEN[CS]E*")) if file.is_file())


def _places(place: Place, model: Path, name: str) -> list[Path]:
    """Return possible files of a result, likeliest first."""
    folders = dict.fromkeys((place.folder, model.parent))
    others = (file for folder in folders for file in sorted(folder.glob(f"{Path(name).stem}_*.json")))
    return [place.file(name), *(folder / name for folder in folders), *others]


def _result(files: Sequence[Path], digest: str) -> tuple[Path, Mapping[str, Any]] | None:
    """Return the first file with a standard result of the checkpoint with this hash, and its content."""
    for file in files:
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            is_standard = (found["command"], found["set"], found["randomize"]) == (None, [], "none")
            if found["model_sha256"] == digest and is_standard and ("lines" in found or "axes" in found):
                return file, found
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _exported(place: Place, model: Path, digest: str) -> Path | None:
    """Return the exported policy of the checkpoint with this hash, which is part of its contract."""
    places = dict.fromkeys((place.file("export"), model.parent / "export", model.parent))
    found = [folder / POLICY for folder in places if (folder / POLICY).is_file()]
    for file in found:
        if digest.encode() in file.read_bytes():
            return file
    if found:
        warn(f"{found[0]} is of another checkpoint: it stays here (python biped_export.py makes it anew)")
    return None


def _film(evaluation: tuple[Path, Mapping[str, Any]] | None, run: RunDirectory, steps: int) -> Path | None:
    """Return the film of the report beside an evaluation, or that of the training after so many steps."""
    reports = []
    if evaluation is not None:
        file = evaluation[0]
        reports = [file.with_name(file.name.replace("eval", "report", 1)).with_suffix("") / "walk.mp4"]
    return next((film for film in (*reports, run.videos / f"walk_{steps}_steps.gif") if film.is_file()), None)


def _version() -> str:
    try:
        return metadata.version("biped-walking")
    except metadata.PackageNotFoundError:
        return "from a checkout"
