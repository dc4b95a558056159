from biped.config.run import Config
from biped.config.serial import flatten, to_dict
from biped.config.table import as_markdown, tables, unit_of
from tests.conftest import ROOT

ROWS = {row.path: row for table in tables() for row in table.rows}


def test_the_page_is_the_configuration() -> None:
    assert (ROOT / "docs" / "configuration.md").read_text() == as_markdown(), (
        "python -m biped config --table > docs/configuration.md"
    )


def test_every_field_has_a_row_that_says_what_it_is() -> None:
    fields = set(flatten(to_dict(Config())))
    of_lists = {path for path in ROWS if "[]" in path}
    assert set(ROWS) - of_lists - fields == {"env.robot.held_joints"}  # empty, so it is no path of a value
    assert fields - set(ROWS) == set()
    assert "env.robot.actuators[].joints" in of_lists
    assert [path for path, row in ROWS.items() if not row.meaning or not row.rule] == []


def test_rows_have_default_unit_and_rule() -> None:
    row = ROWS["env.robot.kd_nm_s_per_rad"]
    assert (row.default, row.unit) == ("0.5", "N·m·s/rad")
    assert row.rule == "a number of at least 0, or a list of such numbers"
    assert ROWS["env.command.lin_vel_x_m_s"].rule == "a pair, low first"
    assert ROWS["env.robot.foot_sole_offset_m"].rule == "a list of 3, each a number, or a list of such lists"
    assert ROWS["train.sim"].rule == "one of genesis, mujoco"
    assert ROWS["wandb.project"].rule == "text, or null"
    assert ROWS["env.termination.max_tilt_rad"].default == "0.785398"
    assert ROWS["env.randomization.joint_friction_nm.range"].unit == "N·m"
    assert ROWS["env.randomization.joint_friction_nm.mode"].unit == ""


def test_the_unit_is_the_longest_that_a_name_ends_in() -> None:
    names = {
        "kp_nm_per_rad": "N·m/rad",
        "limit_rad_s": "rad/s",
        "gait_variance_rad2": "rad²",
        "cell_m": "m",
        "term": "",
    }
    assert {name: unit_of(name) for name in names} == names


def test_a_unit_in_a_fields_meaning_is_that_of_its_name() -> None:
    said = {
        path: unit
        for path, row in ROWS.items()
        for unit in ("m/s", "rad/s", "N·m", "kg·m²")
        if f"({unit})" in row.meaning
    }
    odd = {"env.observation", "env.command.turning_lever_m"}  # factors on a quantity, and a lever in m
    wrong = {path for path, unit in said.items() if ROWS[path].unit != unit and not path.startswith(tuple(odd))}
    assert wrong == set()
