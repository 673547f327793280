"""The allowance of a consumer: a token bucket and a total per period.

Laws:
- Only bytes that were reserved on disk are charged. So a crash can only reduce the delivered
  bytes: all reserved bytes count as spent, and the bucket starts empty.
- In any t seconds at most ``rate * t + max(burst, n)`` bytes are charged. The burst is one
  second of the rate, and n is the largest refused draw for which the bucket is saving.
- All sums are of integers. Each time is converted to nanoseconds separately, and times are
  never added up, so rounding errors do not accumulate over years.

`now` is in seconds since the epoch, on a clock that never steps back while the process runs.
Periods are aligned to the epoch: a day starts at midnight UTC.

A draw calls `admit`, which charges the draw if the state on disk covers it. Otherwise the
caller writes and confirms a `reservation`, and then tries again, because another draw may have
been charged in the meantime.
"""

import math
from dataclasses import dataclass
from typing import Final

from drawwell.entropy.token_bucket import SECOND_NS, TokenBucket
from drawwell.errors import DrawRefused, QuotaExceeded
from drawwell.units import Allowance, format_size

DAY_S: Final = 86_400
_UNRATED_SHARE: Final = 1024
"""Without a rate, 1/1024 of the total is reserved at a time, and a crash loses no more."""


@dataclass(frozen=True, slots=True)
class QuotaState:
    """The state on disk: `reserved_bytes` count as spent in period `period`.

    `period_s` is the length of a period; periods are numbered from the epoch. Without a total
    a period is a day, and the state records that the consumer has drawn on that day.
    """

    period: int = 0
    period_s: float = 0.0
    reserved_bytes: int = 0


class Quota:
    """The allowance of one consumer; None means no limit.

    Args:
        rate: The sustained rate, limited by a token bucket.
        total: Bytes per period.
        now: Seconds since the epoch.
        restored: The last written state, or None for a consumer that has never drawn.

    Raises:
        ValueError: an allowance is not positive.
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
        """Change the limits; bytes spent in the current period stay spent."""
        self._advance(now)
        self._install(rate, total)

    def check(self, n: int, now: float) -> None:
        """Check that `n` bytes can be charged now, without charging them.

        If a draw larger than the burst is refused, the bucket can grow to `n` until that draw
        is served.

        Raises:
            QuotaExceeded: not yet; `n` bytes can be charged after exactly `retry_after_s`.
            DrawRefused: `n` is more than the total.
            ValueError: `n` is less than one.
        """
        if n < 1:
            raise ValueError(f"a draw must be at least one byte, not {n}")
        if self._total and n > self._total.limit_bytes:
            raise DrawRefused(
                f"a draw of {format_size(n)} exceeds the quota of {self._total}",
                hint="Draw fewer bytes at a time, or ask the broker's operator for a higher quota.",
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
            hint="Wait, or ask the broker's operator to raise it with 'drawwell consumer quota'.",
        )

    def admit(self, n: int, now: float) -> bool:
        """Charge `n` bytes; return False if a reservation must be written first.

        Raises:
            The same errors as `check`.
        """
        if n < 1:
            raise ValueError(f"a draw must be at least one byte, not {n}")
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
        """Return the state to write to disk before charging `n` bytes, or None.

        The state reserves at most one second of the rate in advance, or a single larger draw.
        """
        self._advance(now)
        if self._covered(n):
            return None
        if self._total is None:
            return QuotaState(*self._day())
        ahead = max(n, self._ahead_bytes(self._total))
        reserved = min(self._spent + ahead, self._total.limit_bytes)
        return QuotaState(self._period, self._total.period_s, reserved)

    def confirm(self, state: QuotaState) -> None:
        """Record that `state` is on disk."""
        self._durable = state

    def left(self, now: float) -> int | None:
        """Return the rest of this period's total, or None without a total."""
        self._advance(now)
        return max(0, self._total.limit_bytes - self._spent) if self._total else None

    def _plausible(self, period: int) -> int:
        """Limit `period` to the next period, because a later one is a clock error."""
        return min(period, self._now_ns // self._period_ns + 1) if self._period_ns else period

    def _install(self, rate: Allowance | None, total: Allowance | None) -> None:
        for allowance in (rate, total):
            if allowance and (allowance.limit_bytes < 1 or _nanoseconds(allowance.period_s) < 1):
                raise ValueError("an allowance must be at least a byte per at least a nanosecond")
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
        """Advance to `now` and its period; ignore a clock that steps back."""
        self._now_ns = now_ns = max(self._now_ns, int(now * SECOND_NS))
        if self._total and now_ns >= self._period_end_ns:
            self._enter_period(self._period_ns)
        return now_ns

    def _enter_period(self, period_ns: int) -> None:
        """Use periods of `period_ns`; spent bytes count until their period ends.

        If the clock was set back, bytes spent in a later period count until that period ends.
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
        """Return the time at which the total has room for `n` bytes."""
        if self._total is None or self._spent + n <= self._total.limit_bytes:
            return now_ns
        return self._period_end_ns

    def _covered(self, n: int) -> bool:
        if self._total is None:
            drawn = self._durable and (self._durable.period, self._durable.period_s)
            return self._rate is None or drawn == self._day()
        return (
            self._durable is not None
            and (self._durable.period, self._durable.period_s) == (self._period, self._total.period_s)
            and self._spent + n <= self._durable.reserved_bytes
        )

    def _day(self) -> tuple[int, float]:
        return self._now_ns // (DAY_S * SECOND_NS), float(DAY_S)

    def _ahead_bytes(self, total: Allowance) -> int:
        if self._rate is None:
            return total.limit_bytes // _UNRATED_SHARE
        return self._rate.limit_bytes * SECOND_NS // _nanoseconds(self._rate.period_s)


def _nanoseconds(seconds: float) -> int:
    return int(seconds * SECOND_NS)


def _wait_s(now: float, ready_ns: int) -> float:
    """Return the smallest float s with ``now + s`` >= `ready_ns`."""
    wait_s = (ready_ns - _nanoseconds(now)) / SECOND_NS
    while _nanoseconds(now + wait_s) < ready_ns:
        wait_s += math.ulp(now + wait_s)
    return wait_s
