"""Keys, sticks and what they ask for: no terminal, no device."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biped.config.task import CommandConfig
from biped.view.steering import KEYS, STAND, Ranges, Wish, move_pad, parse_pad, press, split_keys

RANGES = Ranges.trained(CommandConfig())


def typed(*keys: bytes, ranges: Ranges = RANGES) -> Wish:
    wish = Wish(STAND)
    for key in keys:
        wish = press(wish, key, ranges)
    return wish


def record(value: int, kind: int, number: int) -> bytes:
    """A record as the kernel's joydev writes it: little-endian, eight bytes."""
    return struct.pack("<IhBB", 123456, value, kind, number)


@pytest.mark.parametrize(
    ("key", "command"),
    [
        (b"w", (0.1, 0.0, 0.0)),
        (b"\x1b[A", (0.1, 0.0, 0.0)),
        (b"\x1bOB", (-0.1, 0.0, 0.0)),
        (b"S", (-0.1, 0.0, 0.0)),
        (b"q", (0.0, 0.1, 0.0)),
        (b"E", (0.0, -0.1, 0.0)),
        (b"a", (0.0, 0.0, 0.2)),
        (b"\x1b[D", (0.0, 0.0, 0.2)),
        (b"\x1b[C", (0.0, 0.0, -0.2)),
    ],
)
def test_a_key_takes_one_step(key: bytes, command: tuple[float, float, float]) -> None:
    assert typed(key).command == command


def test_steps_add_up_without_crumbs_until_the_trained_range_ends() -> None:
    assert typed(b"w", b"w", b"w").command == (0.3, 0.0, 0.0)
    assert typed(*[b"w"] * 20).command == (0.6, 0.0, 0.0)
    assert typed(*[b"q"] * 20, *[b"d"] * 20).command == (0.0, 0.15, -0.6)
    assert typed(*[b"w"] * 20, b"s").command == (0.5, 0.0, 0.0)
    assert typed(b"w", b"a", b" ").command == STAND


def test_other_keys_start_anew_end_or_change_nothing() -> None:
    assert typed(b"w", b"r") == Wish((0.1, 0.0, 0.0), reset=True)
    assert typed(b"x").end
    assert typed(b"\x1b").end
    assert typed(b"w", b"k", b"\x1b[3~", b"\x1bw", b"\xc3") == typed(b"w")


def test_whoever_may_only_walk_forward_may_still_stand() -> None:
    forward = Ranges((0.2, 0.0, 0.0), (0.6, 0.0, 0.0))
    assert typed(b"w", ranges=forward).command == (0.2, 0.0, 0.0)
    assert typed(b"w", b"a", b"q", ranges=forward).command == (0.2, 0.0, 0.0)
    assert typed(b"w", b" ", ranges=forward).command == STAND
    assert forward.holds(STAND)
    assert not forward.holds((0.1, 0.0, 0.0))


def test_arrows_that_come_in_pieces_are_no_escape() -> None:
    assert split_keys(b"w\x1b[A\x1b[3~ ", is_all=False) == ([b"w", b"\x1b[A", b"\x1b[3~", b" "], b"")
    assert split_keys(b"\x1b", is_all=False) == ([], b"\x1b")
    assert split_keys(b"\x1b[", is_all=False) == ([], b"\x1b[")
    assert split_keys(b"\x1b[C", is_all=False) == ([b"\x1b[C"], b"")
    assert split_keys(b"\x1b", is_all=True) == ([b"\x1b"], b"")
    assert split_keys(b"\x1b\x1b", is_all=True) == ([b"\x1b", b"\x1b"], b"")


@given(st.lists(st.sampled_from([*KEYS, b" ", b"r", b"x"])), st.data())
def test_keys_are_the_same_however_the_bytes_are_cut(keys: list[bytes], data: st.DataObject) -> None:
    sent = b"".join(keys)
    cut = data.draw(st.integers(0, len(sent)))
    first, rest = split_keys(sent[:cut], is_all=False)
    second, rest = split_keys(rest + sent[cut:], is_all=False)
    assert [*first, *second] == keys
    assert rest == b""


@given(st.binary(max_size=40))
def test_no_bytes_break_the_reading_of_keys(sent: bytes) -> None:
    keys, rest = split_keys(sent, is_all=False)
    assert b"".join(keys) + rest == sent
    assert split_keys(sent, is_all=True)[1] == b""


def test_a_gamepads_records_are_read_and_an_unfinished_one_waits() -> None:
    stick, button = record(-32767, 0x02, 1), record(1, 0x01, 0)
    events, rest = parse_pad(stick + button + stick[:5])
    assert [(event.value, event.kind, event.number, event.is_initial) for event in events] == [
        (-32767, 2, 1, False),
        (1, 1, 0, False),
    ]
    assert rest == stick[:5]
    assert parse_pad(record(7, 0x82, 3))[0][0].is_initial


def pad(*records: bytes, wish: Wish | None = None) -> Wish:
    return move_pad(wish or Wish(STAND), {}, parse_pad(b"".join(records))[0], RANGES)


def test_full_sticks_reach_the_ends_of_the_ranges() -> None:
    assert pad(record(-32767, 2, 1)).command == (0.6, 0.0, 0.0)
    assert pad(record(32767, 2, 1)).command == (-0.2, 0.0, 0.0)
    assert pad(record(-32767, 2, 0), record(32767, 2, 3)).command == (0.0, 0.15, -0.6)
    half = pad(record(-16384, 2, 1)).command
    assert half is not None
    assert 0.2 < half[0] < 0.3


def test_a_gamepad_that_nobody_touches_leaves_the_command_alone() -> None:
    walking = Wish((0.3, 0.0, 0.0))
    assert pad(record(900, 2, 1), record(-700, 2, 3), wish=walking) == walking
    assert pad(record(-32767, 0x82, 1), wish=walking) == walking
    assert pad(record(-32767, 2, 2), wish=walking) == walking


def test_the_buttons_stop_and_start_anew() -> None:
    assert pad(record(1, 1, 0), wish=Wish((0.3, 0.0, 0.0))).command == STAND
    assert pad(record(1, 1, 1)).reset
    assert not pad(record(0, 1, 1)).reset
    assert not pad(record(1, 0x81, 1)).reset
