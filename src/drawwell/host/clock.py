"""Time that follows the wall clock forwards and never goes back."""

import logging
import time
from typing import Final

from drawwell import __build_date__

log = logging.getLogger("drawwell")

BUILD_DATE: Final = float(__build_date__)
_DAY_S: Final = 86400.0


def clock_is_set() -> bool:
    """Return whether the clock shows a plausible time, not a date near 1970.

    Until the clock is set, dates in certificates are ignored; all other fields are checked.
    """
    return time.time() >= BUILD_DATE


def clock_remark() -> str:
    """Return a note that the clock is not set, or ""."""
    if clock_is_set():
        return ""
    shown = time.strftime("%Y-%m-%d", time.gmtime())
    return f"the clock shows {shown} and was never set: certificates' dates are not checked until it is"


def suspended_s() -> float:
    """Return the seconds of suspension since boot (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


class WallClock:
    """Seconds since the epoch that never go back.

    The time grows at least as fast as CLOCK_BOOTTIME, follows a wall clock that is set
    forward, and is never before the build date of this program.

    Args:
        not_before: A time stored by an earlier run, or 0. The clock starts no earlier, unless
            this time is over a day ahead of the wall clock; it is then assumed to be wrong.
    """

    def __init__(self, not_before: float = 0.0) -> None:
        wall = time.time()
        self._jump = ""
        if clock_is_set() and not_before > wall + _DAY_S:
            self._report(
                f"the clock is {_days(not_before - wall)} behind the time of an earlier run; trusting the clock"
            )
            not_before = 0.0
        self._was_set = clock_is_set()
        self._offset = max(wall, not_before, BUILD_DATE) - time.clock_gettime(time.CLOCK_BOOTTIME)

    def __call__(self) -> float:
        since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
        step_s = time.time() - since_boot - self._offset
        if step_s > 0:
            self._offset += step_s
            if step_s > _DAY_S and self._was_set:
                self._report(f"the clock was set forward by {_days(step_s)} while the broker ran")
            self._was_set = clock_is_set()
        return since_boot + self._offset

    def undoubted(self) -> float:
        """Return the time, or 0.0 after a jump of the clock."""
        return 0.0 if self.note() else self()

    def dates(self) -> float:
        """Return the time for certificates: the wall clock's, if plausible.

        Unlike the time for quotas, it can go back, so that a certificate from the future is
        replaced.
        """
        now = time.time()
        return now if now >= BUILD_DATE else self()

    def note(self) -> str:
        """Describe the last jump of the clock; "" if there was none."""
        ahead_s = self() - time.time()
        if clock_is_set() and ahead_s > _DAY_S:
            return f"the clock was set back by {_days(ahead_s)}; quotas use the later time until a restart"
        return self._jump

    def _report(self, jump: str) -> None:
        self._jump = jump
        log.warning("%s", jump)


def _days(seconds: float) -> str:
    return f"{seconds / _DAY_S:.0f} days"
