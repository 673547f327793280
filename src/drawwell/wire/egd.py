"""The protocol of EGD, the entropy gathering daemon, as its manual has it (egd.pl, section "Protocol").

    00                          how much is there?      u32 bits
    01 n                        n bytes, not waiting    u8 count, so many bytes
    02 n                        n bytes, waiting        n bytes
    03 u16 bits u8 n, n bytes   take these              nothing
    04                          which process?          u8 count, so many characters

Numbers are big-endian. Answers bear no mark, so they go out in the order of the questions.
"""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from drawwell.errors import RemoteProtocolError

LEVEL: Final = 0x00
READ: Final = 0x01
READ_WAITING: Final = 0x02
WRITE: Final = 0x03
PROCESS: Final = 0x04
_READS: Final = frozenset({READ, READ_WAITING})
_READ_BYTES: Final = 2
_WRITE_HEAD_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class AskLevel:
    """0x00: how many bits are there?"""


class Read(NamedTuple):
    """0x01 and 0x02: `n_bytes`, 0 to 255; all of them however long it takes if it `waits`, else what is there now."""

    n_bytes: int
    waits: bool


@dataclass(frozen=True, slots=True)
class Write:
    """0x03: 0 to 255 bytes, and what the peer claims that they are worth."""

    claimed_bits: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AskProcess:
    """0x04: who are you?"""


Request = AskLevel | Read | Write | AskProcess


class EgdParser:
    """Requests out of a stream of bytes."""

    def __init__(self) -> None:
        self.unparsed = bytearray()
        """Received bytes that belong to no request yet."""

    def feed(self, data: bytes | memoryview) -> None:
        """Take bytes from the peer."""
        self.unparsed += data

    def next_request(self) -> Request | None:
        """Return the next request, None while it is not whole.

        Raises:
            RemoteProtocolError: no such command; nothing that follows can be understood.
        """
        buffer = self.unparsed
        if not buffer:
            return None
        command = buffer[0]
        if command in _READS:
            if len(buffer) < _READ_BYTES:
                return None
            read = Read(buffer[1], command == READ_WAITING)
            del buffer[:_READ_BYTES]
            return read
        if command == LEVEL:
            del buffer[:1]
            return AskLevel()
        if command == PROCESS:
            del buffer[:1]
            return AskProcess()
        if command == WRITE:
            return self._write()
        raise RemoteProtocolError(f"EGD has no command {command:#04x}")

    def _write(self) -> Write | None:
        buffer = self.unparsed
        if len(buffer) < _WRITE_HEAD_BYTES or len(buffer) < (end := _WRITE_HEAD_BYTES + buffer[3]):
            return None
        request = Write(int.from_bytes(buffer[1:3], "big"), bytes(buffer[_WRITE_HEAD_BYTES:end]))
        del buffer[:end]
        return request


def level_answer(bits: int) -> bytes:
    """Answer 0x00; the number ends at 32 bits."""
    return min(bits, 2**32 - 1).to_bytes(4, "big")


def counted_answer(data: bytes) -> bytes:
    """Answer 0x01 or 0x04: the count and so many bytes, at most 255, in one piece."""
    return bytes((len(data),)) + data
