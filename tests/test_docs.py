"""The documentation says what the code does: tables, numbers, links, commands, and lines that the program prints."""

import argparse
import ast
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import biped_eval
import biped_export
import biped_run
import biped_sweep
from biped.config.run import Config
from biped.config.serial import flatten, to_dict
from biped.config.settings import parse_setting, with_settings
from biped.config.task import RewardWeights
from biped.deploy.controller import OnnxPolicy
from biped.eval import figures
from biped.eval.gate import GATE, Line
from biped.mdp.observations import ObservationLayout
from biped.mdp.rewards import TERMS
from biped.runs.address import Address
from biped.train.metrics import METRICS
from biped.train.space import check_space
from biped_config import PRESETS
from biped_train import as_request, make_parser
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md"]
PAGES += sorted([*(ROOT / "docs").rglob("*.md"), *(ROOT / "assets").rglob("README.md")])
WITH_COMMANDS = [page for page in PAGES if page.parent in (ROOT, ROOT / "docs")]
ON_TROUBLE = sorted((ROOT / "docs").glob("troubleshooting*.md"))
BARS_IN = ["evaluation.md", "training.md", "experiments/robust_policy.md"]
"""Pages of docs that have a table of the gate's bars."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_SET_TO = re.compile(r"`((?:env|policy|ppo|train)\.[a-z0-9_.]+)` = (-?[\d.]*\d)")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def table(page: Path, *columns: str) -> list[dict[str, str]]:
    """Return the rows of the first table of a page whose head has these columns, by column."""
    lines = page.read_text().splitlines()
    for number, line in enumerate(lines):
        head = cells(line)
        if set(columns) <= set(head):
            rows = []
            for row in lines[number + 2 :]:
                if not row.startswith("|"):
                    break
                rows.append(dict(zip(head, cells(row), strict=True)))
            return rows
    raise AssertionError(f"{page} has no table with the columns {columns}")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in _FENCE.findall(page.read_text()) if kind == language]


# Rewards


def test_the_page_on_rewards_has_every_term_with_its_weight() -> None:
    rows = table(ROOT / "docs" / "rewards.md", "term", "formula", "weight")
    assert [row["term"].strip("`") for row in rows] == list(TERMS)
    weights = {item.name: getattr(RewardWeights(), item.name) for item in fields(RewardWeights)}
    assert {row["term"].strip("`"): float(row["weight"]) for row in rows} == weights
    assert all(row["formula"] and row["what it is for"] for row in rows)


def test_the_page_on_rewards_has_every_cause_of_an_end() -> None:
    rows = table(ROOT / "docs" / "rewards.md", "cause", "when")
    assert {f"terminations/{row['cause'].strip('`')}" for row in rows} == {
        name for name in METRICS if name.startswith("terminations/")
    }


# The gate


def bar_of(line: Line) -> tuple[float, ...]:
    return tuple(bound for bound in (line.low, line.high) if abs(bound) != float("inf"))


def kind_of_bar(line: Line) -> str:
    return {0: "reported", 2: "to"}.get(len(bar_of(line)), "at least" if line.low in bar_of(line) else "at most")


@pytest.mark.parametrize("page", BARS_IN)
def test_tables_of_the_gate_have_its_bars(page: str) -> None:
    rows = table(ROOT / "docs" / page, "figure", "bar")
    assert [row["figure"].strip("`") for row in rows] == [line.name for line in GATE]
    for row, line in zip(rows, GATE, strict=True):
        assert tuple(float(number) for number in re.findall(r"[\d.]+", row["bar"])) == bar_of(line), line.name
        assert kind_of_bar(line) in row["bar"], line.name


def test_the_page_on_the_gate_says_which_episodes_count_and_in_what_unit() -> None:
    kinds: dict[Any, str] = {figures.walking: "walking", figures.turning: "turning", figures.standing: "standing"}
    rows = table(ROOT / "docs" / "evaluation.md", "figure", "episodes", "unit")
    said = {row["figure"].strip("`"): (row["episodes"], row["unit"]) for row in rows}
    assert said == {line.name: (kinds.get(line.of, "all"), line.unit) for line in GATE}


def test_the_page_on_the_gate_has_every_exit_code_and_flag() -> None:
    page = (ROOT / "docs" / "evaluation.md").read_text()
    codes = {row["code"] for row in table(ROOT / "docs" / "evaluation.md", "code", "meaning")}
    assert str(biped_eval.GATE_FAILED) in codes
    flags = {action.option_strings[-1] for action in biped_eval.make_parser()._actions} - {"--help", "--exp_name"}
    assert {flag for flag in flags if flag not in page} == set()


# Numbers and names


def defaults_said() -> list[Any]:
    return [
        pytest.param(path, float(value), id=f"{name_of(page)}-{path}")
        for page in PAGES
        for path, value in _SET_TO.findall(page.read_text())
    ]


@pytest.mark.parametrize(("path", "value"), defaults_said())
def test_a_field_that_a_page_gives_a_value_has_it(path: str, value: float) -> None:
    assert flatten(to_dict(Config()))[path] == value


@pytest.mark.parametrize(
    "page", ["rewards.md", "evaluation.md", "architecture.md", *[page.name for page in ON_TROUBLE]]
)
def test_metrics_and_fields_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    known = flatten(to_dict(Config()))
    groups = {path[: dot.start()] for path in known for dot in re.finditer(r"\.", path)}
    for name in re.findall(r"`((?:rewards|gate|eval|episode|rollout|terminations|curriculum)/[a-z_]+)`", text):
        assert name in METRICS, name
    for path in re.findall(r"`((?:env|policy|ppo|train)\.[a-z0-9_.]+)`", text):
        assert path in known or path in groups, path


def test_the_page_on_the_architecture_has_the_sizes_of_the_default_robot() -> None:
    page, env = (ROOT / "docs" / "architecture.md").read_text(), Config().env
    assert f"(`num_envs`, {len(env.robot.joint_names)})" in page
    assert f"{ObservationLayout.build(env).width} numbers" in page
    picture = (ROOT / "docs" / "architecture.svg").read_text()
    policy = Config().policy
    assert f"MLP {'-'.join(map(str, policy.hidden_sizes))}<" in picture
    assert f"LSTM {policy.lstm_layers} × {policy.lstm_hidden_size}<" in picture


# Links


def slug(heading: str) -> str:
    """Return the anchor that GitHub gives a heading: lower case, punctuation left out, spaces as hyphens."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings; one that comes again is numbered. Other files have none."""
    found: set[str] = set()
    if page.suffix != ".md":
        return found
    for heading in re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE):
        anchor, number = slug(heading), 0
        while (numbered := f"{anchor}-{number}" if number else anchor) in found:
            number += 1
        found.add(numbered)
    return found


