"""The broker: draws and control verbs behind every door.

There is no await between the last check of a draw and its grant, so the check stays valid.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from drawwell import __version__
from drawwell.authorisation import Principal
from drawwell.broker.account import Account, unentitled
from drawwell.broker.account_book import AccountBook, Leasing, QuotaMaker, none_else, own_quota
from drawwell.broker.audit_log import AuditTally
from drawwell.broker.devices import device_ids
from drawwell.broker.draw_counts import DrawCounts
from drawwell.broker.queue import LEAST_PATIENCE_S, QueuedDraw
from drawwell.broker.receipts import Signing
from drawwell.broker.reservations import ReservationWriter
from drawwell.broker.supply import Supply, no_source_hint
from drawwell.crypto.drbg import Drbg
from drawwell.crypto.receipts import ReceiptBody, ReceiptSource
from drawwell.entropy.blocks import DrawClass, DrawRequest, Grant, Origins
from drawwell.entropy.combining import combined_rate
from drawwell.entropy.credit import by_source, evidence_of, weakest
from drawwell.entropy.turns import Turn
from drawwell.errors import DrawRefused, DrawwellError, NoHealthySource, PermissionRefused, Refused, Starved
from drawwell.ports import Source
from drawwell.reports import BrokerReport, ConsumerReport, Evidence, SourceState
from drawwell.wire.limits import MAX_DRAW_BYTES, RECEIPT_KEY_BYTES

SEED_BYTES = 48
"""384 bits: entropy input and nonce of a DRBG with 256-bit strength (SP 800-90A r1, 8.6.7)."""
LONGEST_WAIT_S = 365 * 86_400.0
"""Limits the retry time if a source reports a speed near zero."""
ADDITIONAL_BYTES = 32


@dataclass(frozen=True, slots=True)
class Rules:
    """The broker's own settings."""

    name: str
    min_sources: int = 1
    reseed_interval_s: float = 3600.0
    max_draw_bytes: int = MAX_DRAW_BYTES


class _Wait(NamedTuple):
    """The reason why a draw must wait.

    Either the reservoir cannot provide `needed_bytes` yet, or a reservation for `cost` bytes
    must be written first. If both are 0, the consumer's account must be opened first.
    """

    needed_bytes: int
    cost: int = 0


_NO_ACCOUNT: Final = _Wait(0)


async def _no_calls(_principal: Principal, _verb: str, _args: dict[str, Any]) -> dict[str, Any]:
    raise PermissionRefused("this broker does not accept control verbs")


