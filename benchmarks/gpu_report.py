"""Tests, speed, memory and a profile of a GPU, in one run of half an hour at most: `make gpu-report`.

    python benchmarks/gpu_report.py              on the GPU
    python benchmarks/gpu_report.py --tiny       the same parts, as small as can be and on the CPU: tries this program

The parts are steps per second of the environment, a training to its first pass of the walking gate, the learner beside
others, a profile, the memory beside its estimate, and the tests marked `gpu`. Each is a process of its own with its own
limit; where one fails or takes too long, the others go on, and what it had measured until then stays. Writes one JSON
and one page, which can be sent in: an issue at the project takes both.
"""

import argparse
import contextlib
import html
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import describe_machine, record_file
from biped.base.command_line import path_name
from biped.base.errors import UsageError
from biped.base.files import REPOSITORY, write_whole
from biped.runs.directory import RunDirectory

_TAIL = 30
"""Lines of what a part printed that the report keeps."""
_GRACE_S = 10.0
"""How long a part that is ended may take to save (s)."""
_SHOWN = 40
"""Rows of a table on the page."""


@dataclass(frozen=True)
class Part:
    """One measurement."""

    name: str
    """What it is called."""
    command: tuple[str, ...]
    """Words of its process, after Python's name."""
    minutes: float
    """It is ended after this time (min)."""
    result: Callable[[], Any] = field(default=lambda: None, compare=False)
    """Reads what it measured, once it is over.

    Raises:
        OSError, ValueError, LookupError, TypeError, UsageError: it left nothing that can be read.
    """


@dataclass(frozen=True)
class Outcome:
    """What became of a part."""

    name: str
    """The part's name."""
    command: str
    """Its command."""
    became: str
    """`done`, or in a few words why not."""
    seconds: float
    """How long it took (s)."""
    result: Any
    """What it measured, as builtin types; None if nothing."""
    said: list[str]
    """The last lines that it printed."""


def parts(folder: Path, *, tiny: bool) -> list[Part]:
    """Return all parts, most important first.

    Args:
        folder: where they write.
        tiny: as small as can be, on the CPU.
    """

    def written(name: str) -> tuple[str, ...]:
        return ("--out", str(folder / f"{name}.json"))

    def read(name: str) -> Callable[[], Any]:
        return lambda: json.loads((folder / f"{name}.json").read_text())

    logs = ("--log_dir", str(folder / "logs"))
    small = ("--preset", "smoke", "--sim", "mujoco", "--device", "cpu", "--set", "train.draw_overview=false")
    fast = ("--preset", "gpu-fast")
    throughput = ("--sizes", "4") if tiny else ("--gpu", "--sizes", "1024", "4096", "16384")
    learner = ("--tiny",) if tiny else ("--gpu", "--rounds", "5")
    memory = ("--cases", "smoke", "4") if tiny else ("--gpu",)
    train = (*small, "--total_timesteps", "512") if tiny else (*fast, "--stop_when_walking", "1")
    profiled = (*small, "--total_timesteps", "512") if tiny else (*fast, "--total_timesteps", "1000000")
    walk, profile = folder / "logs" / "walk", folder / "logs" / "profiled" / "profile" / "table.json"
    return [
        Part("environment", ("benchmarks/throughput.py", *throughput, *written("environment")), 5, read("environment")),
        Part("training", ("biped_train.py", "-e", "walk", *train, *logs), 8, lambda: first_pass(walk)),
        Part("learner", ("benchmarks/learner.py", *learner, *written("learner")), 5, read("learner")),
        Part(
            "profile",
            ("biped_train.py", "-e", "profiled", *profiled, "--profile", "1" if tiny else "5", *logs),
            2,
            lambda: json.loads(profile.read_text()),
        ),
        Part("memory", ("benchmarks/memory.py", *memory, *written("memory")), 4, read("memory")),
        Part("tests", ("-m", "pytest", "-m", "gpu", "tests/test_gpu.py"), 3.5),
    ]


def first_pass(run: Path) -> dict[str, Any]:
    """Return when a training first passed the walking gate, how fast it was, and what its evaluations said.

    Raises:
        UsageError: there is no such training, or it has written nothing.
        KeyError: it has not been evaluated.
    """
    curves = RunDirectory(run).read_metrics()
    passed, score, elapsed = curves["gate/passed"], curves["gate/score"], curves["time/time_elapsed"]
    seconds = elapsed.values[np.searchsorted(elapsed.steps, passed.steps, side="right").clip(1) - 1]
    columns = {"steps": passed.steps, "seconds": seconds, "score": score.values, "passed": passed.values}
    lists = [column.tolist() for column in columns.values()]
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]
    first = next((row for row in rows if row["passed"]), {"steps": None, "seconds": None})
    return {
        "first_pass_steps": first["steps"],
        "first_pass_seconds": first["seconds"],
        "steps_per_s": float(curves["time/fps"].values[-1]),
        "evaluations": rows,
    }


def wait_for(process: "subprocess.Popen[Any]", seconds: float) -> int:
    """Wait for a process and return its exit code.

    Raises:
        subprocess.TimeoutExpired: it goes on after so many seconds.
    """
    return process.wait(seconds)


