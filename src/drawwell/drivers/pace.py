"""Estimate how many unread bytes a OneRNG has produced.

A full pool XORs new samples into old ones (OneRNG/firmware 81d70bf, cdc_app.c:
queue_pool_data). The result is less biased than the diode, so a health test underestimates the
bias. The device does not report a full pool, so the unread bytes are estimated from the rate.
"""

from typing import Final

from drawwell.drivers.tty import BUFFER_BYTES

POOL_LIMIT_BYTES: Final = 6000
"""Limit of unread bytes; the pool holds 7,168."""
KNOWN_RATE: Final = 60_000.0
"""Bytes per second: a V3.0 was measured at 57.3 to 59.2 kB/s."""
_FULL_LINE_BYTES: Final = BUFFER_BYTES - 256
"""A terminal with this many bytes may have stopped the sender: Linux does so from 128 bytes
below the buffer's size (n_tty.c)."""


class Pace:
    """Estimate of a device's unread bytes since its last flush.

    Args:
        now: The time of the flush in seconds.
    """

    def __init__(self, now: float) -> None:
        self._at = now
        self._unread = 0.0

    def took(self, size: int, asked: int, now: float) -> None:
        """Record that a read requested `asked` bytes and returned `size`."""
        held_up = size >= min(asked, _FULL_LINE_BYTES)  # otherwise the sender was not blocked
        self._unread = max(0.0, self._made(now) - size) if held_up else 0.0
        self._at = now

    def overflows(self, now: float) -> bool:
        """Return whether the pool may have overflowed."""
        return self._made(now) > POOL_LIMIT_BYTES

    def _made(self, now: float) -> float:
        return self._unread + KNOWN_RATE * (now - self._at)