class LocalBroker:
    """Serves draws from one supply.

    Args:
        rules: The broker's settings.
        supply: Reservoir and ledger.
        sources: The initial sources.
        write_ahead: Makes quota reservations durable.
        signing: Signs receipts.
        first_serial: Higher than any serial number ever granted.
        fresh: Returns bytes from the operating system's generator, for receipt keys and as
            DRBG input without credit (SP 800-90A r1, 8.7.2).
        clock: Returns seconds since the epoch, and never steps back.
        lease: Finds a consumer; returns None if it may not draw. Can raise StateUnavailable.
        make_quota: Creates the quota of a new account.
        tally: Counts grants and refusals for the audit log.
        control: Answers `call`.
        cut_off: Returns why a fleet's consumer gets no bytes; for reports only.
    """

    def __init__(
        self,
        rules: Rules,
        supply: Supply,
        sources: Iterable[Source],
        *,
        write_ahead: ReservationWriter,
        signing: Signing,
        first_serial: int,
        fresh: Callable[[int], bytes],
        clock: Callable[[], float],
        lease: Leasing = none_else,
        make_quota: QuotaMaker = own_quota,
        cut_off: Callable[[str], str] = lambda _: "",
        tally: AuditTally | None = None,
        control: Callable[[Principal, str, dict[str, Any]], Awaitable[dict[str, Any]]] = _no_calls,
    ) -> None:
        self.rules = rules
        self.sources: dict[str, Source] = {}
        self.book = AccountBook(supply.queue, lease, clock, make_quota)
        self.accounts = self.book.accounts
        self.tally = tally or AuditTally()
        self._counts = DrawCounts()
        self._control = control
        self._cut_off = cut_off
        self._supply = supply
        self._queue = supply.queue
        self._write_ahead = write_ahead
        self._signing, self.sign = signing, signing.sign
        self._serial = first_serial
        self._fresh = fresh
        self._clock = clock
        self._started = clock()
        self._evidence = Evidence.DEVICE
        self._not_ready = self._why_not_ready()
        for source in sources:
            self.add_source(source)

    # ---- draws -----------------------------------------------------------------------------

    def try_draw(self, principal: Principal, request: DrawRequest) -> Grant | None:
        """Grant the draw unless it has to wait; see `ports.Broker.try_draw`.

        A draw with prediction resistance is also charged for its seed. Otherwise, single-byte
        draws could empty the reservoir.
        """
        consumer = principal.name
        try:
            outcome = self._attempt(consumer, request)
            if isinstance(outcome, Grant):
                return outcome
            if outcome.needed_bytes and request.patience_s < LEAST_PATIENCE_S:
                raise self._starved(self._queue.short_by(None, outcome.needed_bytes))
        except DrawwellError as error:
            self._count_refusal(consumer, request, error)
            raise
        return None

    async def draw(self, principal: Principal, request: DrawRequest) -> Grant:
        """Grant the draw, waiting if necessary; see `ports.Broker.draw`."""
        consumer = principal.name
        queued = QueuedDraw(self._queue, consumer, request.patience_s)
        try:
            while True:
                outcome = self._attempt(consumer, request, queued.turn)
                if isinstance(outcome, Grant):
                    self._counts.waited(queued.age_s)
                    return outcome
                if outcome.needed_bytes:
                    await queued.wait(outcome.needed_bytes, self._starved)
                elif outcome.cost:
                    await self._reserve(consumer, outcome.cost)
                elif await self.book.open(consumer) is None:
                    raise unentitled(None, consumer, request, self.rules.max_draw_bytes)
        except DrawwellError as error:
            self._count_refusal(consumer, request, error)
            raise
        finally:
            queued.leave()

    def _attempt(self, consumer: str, request: DrawRequest, turn: Turn | None = None) -> Grant | _Wait:
        """Check terms, readiness, supply and quota; grant the draw if permitted."""
        account = self.accounts.get(consumer)
        if account is None:
            return _NO_ACCOUNT
        if (
            request.draw_class not in account.terms.classes
            or not 1 <= request.n_bytes <= self.rules.max_draw_bytes
        ):
            raise unentitled(account, consumer, request, self.rules.max_draw_bytes)
        if request.receipt:
            self._signing.require()
        if self._not_ready:
            raise NoHealthySource(self._not_ready, hint=no_source_hint(self.sources.values()))
        now, cost = self._clock(), request.n_bytes + SEED_BYTES * request.prediction_resistance
        seed_due = (
            account.drbg is None
            or request.prediction_resistance
            or now - account.seeded_at >= self.rules.reseed_interval_s
        )
        needed = SEED_BYTES if seed_due else 0
        if request.draw_class is DrawClass.FULL:
            needed += request.n_bytes
        if needed and not self._queue.may_go(turn, needed):
            account.quota.check(cost, now)
            return _Wait(needed)
        if not account.quota.admit(cost, now):
            return _Wait(0, cost)
        if needed:
            self._queue.served(consumer, needed, account.terms.weight)
        if seed_due:
            self._seed(account, now)
        return self._grant(account, request)

    def _grant(self, account: Account, request: DrawRequest) -> Grant:
        n_bytes, draw_class, drbg = request.n_bytes, request.draw_class, account.drbg
        assert drbg is not None  # noqa: S101  always seeded by now, unless we have a bug
        # two copies of this process, restored from the same image, must return different bytes
        data = drbg.generate(n_bytes, self._fresh(ADDITIONAL_BYTES))
        if draw_class is DrawClass.DRBG:
            origins = account.seed_origins
            self._supply.ledger.drbg_bytes += n_bytes
            account.drbg_bytes += n_bytes
        else:
            taken = self._supply.take(n_bytes)
            mixed = int.from_bytes(taken.data, "little") ^ int.from_bytes(data, "little")
            taken.data[:] = bytes(n_bytes)
            data, origins = mixed.to_bytes(n_bytes, "little"), taken.origins
            account.full_bytes += n_bytes
        account.draws += 1
        self._serial += 1
        self._counts.granted[draw_class] += 1
        self.tally.granted(account.name, draw_class, n_bytes, self._serial, receipt=request.receipt)
        if not request.receipt:
            return Grant(data, self._serial, draw_class)
        key = self._fresh(RECEIPT_KEY_BYTES)
        body = self._receipt_body(account, data, draw_class, origins, key)
        return Grant(data, self._serial, draw_class, receipt_key=key, unsigned=body)

    async def _reserve(self, consumer: str, cost: int) -> None:
        """Write a reservation for `cost` bytes unless another draw has done so."""
        account = self.accounts.get(consumer)
        if account is None:
            return
        # if the draw is cancelled, a lease may already be granted and must be recorded
        await asyncio.shield(self._reserve_for(account, cost))

    async def _reserve_for(self, account: Account, cost: int) -> None:
        consumer = account.name
        async with account.reserving:
            if self.accounts.get(consumer) is not account:
                return
            state = account.quota.reservation(cost, self._clock())
            if state is not None:
                account.quota.confirm(await self._write_ahead.reserve(consumer, state))

    def _count_refusal(self, consumer: str, request: DrawRequest, error: DrawwellError) -> None:
        if request.retried and isinstance(error, Refused) and not isinstance(error, DrawRefused):
            return  # the door retries, so the peer does not see this refusal
        self.tally.refused(consumer, type(error).__name__)
        self._counts.refused[request.draw_class, type(error).__name__] += 1
        if consumer in self.accounts:
            self.accounts[consumer].refused += 1

    def _starved(self, missing_bytes: int) -> Starved:
        rate = self._supply_bytes_per_s()
        return Starved(
            f"the reservoir lacks {missing_bytes} bytes",
            retry_after_s=min(missing_bytes / rate, LONGEST_WAIT_S) if rate else None,
            estimate=True,
            hint="Wait and draw again. 'drawwell draw --wait 30s' does this automatically.",
        )

    def _seed(self, account: Account, now: float) -> None:
        seed = self._supply.take(SEED_BYTES)
        if account.drbg is None:
            account.drbg = Drbg(bytes(seed.data), account.name.encode()[:SEED_BYTES])
        else:
            account.drbg.reseed(bytes(seed.data))
        seed.data[:] = bytes(SEED_BYTES)
        account.seeded_at, account.seed_origins = now, seed.origins

    def _receipt_body(
        self, account: Account, data: bytes, draw_class: DrawClass, origins: Origins, key: bytes
    ) -> bytes:
        chosen = by_source(origins)  # each name once, to limit the receipt's size
        sources = tuple(ReceiptSource.of(chosen[name], self._state_of(name)) for name in sorted(chosen))
        return ReceiptBody.of(
            broker=self.rules.name,
            consumer=account.name,
            sources=sources,
            draw_class=draw_class,
            serial=self._serial,
            time=self._clock(),
            data=data,
            key=key,
            combined=max(1, self.rules.min_sources),
            audit=(self.tally.head.count, self.tally.head.digest),
            key_id=self._signing.key_id,
        ).checked()

    def _state_of(self, source: str) -> SourceState:
        if (found := self.sources.get(source)) is None:
            return SourceState.OFF
        return SourceState.HEALTHY if found.healthy else found.report().state

    def mix_in(self, principal: Principal, data: bytes) -> None:
        """Mix `data` into the caller's DRBG without credit (SP 800-90A r1, 9.3.1)."""
        account = self.accounts.get(principal.name)
        if account and account.drbg:
            account.drbg.generate(0, hashlib.sha384(data).digest())

    def available_bytes(self, consumer: str, draw_class: DrawClass) -> int:
        """Return the largest draw that supply and quota allow; ignore the rate."""
        account, now = self.accounts.get(consumer), self._clock()
        if account is None or draw_class not in account.terms.classes or self._not_ready:
            return 0
        seed_due = account.drbg is None or now - account.seeded_at >= self.rules.reseed_interval_s
        seed = SEED_BYTES if seed_due else 0
        beyond_seed = len(self._supply.reservoir) - seed
        if beyond_seed < 0 or not self._queue.may_go(None, seed):
            return 0
        most = beyond_seed if draw_class is DrawClass.FULL else self.rules.max_draw_bytes
        left = account.quota.left(now)
        return most if left is None else min(most, left)

    # ---- control and status ----------------------------------------------------------------

    async def call(self, principal: Principal, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Answer a control verb; see `drawwell.ports.Broker.call`."""
        return await self._control(principal, verb, args)

    def add_source(self, source: Source) -> None:
        """Add a source and follow its changes."""
        self.sources[source.name] = source
        source.when_changed(self._sources_changed)
        self._not_ready = self._why_not_ready()

    @property
    def evidence(self) -> Evidence:
        """The weakest evidence for any byte received so far.

        Removed sources count, because their bytes remain in the reservoir and the DRBGs.
        """
        healthy = (
            evidence_of(source.report().identity) for source in self.sources.values() if source.healthy
        )
        return weakest([self._evidence, *healthy])

    def healthy_sources(self) -> int:
        """Return how many sources are healthy now."""
        return sum(source.healthy for source in self.sources.values())

    def _credit(self) -> str:
        present = weakest(evidence_of(source.report().identity) for source in self.sources.values())
        if weakest([self._evidence, present]) is present:
            return ""
        return f"the evidence {self._evidence!r} of earlier bytes limits the kernel's credit until the broker restarts"

    def _sources_changed(self) -> None:
        """Update readiness; wake waiting draws, which may fail now."""
        self._evidence = self.evidence
        self._not_ready = self._why_not_ready()
        self.tally.sources_are(
            {name: each.health_epoch for name, each in self.sources.items() if each.healthy}
        )
        self._queue.wake_all()

    def not_ready_because(self, consumer: str = "") -> str:
        """Return why `consumer` ("": any in the fleet) gets no bytes, else ""."""
        return self._not_ready or self._cut_off(consumer)

    def _why_not_ready(self) -> str:
        healthy, wanted = self.healthy_sources(), self.rules.min_sources
        if healthy >= wanted:
            return ""
        if not self.sources:
            return f"no noise source is connected, but min_sources is {wanted}"
        return f"{healthy} of {len(self.sources)} noise sources are healthy, but min_sources is {wanted}"

    async def consumer_report(self, name: str) -> ConsumerReport | None:
        """Return a consumer's report, or None if it may not draw."""
        account = await self.book.open(name)
        return account.report(self._clock()) if account else None

    def _supply_bytes_per_s(self) -> float:
        rates = (source.supply_bytes_per_s for source in self.sources.values() if source.healthy)
        return combined_rate(rates, max(1, self.rules.min_sources))

    def report(self) -> BrokerReport:
        """Return the broker's report, without its process's doors and sinks."""
        now = self._clock()
        reservoir = self._supply.reservoir
        why = self.not_ready_because()
        return BrokerReport(
            name=self.rules.name,
            version=__version__,
            uptime_s=now - self._started,
            ready=not why,
            not_ready_because=why,
            min_sources=self.rules.min_sources,
            healthy_sources=self.healthy_sources(),
            reservoir_bytes=len(reservoir),
            reservoir_capacity_bytes=reservoir.capacity_bytes,
            supply_bytes_per_s=self._supply_bytes_per_s(),
            ledger=self._supply.report(),
            draws=self._counts.report(self._queue.starved_s(), self._signing.lost),
            sources=tuple(source.report() for source in self.sources.values()),
            devices=device_ids(self.sources.values()),
            consumers_active=len(self.accounts),
            notes=tuple(filter(None, (self._credit(),))),
        )
