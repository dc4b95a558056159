"""One run, or several side by side, as a self-contained page with embedded pictures and video."""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jinja2

from biped.base.command_line import run_flags, typed, with_a_name
from biped.base.errors import UsageError, disk_error
from biped.base.files import write_whole
from biped.config.run import Config, Presets
from biped.config.serial import (
    differences,
    flatten,
    to_dict,
    to_json,
)
from biped.runs.directory import RunDirectory

TEMPLATE, STYLE = Path(__file__).with_name("page.html"), Path(__file__).with_name("page.css")
"""The template of the page, and how every page looks."""
_KINDS = {".png": "image/png", ".mp4": "video/mp4", ".gif": "image/gif"}


@dataclass(frozen=True)
class Subject:
    """The data of one run on a page."""

    name: str
    """Name of the run."""
    config: Config
    """Its configuration."""
    evaluation: Mapping[str, Any]
    """Content of eval.json."""
    starts: Sequence[Mapping[str, Any]]
    """Every training process of the run; see `biped.runs.launches`."""
    overview: Path | None = None
    """Picture of its training curves."""
    robustness: Mapping[str, Any] | None = None
    """Content of robustness.json."""

    @classmethod
    def of(
        cls,
        run: RunDirectory,
        evaluation: Mapping[str, Any] | None = None,
        robustness: Sequence[Path] | None = None,
    ) -> "Subject":
        """Collect the data from a run's directory.

        Args:
            run: the run.
            evaluation: content for eval.json; None: read the file.
            robustness: possible paths of the robustness report; None: robustness.json in the directory.

        Raises:
            UsageError: the configuration or the evaluation is missing.
        """
        found = evaluation or _evaluation(run.path / "eval.json")
        if found is None:
            command = typed("biped_eval.py", *run_flags(run.path))
            others = sorted(file.name for file in run.path.glob("eval_*.json"))
            others = [str(run.path / name) for name in others]
            raise UsageError(
                f"{run.path} holds no eval.json: run `{command}` first" + (f", or name {others[0]}" if others else "")
            )
        files = (run.path / "robustness.json",) if robustness is None else robustness
        return cls(
            name=run.path.name,
            config=run.read_config(),
            evaluation=found,
            starts=run.read_launches(),
            overview=run.overview if run.overview.is_file() else None,
            robustness=next(filter(None, map(_read, files)), None),
        )

    @classmethod
    def of_file(cls, file: Path) -> "Subject":
        """Collect the data from a result other than eval.json and from its folder.

        Raises:
            UsageError: the file is not an evaluation, or has no configuration beside it.
        """
        found = _evaluation(file)
        if found is None:
            raise UsageError(f"{file} is no evaluation: name a result of biped_eval.py, such as logs/walk/eval.json")
        run = RunDirectory(with_a_name(file.parent))
        return replace(cls.of(run, found), name=f"{run.path.name}/{file.stem}")


def _evaluation(file: Path) -> dict[str, Any] | None:
    found = _read(file)
    return found if found is not None and "lines" in found else None


