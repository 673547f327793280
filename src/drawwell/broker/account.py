"""What the broker keeps for one consumer: its quota, its DRBG, and what it was given."""

import asyncio
from dataclasses import dataclass, field
from typing import NamedTuple

from drawwell.crypto.drbg import Drbg
from drawwell.entropy.blocks import DrawClass, DrawRequest, Origins
from drawwell.entropy.quota import Quota, QuotaState
from drawwell.errors import DrawRefused, DrawwellError, PermissionRefused
from drawwell.reports import ConsumerReport
from drawwell.units import Allowance


@dataclass(frozen=True, slots=True)
class Terms:
    """What one consumer may have; None is no limit. `stream`: a stream where it cannot ask; `guest`: of which kind."""

    classes: frozenset[DrawClass]
    rate: Allowance | None
    total: Allowance | None
    weight: int = 1
    stream: bool = False
    guest: str = ""

    @property
    def stream_class(self) -> DrawClass | None:
        """The class of its stream, None for no stream."""
        if not self.stream:
            return None
        return DrawClass.FULL if DrawClass.FULL in self.classes else DrawClass.DRBG


class Lease(NamedTuple):
    """What an account is opened with: its terms, and what it has reserved before."""

    terms: Terms
    reserved: QuotaState | None


@dataclass(slots=True)
class Account:
    """One consumer, its terms, and what it had."""

    name: str
    terms: Terms
    quota: Quota
    drbg: Drbg | None = None
    seeded_at: float = 0.0
    seed_origins: Origins = frozenset()
    draws: int = 0
    refused: int = 0
    full_bytes: int = 0
    drbg_bytes: int = 0
    reserving: asyncio.Lock = field(default_factory=asyncio.Lock)

    def count(self, n_bytes: int, draw_class: DrawClass) -> None:
        """Count one grant."""
        self.draws += 1
        if draw_class is DrawClass.FULL:
            self.full_bytes += n_bytes
        else:
            self.drbg_bytes += n_bytes

    def report(self, now: float) -> ConsumerReport:
        """The consumer as it is now."""
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
        """Go by other terms from now on; what was spent stays spent."""
        self.quota.change(terms.rate, terms.total, now)
        self.terms = terms

    def wipe(self) -> None:
        """Forget the DRBG's state."""
        if self.drbg:
            self.drbg.wipe()
            self.drbg = None


def unentitled(
    account: Account | None, consumer: str, request: DrawRequest, max_draw_bytes: int
) -> DrawwellError:
    """Return why a consumer can never be granted this draw."""
    if account is None:
        return PermissionRefused(
            f"no consumer is called {consumer!r} here",
            hint="See 'drawwell consumer list' on the broker; 'drawwell consumer invite' adds one.",
        )
    if not 1 <= request.n_bytes <= max_draw_bytes:
        return DrawRefused(
            f"a draw is 1 to {max_draw_bytes} bytes, not {request.n_bytes}", hint="Draw in several pieces."
        )
    return DrawRefused(
        f"{consumer} may not draw class {request.draw_class}",
        hint=f"Ask for class {' or '.join(sorted(account.terms.classes))}, or have the operator allow it.",
    )
