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
        self.empty = True
        """Whether all that was received has been taken as frames."""
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
        self.empty = not self._buffer

    def next_frame(self, expected: Mapping[int, type[Frame]]) -> Frame | None:
        """Take the next frame, which must be one of `expected` (by type code); None when it is not whole yet.

        Raises:
            RemoteProtocolError: it never will be one.
        """
        buffer, at = self._buffer, self._at
        have = len(buffer) - at
        if not have:
            return None
        kind = expected.get(buffer[at])
        if kind is None:
            raise RemoteProtocolError(f"frame type 0x{buffer[at]:02x} is not expected here")
        starts = at + HEADER_BYTES
        length = int.from_bytes(buffer[at + 1 : starts], "big")
        if have < HEADER_BYTES or not kind.MIN_BYTES <= length <= kind.MAX_BYTES:
            self._judge_length(kind, buffer[at + 1 : starts])
            return None
        if have < HEADER_BYTES + length:
            return None
        self._at = starts + length
        self.empty = have == HEADER_BYTES + length
        return _decode(kind, bytes(buffer[starts : self._at]))

    @staticmethod
    def _judge_length(kind: type[Frame], digits: bytearray) -> None:
        """Raise if no length that begins with `digits` is within the bounds."""
        missing_bits = 8 * (HEADER_BYTES - 1 - len(digits))
        least = int.from_bytes(digits, "big") << missing_bits
        most = least | (1 << missing_bits) - 1
        if least > kind.MAX_BYTES or most < kind.MIN_BYTES:
            raise RemoteProtocolError(f"a {kind.__name__.lower()} frame of impossible length")

    def wipe(self) -> None:
        """Forget everything."""
        self._buffer.clear()
        self._at = 0
        self.empty = True


def _decode(kind: type[Frame], payload: bytes) -> Frame:
    try:
        return kind.decode(payload)
    except ValueError as error:
        # The cause may quote what was received, which may be entropy: it is not chained.
        detail = str(error) if type(error) is ValueError else "not well-formed"
        raise RemoteProtocolError(f"a bad {kind.__name__.lower()} frame: {detail}") from None
