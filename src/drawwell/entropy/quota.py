"""What one consumer may draw: a token bucket for its rate, and a total in each period.

Laws:
- Nothing is charged that was not reserved on disk first. A crash therefore under-delivers and never
  over-delivers: afterwards everything reserved counts as spent, and the bucket starts empty.
- In any span of t seconds at most ``rate * t + max(burst, n)`` bytes are charged: the burst is one second of
  the rate, n the largest draw that was refused and is being saved up for.
- Every sum is a sum of whole numbers. A time is turned into whole nanoseconds by itself, never added up, so
  nothing drifts over years.

`now` is in seconds since the epoch, by a clock that never steps back while the process runs. Periods are
aligned to the epoch: a day begins at midnight UTC.

A draw asks `admit`, which charges it if what is on disk covers it. If not, ``reservation`` is written down and
confirmed first, and the draw asks again: writing takes time, and another draw may have come in between.
"""

import math
from dataclasses import dataclass
from typing import Final

from drawwell.entropy.token_bucket import SECOND_NS, TokenBucket
from drawwell.errors import DrawRefused, QuotaExceeded
from drawwell.units import Allowance, format_size

_UNRATED_SHARE: Final = 1024
"""Without a rate, so many reservations make up a total: a crash costs at most this part of it."""


@dataclass(frozen=True, slots=True)
class QuotaState:
    """What a crash must not forget: in period number `period`, `reserved_bytes` count as spent.

    `period_s` is the length of the period that `period` counts since the epoch. All are 0 for a consumer
    without a total: that this state exists says that it has drawn.
    """

    period: int = 0
    period_s: float = 0.0
    reserved_bytes: int = 0


