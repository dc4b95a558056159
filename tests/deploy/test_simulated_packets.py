"""Packets against the examples of the e-Manual (docs/en/dxl/protocol2.md), and against ROBOTIS' own package."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biped.deploy.simulated_packets import FAST_SYNC_READ, PING, STATUS, PacketReader, crc16, fast_status, packet


@pytest.mark.parametrize(
    ("built", "example"),
    [
        (packet(1, PING), "FF FF FD 00 01 03 00 01 19 4E"),
        (packet(0xFE, PING), "FF FF FD 00 FE 03 00 01 31 42"),
        (packet(2, STATUS, bytes.fromhex("00 06 04 26")), "FF FF FD 00 02 07 00 55 00 06 04 26 6F 6D"),
        (
            packet(0xFE, FAST_SYNC_READ, bytes.fromhex("84 00 04 00 03 07 04")),
            "FF FF FD 00 FE 0A 00 8A 84 00 04 00 03 07 04 20 F2",
        ),
    ],
)
def test_packets_are_those_of_the_manual(built: bytes, example: str) -> None:
    assert built == bytes.fromhex(example)


def test_a_fast_answer_is_that_of_the_manual() -> None:
    parts = [(0, 3, bytes.fromhex("A6000000")), (0, 7, bytes.fromhex("1F080000")), (0, 4, bytes.fromhex("FF030000"))]
    assert fast_status(parts, 3) == [
        bytes.fromhex("FF FF FD 00 FE 19 00 55 00 03 A6 00 00 00 84 08"),
        bytes.fromhex("00 07 1F 08 00 00 16 CA"),
        bytes.fromhex("00 04 FF 03 00 00 D1 9E"),
    ]


def test_what_looks_like_a_header_gets_a_byte_more() -> None:
    # The length counts it: instruction, 5 bytes, checksum.
    built = packet(1, 3, b"\xff\xff\xfd\x01")
    assert built[5:7] == b"\x08\x00"
    assert built[7:13] == b"\x03\xff\xff\xfd\xfd\x01"


@given(
    st.lists(
        st.tuples(st.integers(0, 252), st.lists(st.sampled_from([0x00, 0xFD, 0xFF, 0x55]), max_size=40).map(bytes)),
        max_size=4,
    ),
    st.integers(1, 7),
    st.binary(max_size=20),
)
def test_packets_are_found_in_pieces_and_after_noise(sent: list[tuple[int, bytes]], size: int, noise: bytes) -> None:
    noise = noise.replace(b"\xff", b"\x00")
    stream = noise + b"".join(packet(servo, 0x03, content) for servo, content in sent)
    reader, found = PacketReader(), []
    for at in range(0, len(stream), size):
        found += reader.feed(stream[at : at + size])
    assert [(item.servo, item.parameters) for item in found] == sent


@given(st.binary(min_size=1, max_size=30), st.data())
def test_a_wrong_byte_is_noticed(content: bytes, data: Any) -> None:
    built = bytearray(packet(1, 0x03, content))
    at = data.draw(st.integers(7, len(built) - 1))
    built[at] ^= data.draw(st.integers(1, 255))
    reader = PacketReader()
    assert reader.feed(bytes(built)) == []


def test_after_a_damaged_packet_the_next_is_found() -> None:
    damaged = bytearray(packet(1, PING))
    damaged[-1] ^= 1
    reader = PacketReader()
    assert [item.servo for item in reader.feed(bytes(damaged) + packet(2, PING))] == [2]
    assert reader.damaged == 1


@given(st.binary(max_size=64))
def test_the_checksum_is_that_of_robotis_package(content: bytes) -> None:
    sdk = pytest.importorskip("dynamixel_sdk")
    assert crc16(content) == sdk.PacketHandler(2.0).updateCRC(0, content, len(content))
