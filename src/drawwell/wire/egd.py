"""The protocol of EGD, the entropy gathering daemon (egd.pl, "Protocol").

    request                     meaning             answer
    00                          level               u32 bits
    01 n                        read without wait   u8 count, that many bytes
    02 n                        read n bytes        n bytes
    03 u16 bits u8 n, n bytes   write               none
    04                          process             u8 count, that many characters

Numbers are big-endian. Answers have no header, so they must be in the order of the requests.
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
    """0x00: request the number of available bits."""


class Read(NamedTuple):
    """0x01 and 0x02: read up to 255 bytes; if `waits`, wait for all of them."""

    n_bytes: int
    waits: bool


@dataclass(frozen=True, slots=True)
class Write:
    """0x03: write 0 to 255 bytes, with the peer's claim of their entropy."""

    claimed_bits: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AskProcess:
    """0x04: request the name of the process."""


Request = AskLevel | Read | Write | AskProcess


class EgdParser:
    """Parses requests from a stream of bytes."""

    def __init__(self) -> None:
        self.unparsed = bytearray()
        """Input that is not parsed yet."""

    def feed(self, data: bytes | memoryview) -> None:
        """Buffer input."""
        self.unparsed += data

    def next_request(self) -> Request | None:
        """Return the next request, or None if incomplete.

        Raises:
            RemoteProtocolError: the command is unknown; further input cannot be parsed.
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
        raise RemoteProtocolError(f"unknown EGD command {command:#04x}")

    def _write(self) -> Write | None:
        buffer = self.unparsed
        if len(buffer) < _WRITE_HEAD_BYTES or len(buffer) < (end := _WRITE_HEAD_BYTES + buffer[3]):
            return None
        request = Write(int.from_bytes(buffer[1:3], "big"), bytes(buffer[_WRITE_HEAD_BYTES:end]))
        del buffer[:end]
        return request


def level_answer(bits: int) -> bytes:
    """Return the answer to 0x00, a number of at most 32 bits."""
    return min(bits, 2**32 - 1).to_bytes(4, "big")


def counted_answer(data: bytes) -> bytes:
    """Return the answer to 0x01 or 0x04: a count, then at most 255 bytes."""
    return bytes((len(data),)) + data
