"""Bytes to frames, one at a time, as they come.

A header is judged at each of its bytes: a type that may not come now, or a length that can no longer be within
its bounds, is an error before the rest is here. A payload is judged when it is whole; until then it is bounded by
its type. So what waits here after `next_frame` said None is less than one frame.
"""

from collections.abc import Mapping

from drawwell.errors import RemoteProtocolError
from drawwell.wire.frames import Frame
from drawwell.wire.limits import HEADER_BYTES


class FrameParser:
    """The only place that holds unparsed bytes."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0

    def __len__(self) -> int:
        return len(self._buffer) - self._at

    def feed(self, data: bytes | memoryview) -> None:
        """Append what was received."""
        if self._at:
            del self._buffer[: self._at]
            self._at = 0
        self._buffer += data

    def next_frame(self, expected: Mapping[int, type[Frame]]) -> Frame | None:
        """Take the next frame, which must be one of `expected` (by type code); None when it is not whole yet.

        Raises:
            RemoteProtocolError: it never will be one.
        """
        have = len(self)
        if not have:
            return None
        kind = expected.get(self._buffer[self._at])
        if kind is None:
            raise RemoteProtocolError(f"frame type 0x{self._buffer[self._at]:02x} is not expected here")
        starts = self._at + HEADER_BYTES
        length = self._length(kind, self._buffer[self._at + 1 : starts])
        if length is None or have < HEADER_BYTES + length:
            return None
        self._at = starts + length
        return _decode(kind, bytes(self._buffer[starts : self._at]))

    @staticmethod
    def _length(kind: type[Frame], digits: bytearray) -> int | None:
        missing_bits = 8 * (HEADER_BYTES - 1 - len(digits))
        least = int.from_bytes(digits, "big") << missing_bits
        most = least | (1 << missing_bits) - 1
        if least > kind.MAX_BYTES or most < kind.MIN_BYTES:
            raise RemoteProtocolError(f"a {kind.__name__.lower()} frame of impossible length")
        return None if missing_bits else least

    def wipe(self) -> None:
        """Forget everything."""
        self._buffer.clear()
        self._at = 0


def _decode(kind: type[Frame], payload: bytes) -> Frame:
    try:
        return kind.decode(payload)
    except ValueError as error:
        # The cause may quote what was received, which may be entropy: it is not chained.
        detail = str(error) if type(error) is ValueError else "not well-formed"
        raise RemoteProtocolError(f"a bad {kind.__name__.lower()} frame: {detail}") from None