def _read(file: Path) -> dict[str, Any] | None:
    """Return a JSON object; None if the file is missing or invalid."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_report(
    subjects: Sequence[Subject],
    out: Path,
    *,
    plots: Mapping[str, Path] | None = None,
    video: Path | None = None,
    video_missing: str = "",
    presets: Presets = MappingProxyType({}),
) -> None:
    """Write the page.

    Args:
        subjects: the runs, side by side.
        out: the HTML file; it appears only when it is complete.
        plots: pictures of one evaluation, by title.
        video: the evaluation's video.
        video_missing: why there is no video.
        presets: presets by name, to compare a single run with.

    Raises:
        MachineError: the disk refuses the write.
    """
    first, several = subjects[0], len(subjects) > 1
    compared, names = _differences(subjects, presets)
    try:
        page = rendered(
            TEMPLATE,
            title=" and ".join(subject.name for subject in subjects),
            subtitle=_subtitle(first) if not several else f"{len(subjects)} runs side by side",
            runs=[_as_run(subject) for subject in subjects],
            gate=list(gate_rows(subjects)),
            robustness=None if several else _as_robustness(first.robustness),
            plots=[{"title": title, "data": embedded(file)} for title, file in (plots or {}).items()],
            video=embedded(video) if video else None,
            video_missing=video_missing,
            differences=compared,
            difference_names=names,
            versions=_versions(subjects),
        )
        write_whole(out, page)
    except OSError as error:
        raise disk_error(error.filename or out, error, "--report") from error


def rendered(template: Path, **values: Any) -> bytes:
    """Return a page from its template.

    Raises:
        OSError: the template cannot be read.
    """
    folder = jinja2.FileSystemLoader(template.parent)
    environment = jinja2.Environment(loader=folder, autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.get_template(template.name).render(style=STYLE.read_text(encoding="utf-8"), **values)
    return page.encode(errors="replace")  # file names may not encode


def embedded(file: Path) -> str:
    """Return a picture or a video as a data URL.

    Raises:
        OSError: the file cannot be read.
    """
    return f"data:{_KINDS[file.suffix]};base64,{base64.b64encode(file.read_bytes()).decode()}"


def gate_rows(subjects: Sequence[Subject]) -> Iterator[dict[str, Any]]:
    """Yield one row per figure that any run has: its name, one cell per run, its bar, and whether all pass."""
    names = dict.fromkeys(name for subject in subjects for name in subject.evaluation["lines"])
    for name in names:
        lines = [subject.evaluation["lines"].get(name) for subject in subjects]
        known = [line for line in lines if line is not None]
        yield {
            "name": name,
            "cells": [_cell(line) for line in lines],
            "bar": bar(known[0]),
            "passed": all(line["passed"] for line in known),
        }


def _cell(line: Mapping[str, Any] | None) -> dict[str, str]:
    if line is None:
        return {"text": "–", "mark": ""}
    value = "not measured" if line["value"] is None else f"{line['value']:.4f}"
    judged = line["low"] is not None or line["high"] is not None
    return {"text": value, "mark": "" if not judged else "pass" if line["passed"] else "fail"}


def bar(line: Mapping[str, Any]) -> str:
    """Return the bar of a line of eval.json as text."""
    low, high, unit = line["low"], line["high"], "" if line["unit"] == "1" else f" {line['unit']}"
    if low is None and high is None:
        return f"reported{unit}"
    if low is None:
        return f"at most {high:g}{unit}"
    return f"at least {low:g}{unit}" if high is None else f"{low:g} to {high:g}{unit}"


def comparison_table(subjects: Sequence[Subject]) -> str:
    """Return the gate of several runs side by side as a text table; * marks failures."""
    width = max(12, *(len(subject.name) + 2 for subject in subjects))
    lines = [f"{'figure':30s}" + "".join(f"{subject.name:>{width}s}" for subject in subjects) + "  bar"]
    for row in gate_rows(subjects):
        cells = "".join(f"{cell['text'] + ('*' if cell['mark'] == 'fail' else ' '):>{width}s}" for cell in row["cells"])
        lines.append(f"{row['name']:30s}{cells}  {row['bar']}")
    scores = "".join(f"{subject.evaluation['score']:>{width - 1}.3f} " for subject in subjects)
    return "\n".join([*lines, f"{'score':30s}{scores}"])


def _subtitle(subject: Subject) -> str:
    if not subject.starts:
        return f"seed {subject.config.train.seed}"
    last = subject.starts[-1]
    commit = f"{last['code']['commit'] or 'unknown':.10}" + (" and changes" if last["code"]["is_dirty"] else "")
    return f"seed {subject.config.train.seed}, trained {last['time']} with commit {commit} on {last['machine']['cpu']}"


def _as_run(subject: Subject) -> dict[str, Any]:
    evaluation = subject.evaluation
    return {
        "name": subject.name,
        "passed": evaluation["passed"],
        "score": evaluation["score"],
        "model": evaluation["model"] or evaluation["agent"],
        "sim": evaluation["sim"],
        "episodes": max((line["episodes"] for line in evaluation["lines"].values()), default=0),
        "overview": embedded(subject.overview) if subject.overview else None,
        "command": "python " + " ".join(subject.starts[0]["command"]) if subject.starts else "",
        "preset": subject.config.preset,
        "config": to_json(subject.config),
    }


def _as_robustness(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "sim": found["sim"],
        "episodes": found["episodes"],
        "half": found["half_survive_push_m_s"],
        "axes": [
            {"name": name, "unit": axis["unit"], "levels": list(zip(axis["levels"], axis["survival"], strict=True))}
            for name, axis in found["axes"].items()
        ],
    }


def _differences(subjects: Sequence[Subject], presets: Presets) -> tuple[list[tuple[str, list[Any]]], list[str]]:
    """Return the settings that differ between the runs or, for a single run, from its preset."""
    if len(subjects) == 1:
        config = subjects[0].config
        changed = differences(presets[config.preset](), config) if config.preset in presets else {}
        return [(path, list(values)) for path, values in changed.items()], ["preset", "run"]
    flat = [flatten(to_dict(subject.config)) for subject in subjects]
    paths = [path for path in flat[0] if any(other.get(path) != flat[0][path] for other in flat[1:])]
    return [(path, [values.get(path) for values in flat]) for path in paths], [subject.name for subject in subjects]


def _versions(subjects: Sequence[Subject]) -> list[tuple[str, list[str]]]:
    last = [subject.starts[-1] if subject.starts else None for subject in subjects]
    names = dict.fromkeys(name for start in last if start for name in start["versions"])
    rows = [(name, [start["versions"].get(name) or "–" if start else "–" for start in last]) for name in names]
    machine = [
        f"{start['machine']['cpu']}, GPU {start['machine']['gpu'] or 'none'}" if start else "–" for start in last
    ]
    return [*rows, ("machine", machine)]
