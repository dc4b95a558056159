"""The page of a run, and runs side by side: real evaluations, read back as a browser would."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

import biped_eval
from biped.base.command_line import typed
from biped.runs.directory import RunDirectory
from biped.view.page import Subject, bar, comparison_table, gate_rows, write_report
from biped_config import PRESETS
from tests.conftest import ROOT

SHIPPED = ROOT / "assets" / "policies"
QUICK = ["--sim", "mujoco", "--episodes", "8", "--set", "env.termination.episode_s=1.0"]
TAIL = "_mujoco_8_episodes_episode_s_1.0"
"""What names of files say of it."""


class Page(HTMLParser):
    """What a page shows, and what it would fetch."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.text, self.sources, self.open_tags = "", [], []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value for name, value in attrs if name in ("src", "href") and value]
        if tag not in ("meta", "img", "link", "br"):
            self.open_tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags.pop() == tag, "every element is closed where it should be"

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with the shipped policy, its evaluation and a robustness report."""
    folder = tmp_path / "walk"
    folder.mkdir()
    for name in ("config.json", "eval.json"):
        shutil.copy(SHIPPED / name, folder)
    shutil.copy(SHIPPED / "biped_walk.zip", folder / "biped_model_100_steps.zip")
    axes = {"push": {"unit": "m/s", "levels": [0.0, 0.5], "survival": [1.0, 0.5]}}
    content = {"sim": "mujoco", "episodes": 32, "axes": axes, "half_survive_push_m_s": 0.5}
    (folder / "robustness.json").write_text(json.dumps(content))
    return folder


def test_a_run_is_one_page_that_fetches_nothing(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["-e", "walk", "--log_dir", str(run.parent), "--report", "--video_robots", "1", "--video_seconds", "0.4"]
    assert biped_eval.main([*words, *QUICK]) in (0, 3)
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {run / f'report{TAIL}.html'}"
    page = Page(run / f"report{TAIL}.html")
    assert not page.open_tags
    assert all(source.startswith("data:") for source in page.sources)
    kinds = [source.partition(";")[0] for source in page.sources]
    assert kinds.count("data:image/png") == 6
    assert {"gait.png", "joints.png", "velocity.png", "torque.png", "rewards.png"} <= {
        file.name for file in (run / f"report{TAIL}").iterdir()
    }
    assert ("data:video/mp4" in kinds) or "No film:" in page.text
    result = json.loads((run / f"eval{TAIL}.json").read_text())
    assert f"walking gate {'passed' if result['passed'] else 'failed'}" in page.text
    for name, line in result["lines"].items():
        assert name in page.text
        assert line["value"] is None or f"{line['value']:.4f}" in page.text
    assert "0.5: 50%" in page.text
    assert "Half of the episodes survive pushes of 0.50 m/s." in page.text
    assert '"episode_s": 20.0' in page.text, "the whole configuration of the run"
    assert (run / f"report{TAIL}.html").stat().st_size < 15e6


def test_failures_differences_and_names_are_shown_as_text(run: Path) -> None:
    evaluation = json.loads((run / "eval.json").read_text())
    line = evaluation["lines"]["error_lin_vel_x_m_s"]
    line |= {"value": 0.2, "passed": False}
    evaluation |= {"passed": False, "model": "<b>mine</b>"}
    config = json.loads((run / "config.json").read_text())
    config["env"]["gait"]["frequency_hz"] = 1.7
    (run / "config.json").write_text(json.dumps(config))
    out = run / "page.html"
    write_report([Subject.of(RunDirectory(run), evaluation)], out, presets=PRESETS)
    html = out.read_text()
    assert re.search(r'<tr class="fail"><td>error_lin_vel_x_m_s</td>\s*<td class="number fail">0.2000</td>', html)
    assert html.count('<tr class="fail">') == 1
    assert "&lt;b&gt;mine&lt;/b&gt;" in html
    assert "<b>mine" not in html
    assert re.search(r"env.gait.frequency_hz</code></td><td><code>1.4</code></td><td><code>1.7</code>", html)


@pytest.mark.parametrize(
    ("low", "high", "unit", "words"),
    [
        (None, None, "1", "reported"),
        (None, 0.08, "m/s", "at most 0.08 m/s"),
        (0.97, None, "1", "at least 0.97"),
        (0.5, 0.8, "1", "0.5 to 0.8"),
    ],
)
def test_bars_are_said_in_words(low, high, unit, words) -> None:
    assert bar({"low": low, "high": high, "unit": unit}) == words


def another(run: Path, name: str) -> Path:
    other = run.with_name(name)
    shutil.copytree(run, other)
    evaluation = json.loads((other / "eval.json").read_text())
    evaluation["lines"]["survival"] |= {"value": 0.5, "passed": False}
    del evaluation["lines"]["alternation"]
    evaluation |= {"passed": False, "score": 0.75}
    (other / "eval.json").write_text(json.dumps(evaluation))
    config = json.loads((other / "config.json").read_text())
    config["train"]["seed"] = 77
    (other / "config.json").write_text(json.dumps(config))
    return other


def test_runs_are_compared_line_by_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    another(run, "other")
    page = run.parent / "compare.html"
    words = ["--compare", "walk", "other", "--log_dir", str(run.parent), "--report", str(page)]
    assert biped_eval.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["figure", "walk", "other", "bar"]
    survival = json.loads((SHIPPED / "eval.json").read_text())["lines"]["survival"]["value"]
    assert next(line for line in lines if line.startswith("survival")).split()[1:3] == [f"{survival:.4f}", "0.5000*"]
    assert next(line for line in lines if line.startswith("alternation")).split()[2] == "–"
    assert next(line for line in lines if line.startswith("score")).split()[2] == "0.750"
    read = Page(page)
    assert not read.open_tags
    assert "2 runs side by side" in read.text
    assert "train.seed" in read.text
    assert "77" in read.text
    rows = list(gate_rows([Subject.of(RunDirectory(run.parent / name)) for name in ("walk", "other")]))
    assert [row["name"] for row in rows if not row["passed"]] == ["survival"]


def test_a_run_is_compared_by_its_folder_too(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert biped_eval.main(["--compare", str(run), str(SHIPPED)]) == 0
    assert capsys.readouterr().out.split()[:3] == ["figure", "walk", "policies"]


def test_a_table_of_one_run_is_a_table(run: Path) -> None:
    assert "score" in comparison_table([Subject.of(RunDirectory(run))])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--agent", "zero", "--report"], "leave out --agent"),
        (["-e", "walk", "--report", "page.pdf"], "not an .html file"),
        (["--compare", "walk", "nobody"], "nobody"),
        (["--compare", "walk", "--report"], "name the page"),
        (["--compare", "walk", "--report", "page.pdf"], "not an .html file"),
        (["--compare", "no/such/folder"], "no/such/folder"),
        (["--compare", "walk", "--video", "walk.mp4"], "with --log_dir and --report only"),
        (["-e", "walk", "--robustness", "--video", "walk.mp4"], "leave out --command, --picture, --video"),
        (["-e", "walk", "--web", "--report"], "do not evaluate"),
    ],
)
def test_what_cannot_be_reported_is_named(run: Path, words, says, capsys) -> None:
    assert biped_eval.main([*words, "--log_dir", str(run.parent)]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1


def test_a_run_that_was_never_evaluated_is_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "eval.json").unlink()
    compare = ["--compare", "walk", "--log_dir", str(run.parent)]
    assert biped_eval.main(compare) == 2
    hint = typed("biped_eval.py", "-e", "walk", "--log_dir", str(run.parent))
    assert f"holds no eval.json: run `{hint}` first\n" in capsys.readouterr().err
    (run / "eval_mujoco.json").write_bytes((SHIPPED / "eval.json").read_bytes())
    assert biped_eval.main(compare) == 2
    assert f"first, or name {run / 'eval_mujoco.json'}\n" in capsys.readouterr().err
    assert biped_eval.main(["--compare", str(run / "eval_mujoco.json")]) == 0
    assert capsys.readouterr().out.split()[:2] == ["figure", "walk/eval_mujoco"]
