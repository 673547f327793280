"""A consumer's quota in a fleet: bytes leased from the fleet's store.

Laws:
- Only leased bytes are served, and a lease is not used before it is durable. A crash loses the
  unused part of a lease.
- A lease from a total ends with the store's period. The remaining seconds are counted from
  the start of the request, so a slow answer makes the lease shorter.
- In any t seconds at most ``rate * t + max(burst, n)`` bytes plus the earlier leases are
  served. The burst is one second of the rate, and n is the largest draw.

`now` is in seconds on a clock that never stops or steps back, even during suspend.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from drawwell.errors import DrawRefused, PermissionRefused, QuotaExceeded
from drawwell.units import Allowance, format_size

ASK_AGAIN_S: Final = 5.0
"""How long to reuse a refusal; then other brokers may have returned leased bytes."""
REVOKED: Final = "revoked"


@dataclass(frozen=True, slots=True)
class LeaseAsk:
    """A request; the limits apply if the store does not have the consumer."""

    want_bytes: int
    rate: Allowance | None
    total: Allowance | None


@dataclass(frozen=True, slots=True)
class LeaseGrant:
    """The store's answer: all of the wanted bytes, or none.

    Args:
        granted_bytes: The leased bytes, or 0 for a refusal.
        remaining_bytes: The bytes of the total that remain, or None without a total.
        period: The store's number for the period of the total, or None without a total.
        ends_s: Seconds from the request to the end of the period.
        wait_s: Seconds after which a refused request could be granted.
        reason: The reason for a refusal: ``quota``, ``rate``, ``revoked``, or "".
    """

    granted_bytes: int
    remaining_bytes: int | None = None
    period: int | None = None
    ends_s: float | None = None
    wait_s: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Unused:
    """Leased bytes to return to the total of `period`."""

    period: int
    unused_bytes: int


class LeasedQuota:
    """The allowance of a fleet's consumer at one broker; None means no limit.

    Args:
        rate: The sustained rate in bytes per period, with a burst.
        total: Bytes in each period.
        require: Raises StateUnavailable if the store has been unreachable for too long.
    """

    def __init__(self, rate: Allowance | None, total: Allowance | None, require: Callable[[], None]) -> None:
        self._rate, self._total = rate, total
        self._require = require
        self._left = self._returned = 0
        self._period: int | None = None
        self._ends = math.inf
        self._remaining: int | None = None
        self._asked = LeaseAsk(0, rate, total)
        self._asked_at = self._used_at = -math.inf
        self._refusal = LeaseGrant(0)

    @property
    def leased_bytes(self) -> int:
        """Leased bytes that are not spent yet."""
        return self._left

    def change(self, rate: Allowance | None, total: Allowance | None, now: float) -> None:
        """Change the limits; set the leased bytes aside for the next `give_back`."""
        self._advance(now)
        self._returned, self._left = self._returned + self._left, 0
        self._rate, self._total = rate, total
        self._remaining, self._refusal = None, LeaseGrant(0)

    def check(self, n: int, now: float) -> None:
        """Check, by the store's last answer, that `n` bytes can be charged.

        Raises:
            QuotaExceeded: the store refused this amount; `retry_after_s` is from its answer.
            DrawRefused: `n` exceeds the entire quota.
            PermissionRefused: the consumer is revoked.
            StateUnavailable: the store has been unreachable for too long.
        """
        if n < 1:
            raise ValueError(f"a draw must be at least one byte, not {n}")
        self._require()
        if self._total and n > self._total.limit_bytes:
            raise DrawRefused(
                f"a draw of {format_size(n)} exceeds the quota of {self._total}",
                hint="Draw fewer bytes at a time, or ask the fleet's owner to raise the quota.",
            )
        refusal, age_s = self._refusal, now - self._asked_at
        held_s = ASK_AGAIN_S if refusal.reason == REVOKED else min(refusal.wait_s, ASK_AGAIN_S)
        if not refusal.reason or n < self._left + self._asked.want_bytes or age_s >= held_s:
            return
        if refusal.reason == REVOKED:
            raise PermissionRefused(
                "this consumer is revoked", hint="Ask the fleet's owner to invite it again."
            )
        which = f"quota of {self._total}" if refusal.reason == "quota" else f"rate of {self._rate}"
        raise QuotaExceeded(
            f"{which} is used up",
            retry_after_s=max(0.0, refusal.wait_s - age_s),
            hint="Wait, or ask the fleet's owner to raise it with 'drawwell consumer quota'.",
        )

    def admit(self, n: int, now: float) -> bool:
        """Charge `n` bytes, or return False if a lease is needed first.

        Raises:
            The same errors as `check`.
        """
        self._advance(now)
        if n > self._left and (self._rate or self._total):
            self.check(n, now)
            return False
        self._require()
        if self._rate or self._total:
            self._left -= n
            self._used_at = now
        return True

    def reservation(self, n: int, now: float) -> LeaseAsk | None:
        """Return the lease required for `n` bytes, or None if they are leased."""
        self._advance(now)
        if n <= self._left or not (self._rate or self._total):
            return None
        self._asked, self._asked_at = LeaseAsk(n - self._left, self._rate, self._total), now
        return self._asked

    def confirm(self, grant: LeaseGrant) -> None:
        """Record how much of the last `reservation` the store granted."""
        if (self._asked.rate, self._asked.total) != (self._rate, self._total):
            self._returned += grant.granted_bytes if grant.period == self._period else 0
            return
        if grant.period != self._period:
            self._left = self._returned = 0
        self._period, self._remaining = grant.period, grant.remaining_bytes
        self._ends = math.inf if grant.ends_s is None else self._asked_at + grant.ends_s
        self._left += grant.granted_bytes
        self._used_at = self._asked_at
        self._refusal = grant

    def left(self, now: float) -> int | None:
        """Return the rest of the total as last known, or None without a total."""
        self._advance(now)
        if self._total is None:
            return None
        return self._total.limit_bytes if self._remaining is None else self._remaining + self._left

    def give_back(self, now: float, idle_s: float) -> Unused | None:
        """Take the bytes to return: those set aside, and all if idle for `idle_s`."""
        self._advance(now)
        if now - self._used_at >= idle_s:
            self._returned, self._left = self._returned + self._left, 0
        unused, self._returned = self._returned, 0
        return Unused(self._period, unused) if unused and self._period is not None else None

    def forfeit(self) -> None:
        """Drop all leased bytes, because a copy of this machine could serve them."""
        self._left = self._returned = 0

    def _advance(self, now: float) -> None:
        if now >= self._ends:
            self._left = self._returned = 0
            self._ends = math.inf
            self._remaining = None
