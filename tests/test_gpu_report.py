"""The report on a GPU: its parts do not end each other, and all of them run here, as small as can be."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from benchmarks import gpu_report
from benchmarks.gpu_report import Part, figures_of, first_pass, report, rows_of
from biped.base.errors import UsageError
from tests.processes import ROOT, run, start, until

CPU = torch.device("cpu")


def python(name: str, code: str, minutes: float = 10.0, **kwargs: object) -> Part:
    return Part(name, ("-c", code), minutes, **kwargs)


def test_each_part_goes_on_when_another_fails(tmp_path: Path) -> None:
    chosen = [
        python("fails", "print('so it ends'); raise SystemExit(5)"),
        python("leaves nothing", "pass", result=lambda: json.loads((tmp_path / "none.json").read_text())),
        python("leaves what is none", "pass", result=lambda: [][0]),
        python("works", "print('here')", result=lambda: [{"steps_per_s": 1234567.0, "name": "<b>"}]),
    ]
    outcomes = report(chosen, CPU, tmp_path / "report.json", tmp_path)
    became = {outcome.name: outcome.became for outcome in outcomes}
    assert became["fails"] == "exit code 5"
    assert became["leaves nothing"].startswith("no result (")
    assert became["leaves what is none"].startswith("no result (")
    assert became["works"] == "done"
    assert outcomes[0].said == ["so it ends"]
    record = json.loads((tmp_path / "report.json").read_text())
    assert [part["became"] for part in record["parts"]] == list(became.values())
    assert record["machine"]["device"] == "cpu"
    text = (tmp_path / "report.html").read_text()
    assert "1,234,567" in text
    assert "&lt;b&gt;" in text
    assert "http" not in text


def test_what_takes_too_long_is_ended_with_all_that_it_started_and_its_figures_are_kept(tmp_path: Path) -> None:
    child = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1e6)'])"
    code = f"import subprocess, sys, time; open(sys.argv[1], 'w').write(str({child}.pid)); time.sleep(1e6)"
    part = Part("hangs", ("-c", code, str(tmp_path / "pid")), 0.05, lambda: {"so far": 1})

    def until_it_has_begun(process: "subprocess.Popen[bytes]", seconds: float) -> int:
        until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        raise subprocess.TimeoutExpired(process.args, seconds)

    outcome = gpu_report.carry_out(part, tmp_path, until_it_has_begun)
    assert (outcome.became, outcome.result) == ("ended after 0.05 minutes", {"so far": 1})
    started = int((tmp_path / "pid").read_text())
    until(lambda: not psutil.pid_exists(started) or psutil.Process(started).status() == psutil.STATUS_ZOMBIE)
    with start([sys.executable, "-c", "import time; time.sleep(1e6)"]) as endless:
        with pytest.raises(subprocess.TimeoutExpired):
            gpu_report.wait_for(endless, 0.0)
        endless.kill()


def test_the_first_pass_is_found_with_its_time(tmp_path: Path) -> None:
    rows = [
        {"step": 100, "time/time_elapsed": 1.0, "time/fps": 90.0},
        {"step": 200, "time/time_elapsed": 2.0, "time/fps": 95.0, "gate/passed": 0.0, "gate/score": 0.4},
        {"step": 300, "time/time_elapsed": 3.0, "time/fps": 99.0, "gate/passed": 1.0, "gate/score": 1.0},
        {"step": 400, "time/time_elapsed": 4.0, "gate/passed": 1.0, "gate/score": 0.9},
    ]
    torn = '\n{"step": 500, "gate/pas'
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)) + torn)
    found = first_pass(tmp_path)
    assert (found["first_pass_steps"], found["first_pass_seconds"], found["steps_per_s"]) == (300, 3.0, 99.0)
    assert [row["steps"] for row in found["evaluations"]] == [200, 300, 400]
    (tmp_path / "metrics.jsonl").write_text(json.dumps(rows[1]) + "\n")
    assert first_pass(tmp_path)["first_pass_steps"] is None
    with pytest.raises(UsageError):
        first_pass(tmp_path / "none")


def test_rows_are_found_in_whatever_a_benchmark_writes() -> None:
    assert rows_of([{"a": 1}]) == [{"a": 1}]
    assert rows_of({"machine": {"cpu": "x"}, "rows": [{"a": 1}, {"a": 2}]}) == [{"a": 1}, {"a": 2}]
    assert rows_of({"fps": 3.0, "more": {"a": 1}, "none": []}) == []
    assert rows_of(None) == []
    assert figures_of({"fps": 3.0, "more": {"a": 1}, "rows": [{}]}) == {"fps": 3.0}
    assert figures_of([{"a": 1}]) == {}


def test_without_a_gpu_it_says_what_can_be_tried(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    ended = run([sys.executable, "benchmarks/gpu_report.py", "--out", str(tmp_path / "x.json")])
    assert ended.returncode == 1
    assert ended.stderr == "gpu_report.py: torch finds no CUDA device; --tiny tries the parts on the CPU\n"
    ended = run(
        [sys.executable, "benchmarks/gpu_report.py", "--tiny", "--part", "all", "--out", str(tmp_path / "x.json")]
    )
    assert ended.returncode == 2
    assert "there are environment, training, learner, profile, memory, tests" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_on_a_gpu_it_takes_half_an_hour_at_most(tmp_path: Path) -> None:
    grace = 2 * gpu_report._GRACE_S / 60
    assert sum(part.minutes + grace for part in gpu_report.parts(tmp_path, tiny=False)) <= 30


@pytest.mark.slow
def test_every_part_runs_on_the_cpu(tmp_path: Path) -> None:
    ended = run([sys.executable, "benchmarks/gpu_report.py", "--tiny", "--out", str(tmp_path / "tiny.json")], cwd=ROOT)
    assert ended.returncode == 0, ended.stdout
    parts = {part["name"]: part for part in json.loads((tmp_path / "tiny.json").read_text())["parts"]}
    assert {part["became"] for part in parts.values()} == {"done"}
    assert parts["environment"]["result"]["rows"][0]["num_envs"] == 4
    assert parts["learner"]["result"]["rows"][0]["steps_per_s"] > 0
    assert parts["memory"]["result"][0]["measured_mib"] > 0
    assert parts["training"]["result"]["evaluations"]
    assert parts["profile"]["result"]
    assert "profile" in (tmp_path / "tiny.html").read_text()
