"""The alternation machine is fed with contact patterns written as text: one letter a control step.

`B` both feet, `L` left only, `R` right only, `.` none.
"""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biped.config.robot import JOINT_NAMES, RobotConfig
from biped.config.task import GaitConfig
from biped.mdp.gait import (
    LEFT,
    RIGHT,
    ContactPhase,
    GaitReference,
    StepState,
    advance_phase,
    advance_steps,
    gait_clock,
    swing_height,
    update_contacts,
    wanted_contacts,
)

CPU = torch.device("cpu")
DT_S = 0.02
CFG = GaitConfig(min_swing_s=0.1, max_swing_s=0.6)
ON_GROUND = {"B": (True, True), "L": (True, False), "R": (False, True), ".": (False, False)}


def run(pattern: str, cfg: GaitConfig = CFG) -> tuple[list[tuple[int, int]], list[float]]:
    """Return the valid steps (time index, foot) and the paid seconds of swing of a pattern."""
    state, steps, paid = StepState.initial(1, CPU), [], []
    for index, letter in enumerate(pattern):
        force = torch.tensor([[10.0 if on else 0.0 for on in ON_GROUND[letter]]])
        state, events = advance_steps(state, force, DT_S, cfg)
        steps += [(index, foot) for foot in (LEFT, RIGHT) if events.valid_step[0, foot]]
        if (seconds := events.alternated_swing_s.item()) > 0:
            paid.append(seconds)
    return steps, paid


def test_a_walk_is_paid_the_seconds_of_each_alternating_swing() -> None:
    # The right foot swings for 0.2 s, then the left one, and so on; the first step alternates with nothing.
    walk = "BB" + ("L" * 10 + "BB" + "R" * 10 + "BB") * 3
    steps, paid = run(walk)
    assert [foot for _, foot in steps] == [RIGHT, LEFT] * 3
    assert paid == pytest.approx([0.2] * 5)


def test_chattering_contacts_are_never_paid() -> None:
    assert run("BB" + "LB" * 40 + "RB" * 40)[1] == []
    assert run("BB" + "LLLLBRRRRB" * 20) == ([], []), "0.08 s is shorter than the shortest swing"


def test_one_foot_twice_is_not_paid_again() -> None:
    steps, paid = run("BB" + ("L" * 10 + "BB") * 5)
    assert [foot for _, foot in steps] == [RIGHT] * 5
    assert paid == []


def test_hopping_on_both_feet_is_not_stepping() -> None:
    assert run("BB" + ("." * 10 + "BB") * 5) == ([], [])


def test_a_swing_during_which_the_other_foot_leaves_the_ground_does_not_count() -> None:
    assert run("BB" + "LLLL....LLLL" + "BB") == ([], [])


def test_a_leg_held_up_for_too_long_is_not_a_step() -> None:
    assert run("BB" + "L" * 40 + "BB") == ([], [])


@pytest.mark.parametrize(("min_steps", "max_steps"), [(10, 30), (7, 35), (15, 29)])
def test_swings_of_exactly_the_shortest_and_the_longest_time_count(min_steps: int, max_steps: int) -> None:
    cfg = GaitConfig(min_swing_s=min_steps * DT_S, max_swing_s=max_steps * DT_S)

    def counts(length: int) -> bool:
        return len(run("BB" + "L" * length + "BB", cfg)[0]) == 1

    assert [counts(n) for n in (min_steps - 1, min_steps, max_steps, max_steps + 1)] == [False, True, True, False]


def test_running_from_foot_to_foot_without_double_support_alternates() -> None:
    _, paid = run("B" + ("L" * 10 + "R" * 10) * 3)
    assert paid == pytest.approx([0.2] * 4)


def test_chatter_at_touchdown_does_not_spoil_the_walk_or_pay_twice() -> None:
    clean = "BB" + ("L" * 10 + "BBBB" + "R" * 10 + "BBBB") * 3
    bouncing = "BB" + ("L" * 10 + "BLBB" + "R" * 10 + "BRBB") * 3
    assert run(bouncing)[1] == run(clean)[1]


def test_limping_alternates_but_pays_only_real_seconds() -> None:
    _, paid = run("BB" + ("L" * 6 + "BB" + "R" * 20 + "BB") * 3)
    assert paid == pytest.approx([0.4, 0.12, 0.4, 0.12, 0.4])


@given(st.text(alphabet="BLR.", max_size=200))
def test_no_pattern_earns_more_than_its_time_on_one_foot(pattern: str) -> None:
    steps, paid = run(pattern)
    single_support_s = sum(letter in "LR" for letter in pattern) * DT_S
    assert sum(paid) <= single_support_s + 1e-5
    assert len(paid) <= max(0, len(steps) - 1) or not steps
    assert all(CFG.min_swing_s - 1e-6 <= seconds <= CFG.max_swing_s + 1e-6 for seconds in paid)


