"""Time that follows the wall clock forward and never steps back."""

import logging
import time
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


def suspended_s() -> float:
    """Return the seconds that this machine was suspended since it booted (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


class WallClock:
    """Seconds since the epoch: never back, and at least as fast as CLOCK_BOOTTIME.

    A machine that boots with its clock behind is corrected as soon as the wall clock is. It starts no
    earlier than this program was made.

    Args:
        not_before: A time noted in an earlier life, 0 for none. The clock starts no earlier, unless that is
            more than a day ahead of the wall: then the clock was wrong in that life.
    """

    def __init__(self, not_before: float = 0.0) -> None:
        wall = time.time()
        self._jump = ""
        if clock_is_set() and not_before > wall + _DAY_S:
            self._report(
                f"the clock is {_days(not_before - wall)} behind what an earlier run noted; it is believed"
            )
            not_before = 0.0
        self._was_set = clock_is_set()
        self._offset = max(wall, not_before, BUILD_DATE) - time.clock_gettime(time.CLOCK_BOOTTIME)

    def __call__(self) -> float:
        """Return the time."""
        since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        step_s = time.time() - since_boot - self._offset
        if step_s > 0:
            self._offset += step_s
            if step_s > _DAY_S and self._was_set:
                self._report(f"the clock was set forward by {_days(step_s)} while the broker ran")
            self._was_set = clock_is_set()
        return since_boot + self._offset

    def dates(self) -> float:
        """Return the time that certificates go by: the wall's, where that can be.

        Quotas never go back; a certificate from a future that was a mistake must be replaced.
        """
        now = time.time()
        return now if now >= BUILD_DATE else self()

    def note(self) -> str:
        """Describe the last jump of the clock, "" for none."""
        ahead_s = self() - time.time()
        if clock_is_set() and ahead_s > _DAY_S:
            return f"the clock was set back by {_days(ahead_s)}; quotas go by the later time until a restart"
        return self._jump

    def _report(self, jump: str) -> None:
        self._jump = jump
        log.warning("%s", jump)


def _days(seconds: float) -> str:
    return f"{seconds / _DAY_S:.0f} days"
