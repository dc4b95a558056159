"""Packets of Dynamixel Protocol 2.0 as a servo sees them, written without ROBOTIS' package, to test it.

ROBOTIS e-Manual, github.com/ROBOTIS-GIT/emanual, docs/en/dxl/protocol2.md and crc.md.
"""

from dataclasses import dataclass

HEADER = b"\xff\xff\xfd\x00"
BROADCAST = 0xFE
PING, READ, WRITE, REG_WRITE, ACTION, REBOOT = 0x01, 0x02, 0x03, 0x04, 0x05, 0x08
STATUS, SYNC_READ, SYNC_WRITE, FAST_SYNC_READ = 0x55, 0x82, 0x83, 0x8A
RESULT_FAIL, BAD_INSTRUCTION, BAD_RANGE, BAD_LENGTH, BAD_LIMIT, BAD_ACCESS = 0x01, 0x02, 0x04, 0x05, 0x06, 0x07
ALERT = 0x80
"""Bit of the error byte: something is in Hardware Error Status."""
_POLYNOMIAL, _LONGEST = 0x8005, 1024
_LENGTH_AT, _BODY_AT, _CRC_SIZE = 5, 7, 2
"""Where a packet says its length, where what it says begins, and how long its checksum is."""
_PATTERN, _STUFFED = b"\xff\xff\xfd", b"\xff\xff\xfd\xfd"


def _entry(index: int) -> int:
    value = index << 8
    for _ in range(8):
        value = (value << 1) ^ (_POLYNOMIAL if value & 0x8000 else 0)
    return value & 0xFFFF


_TABLE = tuple(_entry(index) for index in range(256))


def crc16(content: bytes, start: int = 0) -> int:
    """Return the checksum of bytes that follow those of the checksum `start`."""
    value = start
    for byte in content:
        value = ((value << 8) & 0xFFFF) ^ _TABLE[(value >> 8) ^ byte]
    return value


def with_crc(content: bytes, start: int = 0) -> bytes:
    """Return bytes with their checksum after them."""
    return content + crc16(content, start).to_bytes(_CRC_SIZE, "little")


def packet(servo: int, instruction: int, parameters: bytes = b"") -> bytes:
    """Return a packet; what looks like a header in it gets a byte more."""
    body = (bytes((instruction,)) + parameters).replace(_PATTERN, _STUFFED)
    return with_crc(HEADER + bytes((servo,)) + (len(body) + 2).to_bytes(2, "little") + body)


def fast_status(parts: list[tuple[int, int, bytes]], expected: int) -> list[bytes]:
    """Return what each servo sends in answer to Fast Sync Read: together one packet, without bytes that are added.

    Args:
        parts: error, ID and content of each servo that answers, in order.
        expected: how many were asked; the length says so whoever answers.
    """
    length = 1 + expected * (len(parts[0][2]) + 4) if parts else 0
    sent, crc = [], 0
    for index, (error, servo, content) in enumerate(parts):
        head = HEADER + bytes((BROADCAST,)) + length.to_bytes(2, "little") + bytes((STATUS,)) if index == 0 else b""
        sent.append(with_crc(head + bytes((error, servo)) + content, crc))
        crc = crc16(sent[-1], crc)
    return sent


@dataclass(frozen=True)
class Packet:
    """A packet without header, length and checksum."""

    servo: int
    """ID that it is for, or from; 254: all."""
    instruction: int
    """What is asked."""
    parameters: bytes
    """The rest."""


class PacketReader:
    """Finds packets in a stream of bytes."""

    def __init__(self) -> None:
        """Begin with an empty stream."""
        self._stream = b""
        self.damaged = 0
        """How many packets had a wrong checksum."""

    def feed(self, content: bytes) -> list[Packet]:
        """Add bytes, and return the packets that are complete now."""
        self._stream += content
        found = []
        while (begin := self._stream.find(HEADER)) >= 0:
            length = int.from_bytes(self._stream[begin + _LENGTH_AT : begin + _BODY_AT], "little")
            end = begin + _BODY_AT + length
            if len(self._stream) >= begin + _BODY_AT and not 3 <= length <= _LONGEST:
                self._stream = self._stream[begin + 1 :]
                continue
            if len(self._stream) < max(end, begin + _BODY_AT + 3):
                break
            whole = self._stream[begin:end]
            if whole == with_crc(whole[:-_CRC_SIZE]):
                body = whole[_BODY_AT:-_CRC_SIZE].replace(_STUFFED, _PATTERN)
                found.append(Packet(whole[4], body[0], body[1:]))
                self._stream = self._stream[end:]
            else:
                self.damaged += 1
                self._stream = self._stream[begin + 1 :]
        return found