@given(st.text(alphabet="BLR.", max_size=100))
def test_left_and_right_are_treated_alike(pattern: str) -> None:
    mirrored = pattern.translate(str.maketrans("LR", "RL"))
    steps, paid = run(pattern)
    mirrored_steps, mirrored_paid = run(mirrored)
    assert [(index, 1 - foot) for index, foot in steps] == mirrored_steps
    assert paid == mirrored_paid


def test_environments_do_not_mix() -> None:
    walk, hop = "BB" + ("L" * 10 + "R" * 10) * 3, ("B" * 5 + "." * 5) * 7
    state, total = StepState.initial(2, CPU), torch.zeros(2)
    for left, right in zip(walk, hop, strict=False):
        force = torch.tensor([[10.0 if on else 0.0 for on in ON_GROUND[letter]] for letter in (left, right)])
        state, events = advance_steps(state, force, DT_S, CFG)
        total += events.alternated_swing_s
    assert total[0] == pytest.approx(sum(run(walk)[1]))
    assert total[1] == 0.0


def test_a_step_is_remembered() -> None:
    state = StepState.initial(2, CPU)
    for letter in "BB" + "L" * 10 + "B":
        force = torch.tensor([[10.0 if on else 0.0 for on in ON_GROUND[letter]]] * 2)
        state, _ = advance_steps(state, force, DT_S, CFG)
    assert state.last_step.tolist() == [RIGHT, RIGHT]


def test_contact_phases_name_the_feet() -> None:
    state = StepState.initial(4, CPU)
    force = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 9.0]])
    state, _ = advance_steps(state, force, DT_S, CFG)
    assert state.phase.tolist() == [ContactPhase.NONE, ContactPhase.LEFT, ContactPhase.RIGHT, ContactPhase.BOTH]


def test_contacts_have_hysteresis() -> None:
    cfg = GaitConfig(contact_on_n=3.0, contact_off_n=1.0)
    contacts, seen = torch.zeros(1, 2, dtype=torch.bool), []
    for newton in (0.0, 2.0, 3.0, 2.0, 1.0, 0.9, 2.9, 3.1):
        contacts = update_contacts(contacts, torch.tensor([[newton, 0.0]]), cfg)
        seen.append(contacts[0, LEFT].item())
    assert seen == [False, False, True, True, True, False, False, True]


def test_the_clock_makes_one_turn_a_stride() -> None:
    phase = torch.zeros(1)
    for _ in range(50):
        phase = advance_phase(phase, frequency_hz=2.0, dt_s=0.02)
    assert math.sin(2 * math.pi * phase.item()) == pytest.approx(0.0, abs=1e-4)
    torch.testing.assert_close(advance_phase(torch.tensor([0.99]), 1.0, 0.02), torch.tensor([0.01]))
    clock = gait_clock(torch.tensor([0.25, 0.25]), torch.tensor([True, False]))
    torch.testing.assert_close(clock, torch.tensor([[1.0, 0.0], [0.0, 0.0]]), atol=1e-6, rtol=0)


@given(st.floats(0.0, 1.0, exclude_max=True, width=32))
def test_the_legs_are_in_antiphase_and_never_swing_together(phase: float) -> None:
    now, half_a_stride_later = (swing_height(torch.tensor([p]), 0.4) for p in (phase, (phase + 0.5) % 1.0))
    torch.testing.assert_close(now, half_a_stride_later.flip(1), atol=1e-5, rtol=0)
    assert now.min() == 0.0
    assert (now[wanted_contacts(now)] == 0.0).all()


def test_a_leg_swings_for_its_share_of_the_stride_and_highest_in_the_middle() -> None:
    phase = torch.arange(0.0005, 1.0, 0.001)
    left = swing_height(phase, 0.4)[:, 0]
    assert (left > 0).float().mean().item() == pytest.approx(0.4, abs=0.002)
    assert phase[left.argmax()].item() == pytest.approx(0.25, abs=0.001)
    assert left.max().item() == pytest.approx(1.0, abs=1e-4)
    # A quarter of the stride's share away from the middle: cos(45 degrees).
    assert swing_height(torch.tensor([0.35]), 0.4)[0, 0].item() == pytest.approx(math.cos(math.pi / 4), rel=1e-5)


def test_the_reference_bends_the_swinging_leg_and_leaves_the_standing_one() -> None:
    robot = RobotConfig()
    reference = GaitReference.build(GaitConfig(), robot, CPU)
    names = [JOINT_NAMES[i] for i in reference.joint_indices.tolist()]
    target = dict(zip(names, reference.at(torch.tensor([0.25]))[0].tolist(), strict=True))
    assert target["left_hip_pitch"] == pytest.approx(-0.35 - 0.25)
    assert target["left_knee"] == pytest.approx(0.70 + 0.50)
    assert target["left_ankle"] == pytest.approx(-0.35 - 0.25)
    assert target["right_hip_pitch"] == pytest.approx(-0.35)
    assert target["right_knee"] == pytest.approx(0.70)
    assert target["right_ankle"] == pytest.approx(-0.35)