def broken_links(page: Path, text: str) -> list[str]:
    """Return the relative links of a page that lead nowhere."""
    prose = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", text))
    broken = []
    for link in _LINK.findall(prose):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        is_there = target.exists() and target.is_relative_to(ROOT)
        if not is_there or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_and_picture_leads_to_something(page: Path) -> None:
    assert broken_links(page, page.read_text()) == []


def test_the_test_of_links_would_see_a_broken_one() -> None:
    text = "[a](docs/nothing.md) [b](docs/learner.md#nowhere) ![c](docs/none.png) [d](#nowhere) "
    text += "[e](https://x.org) `[f](g)` [g](docs/learner.md#what-is-new)"
    assert broken_links(ROOT / "README.md", text) == [
        "docs/nothing.md",
        "docs/learner.md#nowhere",
        "docs/none.png",
        "#nowhere",
    ]
    assert slug("Weights & Biases") == "weights--biases"
    assert slug("`make train` on a CPU") == "make-train-on-a-cpu"


# Commands


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of every `python biped_*.py ...` in a shell script; variables of a loop count as 1."""
    for line in text.replace("\\\n", " ").splitlines():
        line = re.sub(r'"?\$\{[^}]*\}"?', "", line)
        line = re.sub(r"\$\w+", "1", line)
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
        lexer.whitespace_split = True
        command: list[str] = []
        for word in [*lexer, ";"]:
            if word.strip(";&|"):
                command.append(word)
                continue
            called = command[command.index("python") + 1 :] if "python" in command else []
            if called and re.fullmatch(r"biped_\w+\.py", called[0]):
                yield called
            command = []


def check_train(words: list[str]) -> None:
    args = make_parser().parse_args(words)
    if args.robot is not None and not (ROOT / args.robot).exists():
        args.robot = None  # the reader's own
    preset = args.preset if args.preset not in (None, "auto") else "cpu"
    with_settings(PRESETS[preset](), as_request(args).settings)


def check_eval(words: list[str]) -> None:
    args = biped_eval.make_parser().parse_args(words)
    with_settings(PRESETS["cpu"](), [parse_setting(text) for text in args.set])


def check_export(words: list[str]) -> None:
    biped_export.make_parser().parse_args(words)


def check_sweep(words: list[str]) -> None:
    args = biped_sweep.make_parser().parse_args(words)
    if args.population is not None:
        request = biped_sweep.as_population(args)
    elif args.seeds is not None:
        request = biped_sweep.as_seeds(args)
    else:
        request = biped_sweep.as_request(args)
    check_space(request.config, request.settings, getattr(request, "space", ()))


def check_run(words: list[str]) -> None:
    args = biped_run.make_parser().parse_args(words)
    if isinstance(args.policy, str):
        assert Address.parse(args.policy)
        return
    assert OnnxPolicy(ROOT / args.policy).contract.joint_names


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "biped_train.py": check_train,
    "biped_eval.py": check_eval,
    "biped_export.py": check_export,
    "biped_sweep.py": check_sweep,
    "biped_run.py": check_run,
}


def commands_said() -> list[Any]:
    return [
        pytest.param(command, id=f"{name_of(page)}-{' '.join(command)}")
        for page in WITH_COMMANDS
        for block in blocks(page, "bash")
        for command in commands(block)
    ]


@pytest.mark.parametrize("command", commands_said())
def test_every_command_that_a_page_shows_is_one(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    CHECKS[command[0]](command[1:])


def test_commands_are_found_in_loops_and_over_several_lines() -> None:
    text = 'for s in 1 2; do python biped_train.py --seed $s -e a-$s; python biped_eval.py -e "a b"; done  # both\n'
    text += (
        'exec python biped_train.py "${run[@]}" \\\n  --num_envs 2\npython -m biped metrics\npython benchmarks/x.py\n'
    )
    assert list(commands(text)) == [
        ["biped_train.py", "--seed", "1", "-e", "a-1"],
        ["biped_eval.py", "-e", "a b"],
        ["biped_train.py", "--num_envs", "2"],
    ]
    for wrong in (["--sede", "1"], ["--set", "env.gate=1"], ["--preset", "large"]):
        with pytest.raises((SystemExit, argparse.ArgumentError, ValueError)):
            check_train(wrong)


# What the program prints


def strings_of_the_program() -> list[str]:
    """Return every piece of text in the sources; what an f-string puts in separates pieces."""
    sources = [*ROOT.glob("*.py"), *(ROOT / "biped").rglob("*.py")]
    found = [
        node.value
        for path in sources
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return [*found, (ROOT / "install_genesis.sh").read_text()]


def unknown_pieces(line: str, known: list[str]) -> list[str]:
    """Return the pieces of a quoted line, cut at `...` and at colons, that the program does not have."""
    pieces = [piece.strip(" ,;().") for piece in re.split(r"\.\.\.|: ", line)]
    return [piece for piece in pieces if piece and not any(piece in text for text in known)]


def test_lines_that_the_pages_on_trouble_quote_are_the_programs() -> None:
    known = strings_of_the_program()
    lines = [line for page in ON_TROUBLE for block in blocks(page, "text") for line in block.splitlines()]
    assert len(lines) > 20
    assert {line: unknown for line in lines if (unknown := unknown_pieces(line, known))} == {}
    assert unknown_pieces("watchdog: nothing has happened for ... years", known) == ["years"]
