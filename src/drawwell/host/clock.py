"""Time that is anchored to the wall and never steps back."""

import time
from collections.abc import Callable


def wall_clock(not_before: float = 0.0) -> Callable[[], float]:
    """Return a clock: seconds since the epoch, advancing with CLOCK_BOOTTIME whatever is done to the wall clock.

    Args:
        not_before: A time already seen in an earlier life (0 for none); the clock starts no earlier, so that a
            machine without a battery does not forget that a quota was used up.
    """
    offset = max(time.time(), not_before) - time.clock_gettime(time.CLOCK_BOOTTIME)
    return lambda: time.clock_gettime(time.CLOCK_BOOTTIME) + offset
