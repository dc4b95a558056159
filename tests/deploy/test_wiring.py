import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biped.base.errors import MachineError, UsageError
from biped.deploy.wiring import ImuWiring, JointWiring, Wiring, mount
from tests.servo_bus import a_wiring

NAMES = ("left_knee", "right_knee")


def test_ticks_and_angles_by_hand() -> None:
    wiring = Wiring("p", 1_000_000, (JointWiring("a", 1, 1, 2000, -2.0, 2.0), JointWiring("b", 2, -1, 2100, -1.0, 1.0)))
    # A quarter of a turn is 1024 ticks.
    quarter = np.array([np.pi / 2, -np.pi / 4])
    assert wiring.to_ticks(quarter).tolist() == [3024, 2612]
    assert wiring.to_rad(np.array([3024, 2612])) == pytest.approx(quarter)


def test_targets_stop_at_the_limits() -> None:
    wiring = Wiring("p", 1_000_000, (JointWiring("a", 1, -1, 2048, -0.5, 0.25),))
    assert wiring.to_ticks(np.array([9.0])).tolist() == [2048 - 163]
    assert wiring.to_ticks(np.array([-9.0])).tolist() == [2048 + 326]
    assert wiring.joints[0].tick_limits == (2048 - 163, 2048 + 326)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_target_that_is_no_number_is_not_sent(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        a_wiring(NAMES).to_ticks(np.array([0.0, bad]))


def test_a_servo_that_did_not_answer_stays_unknown() -> None:
    assert np.isnan(a_wiring(NAMES).to_rad(np.array([np.nan, 2000.0]))).tolist() == [True, False]


@given(st.lists(st.floats(-2.0, 2.0), min_size=9, max_size=9))
def test_there_and_back_is_within_half_a_tick(angles: list[float]) -> None:
    wiring = a_wiring(tuple(f"j{index}" for index in range(9)))
    back = wiring.to_rad(wiring.to_ticks(np.array(angles)).astype(float))
    assert np.abs(back - angles).max() <= 0.5001 * 2 * np.pi / 4096


def test_a_file_is_what_was_saved(tmp_path: Path) -> None:
    path, wiring = tmp_path / "wiring.json", a_wiring(NAMES)
    wiring.save(path)
    assert Wiring.load(path) == wiring
    assert json.loads(path.read_text())["joints"][0]["joint"] == "left_knee"


def test_gains_and_the_imu_are_kept_where_they_are_given(tmp_path: Path) -> None:
    path, wiring = tmp_path / "wiring.json", a_wiring(NAMES)
    first, *rest = wiring.joints
    wiring = replace(
        wiring, joints=(replace(first, position_p=900, position_d=0), *rest), imu=ImuWiring("/dev/x", "+y-x+z")
    )
    wiring.save(path)
    assert Wiring.load(path) == wiring
    raw = json.loads(path.read_text())
    assert "position_p" in raw["joints"][0]
    assert "position_p" not in raw["joints"][1]
    raw["joints"][0]["position_p"] = 16384
    with pytest.raises(UsageError, match="position_p and position_d must be from 0 to 16383"):
        Wiring.of(raw)
    raw["joints"][0]["position_p"] = 900
    for imu, said in (
        ({"source": 5}, "imu.source must be text"),
        ({"sauce": "x"}, "did you mean source"),
        ([], "names"),
    ):
        with pytest.raises(UsageError, match=said):
            Wiring.of({**raw, "imu": imu})


def test_a_disk_that_refuses_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot write"):
        a_wiring(NAMES).save(tmp_path / "nowhere" / "wiring.json")


def changed(**words: Any) -> dict[str, Any]:
    raw = copy.deepcopy(a_wiring(NAMES).as_json())
    for path, value in words.items():
        target: Any = raw["joints"][0] if path in raw["joints"][0] or path.startswith("j_") else raw
        if value is None:
            del target[path]
        else:
            target[path.removeprefix("j_")] = value
    return raw


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ([], "no wiring"),
        (changed(format="biped-policy-contract"), "no wiring"),
        (changed(version=2), "version 2"),
        (changed(bauds=9600), "there is no bauds: did you mean baud?"),
        (changed(j_zero=3), r"there is no joints\[0\].zero"),
        (changed(j_zero_tik=3), "did you mean zero_tick?"),
        (changed(zero_tick=None), r"joints\[0\].zero_tick is missing"),
        (changed(port=None), "port is missing"),
        (changed(joints=[]), "joints must be a list"),
        (changed(joints=[3]), r"joints\[0\] must have names"),
        (changed(id="3"), "id must be a whole number"),
        (changed(id=True), "id must be a whole number"),
        (changed(id=2.5), "id must be a whole number"),
        (changed(id=11), "id 11 is there twice"),
        (changed(id=253), "id must be from 0 to 252"),
        (changed(joint="right_knee"), "joint right_knee is there twice"),
        (changed(direction=0), "direction must be 1 or -1"),
        (changed(lower_rad=3.0), "lower_rad must be less"),
        (changed(upper_rad=float("nan")), "lower_rad must be less"),
        (changed(zero_tick=4000), "its limits are at ticks 2696 and 5304"),
        (changed(baud=1000001), "baud 1000001 is none of"),
        (changed(port=3), "port must be text"),
        (changed(lower_rad=-(10**400)), r"joints\[0\].lower_rad is beyond all measure"),
        (changed(zero_tick=10**400), r"joints\[0\].zero_tick is beyond all measure"),
        (changed(id=10**400), r"joints\[0\].id is beyond all measure"),
        (changed(lower_rad=-1e308, upper_rad=1e308), "lower_rad is beyond all measure"),
        (changed(upper_rad=float("inf")), "upper_rad is beyond all measure"),
        (changed(baud=10**400), "baud is beyond all measure"),
        (changed(j_position_p=10**400), "position_p is beyond all measure"),
        ({**changed(), "imu": {"source": "x", "rate_hz": 10**400}}, "imu.rate_hz is beyond all measure"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, raw: Any, text: str) -> None:
    path = tmp_path / "wiring.json"
    path.write_text(json.dumps(raw))
    with pytest.raises(UsageError, match=text) as found:
        Wiring.load(path)
    assert str(path) in str(found.value) and "\n" not in str(found.value)


def test_what_is_no_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"biped_run\.py --wire"):
        Wiring.load(tmp_path / "wiring.json")
    (tmp_path / "wiring.json").write_text("{")
    with pytest.raises(UsageError, match="is not JSON"):
        Wiring.load(tmp_path / "wiring.json")


