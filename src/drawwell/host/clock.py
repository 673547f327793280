"""Time that follows the wall clock forward and never steps back."""

import logging
import time
from collections.abc import Callable
from typing import Final

from drawwell import __build_date__

log = logging.getLogger("drawwell")

BUILD_DATE: Final = float(__build_date__)
_DAY_S: Final = 86400.0


def clock_is_set() -> bool:
    """Does the clock show a time that can be? One that begins in 1970 at boot does not, until somebody sets it.

    Until then dates in certificates are not judged by it; everything else about them is.
    """
    return time.time() >= BUILD_DATE


def clock_remark() -> str:
    """Say that the clock was not set, "" when it was."""
    if clock_is_set():
        return ""
    shown = time.strftime("%Y-%m-%d", time.gmtime())
    return f"the clock shows {shown} and was never set: the dates of certificates are not judged until it is"


def wall_clock(not_before: float = 0.0) -> Callable[[], float]:
    """Return a clock: seconds since the epoch, never back, and forward at least as fast as CLOCK_BOOTTIME.

    A machine that boots with its clock behind is corrected as soon as the wall clock is. It starts no earlier than
    this program was made.

    Args:
        not_before: A time already seen in an earlier life, 0 for none. The clock starts no earlier, unless that is
            more than a day ahead of the wall: then the clock was wrong in that life, and this one says so.
    """
    wall = time.time()
    if clock_is_set() and not_before > wall + _DAY_S:
        log.warning(
            "the clock is %.0f days behind what an earlier run noted; it is believed",
            (not_before - wall) / _DAY_S,
        )
        not_before = 0.0
    offset = max(wall, not_before, BUILD_DATE) - time.clock_gettime(time.CLOCK_BOOTTIME)

    def now() -> float:
        nonlocal offset
        since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        offset = max(offset, time.time() - since_boot)
        return since_boot + offset

    return now
