"""The broker's record of one consumer: quota, DRBG and counters."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from drawwell.crypto.drbg import Drbg
from drawwell.entropy.blocks import DrawClass, DrawRequest, Origins
from drawwell.entropy.quota import QuotaState
from drawwell.errors import DrawRefused, DrawwellError, PermissionRefused
from drawwell.reports import ConsumerReport
from drawwell.units import Allowance


@dataclass(frozen=True, slots=True)
class Terms:
    """A consumer's limits and rights; None means no limit.

    `stream` permits a continuous stream without requests. `guest` is the kind of guest.
    """

    classes: frozenset[DrawClass]
    rate: Allowance | None
    total: Allowance | None
    weight: int = 1
    stream: bool = False
    guest: str = ""

    @property
    def stream_class(self) -> DrawClass | None:
        """The class of the consumer's stream, or None if it has no stream."""
        if not self.stream:
            return None
        return DrawClass.FULL if DrawClass.FULL in self.classes else DrawClass.DRBG


class AnyQuota(Protocol):
    """An account's quota: one broker's `Quota` or a fleet's `LeasedQuota`."""

    def admit(self, n: int, now: float) -> bool:
        """Charge `n` bytes, or return False if a reservation is needed first."""

    def check(self, n: int, now: float) -> None:
        """Raise an error if `n` bytes must be refused now."""

    def reservation(self, n: int, now: float) -> Any:
        """Return the reservation to write before `n` bytes are charged, or None."""

    def confirm(self, granted: Any, /) -> None:
        """Record how much of the last reservation was granted."""

    def change(self, rate: Allowance | None, total: Allowance | None, now: float) -> None:
        """Apply new limits."""

    def left(self, now: float) -> int | None:
        """Return how many bytes of the total are left, or None without a total."""


class Lease(NamedTuple):
    """A consumer's terms and last written reservation."""

    terms: Terms
    reserved: QuotaState | None


@dataclass(slots=True)
class Account:
    """A consumer's terms, quota, DRBG and counters."""

    name: str
    terms: Terms
    quota: AnyQuota
    drbg: Drbg | None = None
    seeded_at: float = 0.0
    seed_origins: Origins = frozenset()
    draws: int = 0
    refused: int = 0
    full_bytes: int = 0
    drbg_bytes: int = 0
    reserving: asyncio.Lock = field(default_factory=asyncio.Lock)

    def report(self, now: float) -> ConsumerReport:
        """Return the consumer's current report."""
        return ConsumerReport(
            name=self.name,
            draws=self.draws,
            refused=self.refused,
            full_bytes=self.full_bytes,
            drbg_bytes=self.drbg_bytes,
            rate=str(self.terms.rate or ""),
            quota=str(self.terms.total or ""),
            quota_left_bytes=self.quota.left(now),
            draw_class="+".join(sorted(self.terms.classes)),
            stream=str(self.terms.stream_class or ""),
            guest=self.terms.guest,
        )

    def change(self, terms: Terms, now: float) -> None:
        """Apply new terms; spent bytes stay spent."""
        self.quota.change(terms.rate, terms.total, now)
        self.terms = terms

    def wipe(self) -> None:
        """Erase the DRBG's state."""
        if self.drbg:
            self.drbg.wipe()
            self.drbg = None


def unentitled(
    account: Account | None, consumer: str, request: DrawRequest, max_draw_bytes: int
) -> DrawwellError:
    """Return the error for a draw that can never be granted to this consumer."""
    if account is None:
        return PermissionRefused(
            f"unknown consumer {consumer!r}",
            hint="List the consumers with 'drawwell consumer list', or add one with 'drawwell consumer invite'.",
        )
    if not 1 <= request.n_bytes <= max_draw_bytes:
        return DrawRefused(
            f"cannot draw {request.n_bytes} bytes, only 1 to {max_draw_bytes}", hint="Draw in several pieces."
        )
    return DrawRefused(
        f"{consumer} may not draw class {request.draw_class}",
        hint=f"Draw class {' or '.join(sorted(account.terms.classes))}, or ask the operator for the other class.",
    )
