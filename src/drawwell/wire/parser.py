"""Parsing of bytes to frames, one at a time.

Each byte of a header is checked as it arrives. An unexpected type, or a length that will be
out of bounds, is an error immediately. A payload is parsed when complete; its type limits its
length. So when `next_frame` returns None, the buffer has less than one frame.
"""

from collections.abc import Mapping

from drawwell.errors import RemoteProtocolError
from drawwell.wire.frames import Frame
from drawwell.wire.limits import HEADER_BYTES


class FrameParser:
    """A parser with a buffer of unparsed bytes."""

    def __init__(self) -> None:
        self.empty = True
        """Whether all input has been returned as frames."""
        self._buffer = bytearray()
        self._at = 0
        self._closed = False

    def __len__(self) -> int:
        return len(self._buffer) - self._at

    def feed(self, data: bytes | memoryview) -> None:
        """Buffer input; drop it after `close`."""
        if self._closed:
            return
        if self._at:
            del self._buffer[: self._at]
            self._at = 0
        self._buffer += data
        self.empty = not self._buffer

    def next_frame(self, expected: Mapping[int, type[Frame]]) -> Frame | None:
        """Return the next frame, one of `expected` by type code, or None.

        Raises:
            RemoteProtocolError: the input cannot become an accepted frame.
        """
        buffer, at = self._buffer, self._at
        have = len(buffer) - at
        if not have:
            return None
        kind = expected.get(buffer[at])
        if kind is None:
            raise RemoteProtocolError(f"unexpected frame type 0x{buffer[at]:02x}")
        starts = at + HEADER_BYTES
        length = int.from_bytes(buffer[at + 1 : starts], "big")
        if have < HEADER_BYTES or not kind.MIN_BYTES <= length <= kind.MAX_BYTES:
            self._judge_length(kind, buffer[at + 1 : starts])
            return None
        if have < HEADER_BYTES + length:
            return None
        self._at = starts + length
        self.empty = have == HEADER_BYTES + length
        try:
            return kind.decode(bytes(buffer[starts : self._at]))
        except ValueError as error:
            # not chained, because the cause might quote input, which might be entropy
            detail = str(error) if type(error) is ValueError else "malformed"
            raise RemoteProtocolError(f"invalid {kind.__name__.lower()} frame: {detail}") from None

    @staticmethod
    def _judge_length(kind: type[Frame], digits: bytearray) -> None:
        """Raise if every length that starts with `digits` is out of bounds."""
        missing_bits = 8 * (HEADER_BYTES - 1 - len(digits))
        least = int.from_bytes(digits, "big") << missing_bits
        most = least | (1 << missing_bits) - 1
        if least > kind.MAX_BYTES or most < kind.MIN_BYTES:
            raise RemoteProtocolError(f"the length of a {kind.__name__.lower()} frame is out of bounds")

    def close(self) -> None:
        """Erase the buffer, and drop all further input."""
        self._closed = True
        self._buffer.clear()
        self._at = 0
        self.empty = True