class Quota:
    """The allowance of one consumer. None means no limit.

    Args:
        rate: Bytes in every so many seconds, as a token bucket.
        total: Bytes in each period.
        now: Seconds since the epoch.
        restored: The state last written down, None for a consumer that never drew.

    Raises:
        ValueError: an allowance that is not positive.
    """

    def __init__(
        self,
        rate: Allowance | None,
        total: Allowance | None,
        *,
        now: float,
        restored: QuotaState | None = None,
    ) -> None:
        self._now_ns = _nanoseconds(now)
        self._rate: Allowance | None = None
        self._total: Allowance | None = None
        self._bucket: TokenBucket | None = None
        self._durable = restored
        self._period_ns = _nanoseconds(restored.period_s) if restored else 0
        self._period = self._plausible(restored.period) if restored else 0
        self._period_end_ns = 0
        self._spent = restored.reserved_bytes if restored else 0
        self._install(rate, total)
        if self._bucket and restored is None:
            self._bucket.fill_up()

    def change(self, rate: Allowance | None, total: Allowance | None, now: float) -> None:
        """Set other limits from now on; what was spent in the running period stays spent."""
        self._advance(now)
        self._install(rate, total)

    def check(self, n: int, now: float) -> None:
        """Return when `n` bytes may be charged now; nothing is charged by it.

        A refusal of more than the burst lets the bucket grow to `n` until that draw is served.

        Raises:
            QuotaExceeded: `retry_after_s` is the exact time after which the same check passes.
            DrawRefused: `n` is more than the whole total.
            ValueError: `n` is less than one.
        """
        if n < 1:
            raise ValueError("a draw is at least one byte")
        if self._total and n > self._total.limit_bytes:
            raise DrawRefused(
                f"a draw of {format_size(n)} is more than the whole quota of {self._total}",
                hint="Draw less at a time, or have the broker's operator raise the quota.",
            )
        now_ns = self._advance(now)
        rate_ns = self._bucket.ready_ns(n, now_ns) if self._bucket else now_ns
        total_ns = self._room_ns(n, now_ns)
        if max(rate_ns, total_ns) <= now_ns:
            return
        if self._bucket:
            self._bucket.save_for(n)
        which = f"quota of {self._total}" if total_ns >= rate_ns else f"rate of {self._rate}"
        raise QuotaExceeded(
            f"{which} is used up",
            retry_after_s=_wait_s(now, max(rate_ns, total_ns)),
            hint="Wait, or have the broker's operator raise it with 'drawwell consumer quota'.",
        )

    def admit(self, n: int, now: float) -> bool:
        """Charge `n` bytes and return True; return False, charging nothing, if a reservation must be written first.

        Raises:
            As `check`.
        """
        if n < 1:
            raise ValueError("a draw is at least one byte")
        now_ns = self._advance(now)
        total = self._total
        covered = self._covered(n) and not (total and self._spent + n > total.limit_bytes)
        if not covered or (self._bucket and not self._bucket.take(n, now_ns)):
            self.check(n, now)
            return False
        if total:
            self._spent += n
        return True

    def reservation(self, n: int, now: float) -> QuotaState | None:
        """Return the state that must be on disk before `n` bytes are charged, None when it is there already.

        It covers at most one second of the rate or one larger draw ahead of what was charged.
        """
        self._advance(now)
        if self._covered(n):
            return None
        if self._total is None:
            return QuotaState()
        ahead = max(n, self._ahead_bytes(self._total))
        reserved = min(self._spent + ahead, self._total.limit_bytes)
        return QuotaState(self._period, self._total.period_s, reserved)

    def confirm(self, state: QuotaState) -> None:
        """Take note that `state` is on disk now."""
        self._durable = state

    def left(self, now: float) -> int | None:
        """Return the bytes left of the total in this period, None without a total."""
        self._advance(now)
        return max(0, self._total.limit_bytes - self._spent) if self._total else None

    def _plausible(self, period: int) -> int:
        """Bring a period further ahead than the next one back: the clock that it comes from was wrong."""
        return min(period, self._now_ns // self._period_ns + 1) if self._period_ns else period

    def _install(self, rate: Allowance | None, total: Allowance | None) -> None:
        for allowance in (rate, total):
            if allowance and (allowance.limit_bytes < 1 or _nanoseconds(allowance.period_s) < 1):
                raise ValueError("an allowance is at least one byte in at least a nanosecond")
        old = self._bucket
        self._bucket = None
        if rate:
            level = old.level(self._now_ns) if old else (0, 1)
            period_ns = _nanoseconds(rate.period_s)
            self._bucket = TokenBucket(rate.limit_bytes, period_ns, now_ns=self._now_ns, level=level)
        self._rate, self._total = rate, total
        if total:
            self._enter_period(_nanoseconds(total.period_s))

    def _advance(self, now: float) -> int:
        """Move to `now`, into another period where one has begun; a clock that steps back is not followed."""
        self._now_ns = now_ns = max(self._now_ns, int(now * SECOND_NS))
        if self._total and now_ns >= self._period_end_ns:
            self._enter_period(self._period_ns)
        return now_ns

    def _enter_period(self, period_ns: int) -> None:
        """Keep the spent account in periods of `period_ns`; forget it only when its own period is over.

        An account of a period to come (the clock was set back) stays the current one until that period ends.
        """
        current = self._now_ns // period_ns
        begin_ns = self._period * self._period_ns
        if begin_ns + self._period_ns <= current * period_ns:
            self._period, self._spent = current, 0
        else:
            self._period = max(current, begin_ns // period_ns)
        self._period_ns = period_ns
        self._period_end_ns = (self._period + 1) * period_ns

    def _room_ns(self, n: int, now_ns: int) -> int:
        """Return when the total has room for `n`."""
        if self._total is None or self._spent + n <= self._total.limit_bytes:
            return now_ns
        return self._period_end_ns

    def _covered(self, n: int) -> bool:
        if self._total is None:
            return self._rate is None or self._durable is not None
        return (
            self._durable is not None
            and (self._durable.period, self._durable.period_s) == (self._period, self._total.period_s)
            and self._spent + n <= self._durable.reserved_bytes
        )

    def _ahead_bytes(self, total: Allowance) -> int:
        if self._rate is None:
            return total.limit_bytes // _UNRATED_SHARE
        return self._rate.limit_bytes * SECOND_NS // _nanoseconds(self._rate.period_s)


def _nanoseconds(seconds: float) -> int:
    return int(seconds * SECOND_NS)


def _wait_s(now: float, ready_ns: int) -> float:
    """Return the seconds after which ``now + seconds``, rounded as floats are, is not before `ready_ns`."""
    wait_s = (ready_ns - _nanoseconds(now)) / SECOND_NS
    while _nanoseconds(now + wait_s) < ready_ns:
        wait_s += math.ulp(now + wait_s)
    return wait_s