def carry_out(part: Part, folder: Path, wait: Callable[["subprocess.Popen[Any]", float], int] = wait_for) -> Outcome:
    """Run a part to its end, or to its limit; it never raises for what the part does.

    Args:
        part: the part.
        folder: where what it says goes.
        wait: waits for a process for so many seconds; see `wait_for`.
    """
    log = folder / f"{part.name}.log"
    begun, became = time.monotonic(), "done"
    with (
        log.open("w") as said,
        subprocess.Popen(
            [sys.executable, *part.command],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            if code := wait(process, 60 * part.minutes):
                became = f"exit code {code}"
        except subprocess.TimeoutExpired:
            became = f"ended after {part.minutes:g} minutes"
        finally:
            _end(process)
    seconds, result = time.monotonic() - begun, None
    try:
        result = part.result()
    except (OSError, ValueError, LookupError, TypeError, UsageError) as error:
        became = f"no result ({error})" if became == "done" else became
    lines = log.read_text(errors="replace").splitlines()[-_TAIL:]
    return Outcome(part.name, " ".join(["python", *part.command]), became, round(seconds, 1), result, lines)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it has started; a training gets the time to save."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)


def rows_of(result: Any) -> list[Mapping[str, Any]]:
    """Return a result's rows: the result itself, or the first list of rows in it."""
    if isinstance(result, Mapping):
        lists = (value for value in result.values() if isinstance(value, list) and value)
        return next((rows for rows in map(rows_of, lists) if rows), [])
    return [row for row in result if isinstance(row, Mapping)] if isinstance(result, list) else []


def figures_of(result: Any) -> dict[str, Any]:
    """Return a result's single figures."""
    if not isinstance(result, Mapping):
        return {}
    return {name: value for name, value in result.items() if not isinstance(value, Mapping | list)}


def page(machine: Mapping[str, Any], outcomes: Sequence[Outcome]) -> str:
    """Return the report as a page that fetches nothing."""

    def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        names = list(dict.fromkeys(name for row in rows for name in row))
        if not names:
            return
        yield f"<table><tr>{''.join(f'<th>{html.escape(name)}</th>' for name in names)}</tr>"
        for row in rows[:_SHOWN]:
            yield f"<tr>{''.join(f'<td>{html.escape(_text(row.get(name)))}</td>' for name in names)}</tr>"
        yield "</table>"

    def body() -> Iterator[str]:
        yield "<h1>What this GPU does</h1>"
        yield from table([{name: value for name, value in machine.items() if not isinstance(value, Mapping)}])
        yield from table([machine.get("versions", {})])
        for outcome in outcomes:
            mark = "good" if outcome.became == "done" else "bad"
            yield f"<h2>{html.escape(outcome.name)} <span class={mark}>{html.escape(outcome.became)}</span></h2>"
            yield f"<p><code>{html.escape(outcome.command)}</code>, {outcome.seconds:.0f} s</p>"
            yield from table([figures_of(outcome.result)])
            yield from table(rows_of(outcome.result))
            said = html.escape("\n".join(outcome.said))
            yield f"<details><summary>what it said</summary><pre>{said}</pre></details>"

    return _PAGE.replace("BODY", "\n".join(body()))


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return "" if value is None else str(value)


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>What this GPU does</title><style>
body { margin: 0 auto; padding: 1.5rem; max-width: 72rem; font: 15px/1.5 system-ui, sans-serif; color: #1d2433; }
h2 { margin: 2rem 0 .4rem; border-bottom: 1px solid #dde2ea; } h2 span { font-size: .75em; }
.good { color: #1a7f37; } .bad { color: #cf222e; }
table { display: block; overflow-x: auto; border-collapse: collapse; font-size: .85rem; margin: .5rem 0; }
th, td { padding: .2rem .6rem; border-bottom: 1px solid #dde2ea; text-align: left; } th { background: #f5f7fa; }
pre { overflow-x: auto; background: #f5f7fa; padding: .6rem; font-size: .8rem; }
</style></head><body>
BODY
</body></html>
"""


def report(chosen: Sequence[Part], device: torch.device, out: Path, folder: Path) -> list[Outcome]:
    """Carry out parts one after another; the JSON and the page are written after each, so that none is lost."""
    machine, outcomes = describe_machine(device), []
    for part in chosen:
        print(f"{part.name}: at most {part.minutes:g} minutes ...", flush=True)
        outcomes.append(carry_out(part, folder))
        print(f"{part.name}: {outcomes[-1].became}, {outcomes[-1].seconds:.0f} s", flush=True)
        record = {"machine": machine, "parts": [asdict(outcome) for outcome in outcomes]}
        write_whole(out, (json.dumps(record, indent=2) + "\n").encode())
        write_whole(out.with_suffix(".html"), page(machine, outcomes).encode())
    print(f"written to {out} and {out.with_suffix('.html')}")
    return outcomes


def main() -> int:
    """Carry out the parts that are asked for; return 0 if all are done, otherwise 3."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="as small as can be, on the CPU: tries this program")
    parser.add_argument("--part", action="append", default=[], metavar="NAME", help="only this one, repeatable")
    parser.add_argument("--out", type=path_name, metavar="FILE", help="path of the JSON (default: logs/benchmarks)")
    args = parser.parse_args()
    if not args.tiny and not torch.cuda.is_available():
        print("gpu_report.py: torch finds no CUDA device; --tiny tries the parts on the CPU", file=sys.stderr)
        return 1
    device = torch.device("cpu" if args.tiny else "cuda")
    out = record_file(args.out, f"gpu_report_{'tiny_' if args.tiny else ''}{time.strftime('%Y%m%d_%H%M%S')}")
    folder = out.parent / f"{out.stem}_parts"
    everything = parts(folder, tiny=args.tiny)
    names = [part.name for part in everything]
    if strange := set(args.part) - set(names):
        print(f"gpu_report.py: no part {sorted(strange)[0]}: there are {', '.join(names)}", file=sys.stderr)
        return 2
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = report([part for part in everything if part.name in (args.part or names)], device, out, folder)
    return 0 if all(outcome.became == "done" for outcome in outcomes) else 3


if __name__ == "__main__":
    sys.exit(main())
