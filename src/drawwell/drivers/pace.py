"""Work out how much a OneRNG has made that was not read.

Beyond its pool, new samples are XORed over old ones (OneRNG/firmware 81d70bf, cdc_app.c:
queue_pool_data). Such samples are less biased than the diode's, and a health test of them
finds less than there is. The device does not tell when it stirs; it follows from its rate.
"""

from typing import Final

from drawwell.drivers.tty import BUFFER_BYTES

POOL_LIMIT_BYTES: Final = 6000
"""What may lie unread; the pool holds 7,168 bytes."""
KNOWN_RATE: Final = 60_000.0
"""Bytes a second: 57.3 to 59.2 kB/s were measured on a V3.0."""
_FULL_LINE_BYTES: Final = BUFFER_BYTES - 256
"""A terminal this full stops the sender (Linux n_tty.c: from 128 bytes below its size)."""


class Pace:
    """What one device made and we did not read, since it was flushed.

    Args:
        now: When it was flushed, in seconds.
    """

    def __init__(self, now: float) -> None:
        self._at = now
        self._unread = 0.0

    def took(self, size: int, asked: int, now: float) -> None:
        """Count a read of `size` bytes where `asked` were wanted."""
        held_up = size >= min(asked, _FULL_LINE_BYTES)  # else nothing stopped the sender
        self._unread = max(0.0, self._made(now) - size) if held_up else 0.0
        self._at = now

    def overflows(self, now: float) -> bool:
        """May it have stirred its pool by now?"""
        return self._made(now) > POOL_LIMIT_BYTES

    def _made(self, now: float) -> float:
        return self._unread + KNOWN_RATE * (now - self._at)