def test_lists_within_lists_without_end_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "wiring.json").write_text("[" * 100_000)
    with pytest.raises(UsageError, match="is not JSON"):
        Wiring.load(tmp_path / "wiring.json")
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    for raw in (changed(version=deep), changed(port=deep)):
        with pytest.raises(UsageError, match="lists within lists"):
            Wiring.of(raw)


def test_joints_come_in_the_policys_order() -> None:
    wiring = a_wiring(NAMES).ordered(NAMES[::-1])
    assert [joint.joint for joint in wiring.joints] == ["right_knee", "left_knee"]
    assert wiring.ids == (11, 10)


def test_a_wiring_of_another_robot_is_refused() -> None:
    with pytest.raises(UsageError, match=r"left_knee, and the policy has none: did you mean left_kne\?"):
        a_wiring(NAMES).ordered(("left_kne", "right_knee"))
    with pytest.raises(UsageError, match="no servo for torso"):
        a_wiring(NAMES).ordered((*NAMES, "torso"))


@pytest.mark.parametrize(
    ("axes", "sensor", "base"),
    [
        ("+x+y+z", (1.0, 2.0, 3.0), (1.0, 2.0, 3.0)),
        ("+y-x+z", (1.0, 2.0, 3.0), (2.0, -1.0, 3.0)),
        ("-z+y+x", (1.0, 2.0, 3.0), (-3.0, 2.0, 1.0)),
    ],
)
def test_a_mounting_names_the_axes_that_point_forward_left_and_up(
    axes: str, sensor: tuple[float, ...], base: tuple[float, ...]
) -> None:
    np.testing.assert_allclose(mount(axes) @ sensor, base)


@pytest.mark.parametrize("axes", ["", "xyz", "+x+x+z", "-x+y+z", "+x+y+w", "+x+y+z+z"])
def test_what_is_no_mounting_is_refused_in_one_line(axes: str) -> None:
    with pytest.raises(UsageError, match=r"^imu\.axes: .* is no mounting: .*$"):
        mount(axes)


def test_axes_that_are_no_mounting_are_refused_wherever_they_come_from() -> None:
    said = r"^imu\.axes: '\+x\+y-z' is no mounting"
    with pytest.raises(UsageError, match=said):
        ImuWiring("/dev/x", "+x+y-z")
    with pytest.raises(UsageError, match=said):
        ImuWiring.of({"source": "/dev/x", "axes": "+x+y-z"})
    with pytest.raises(UsageError, match=said):
        a_wiring(NAMES).imu_with("/dev/x", "+x+y-z")
