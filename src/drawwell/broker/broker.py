"""The broker: the one call that every door is a shell of, and the control verbs beside it.

Between the last check of a draw and the grant there is no await: what was checked still holds when it is taken.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from drawwell import __version__
from drawwell.broker.account import Account, Terms
from drawwell.broker.audit_log import AuditTally
from drawwell.broker.queue import Line, Place
from drawwell.broker.reservations import ReservationWriter
from drawwell.broker.supply import Supply
from drawwell.crypto.drbg import CtrDrbg
from drawwell.crypto.receipts import ReceiptBody, ReceiptSigner, ReceiptSource
from drawwell.entropy.blocks import DrawClass, Grant, Origins
from drawwell.entropy.combining import combined_rate
from drawwell.entropy.credit import evidence_of, weakest
from drawwell.entropy.quota import Quota, QuotaState
from drawwell.errors import DrawRefused, DrawwellError, NoHealthySource, PermissionRefused, Refused, Starved
from drawwell.ports import Sink, Source
from drawwell.reports import BrokerReport, ConsumerReport, Evidence, SourceState
from drawwell.wire.limits import MAX_DRAW_BYTES, RECEIPT_KEY_BYTES

SEED_BYTES = 48
"""384 bits: seedlen of CTR_DRBG AES-256 without derivation function (SP 800-90A r1, table 3)."""
LONGEST_WAIT_S = 365 * 86_400.0
"""A source in another process says how fast it is, and may say next to nothing."""
ADDITIONAL_BYTES = 32


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration says of the broker as a whole."""

    name: str
    min_sources: int = 1
    reseed_interval_s: float = 3600.0
    max_draw_bytes: int = MAX_DRAW_BYTES


@dataclass(frozen=True, slots=True)
class _Ask:
    """What one draw asks for."""

    n_bytes: int
    draw_class: DrawClass
    prediction_resistance: bool

    @property
    def cost(self) -> int:
        """Bytes that the quota is charged."""
        return self.n_bytes + (SEED_BYTES if self.prediction_resistance else 0)


class LocalBroker:
    """Serves draws out of one supply.

    Args:
        rules: From the configuration.
        supply: Reservoir and ledger.
        sources: Those that deposit into the supply from the beginning.
        write_ahead: Makes quota reservations durable.
        signer: Signs receipts.
        first_serial: Higher than any serial number ever granted.
        fresh: Returns that many bytes from the operating system's generator: keys of receipts, and additional
            input to the DRBGs that counts as nothing (SP 800-90A r1, 8.7.2).
        clock: Seconds since the epoch, never stepping back.
    """

    def __init__(
        self,
        rules: Rules,
        supply: Supply,
        sources: Iterable[Source],
        *,
        write_ahead: ReservationWriter,
        signer: ReceiptSigner,
        first_serial: int,
        fresh: Callable[[int], bytes],
        clock: Callable[[], float],
    ) -> None:
        self.rules = rules
        self.sources: dict[str, Source] = {}
        self.accounts: dict[str, Account] = {}
        self.control: Callable[[str, str, dict[str, Any]], Any] | None = None
        self.doors: tuple[str, ...] = ()
        self.guest_doors: Callable[[], tuple[str, ...]] = tuple
        """Those that come and go."""
        self.sinks: tuple[Sink, ...] = ()
        self.remarks: tuple[Callable[[], str], ...] = ()
        """Each is asked at every report for a note; "" for none."""
        self.tally = AuditTally()
        self._supply = supply
        self._line = Line(supply.reservoir)
        supply.deposited = self._line.look
        self._write_ahead = write_ahead
        self._signer = signer
        self._serial = first_serial
        self._fresh = fresh
        self._clock = clock
        self._started = clock()
        self._evidence = Evidence.DEVICE
        self.remarks += (self._credit,)
        for source in sources:
            self.add_source(source)

    # ---- drawing -----------------------------------------------------------------------------------------

    async def draw(
        self,
        consumer: str,
        n_bytes: int,
        draw_class: DrawClass,
        *,
        prediction_resistance: bool = False,
        receipt: bool = False,
        patience_s: float = 0.0,
    ) -> Grant:
        """Take `n_bytes` for `consumer`; see `drawwell.ports.Broker.draw`.

        A draw with prediction resistance costs the fresh seed as well, so that nobody empties the
        reservoir by asking for single bytes.
        """
        ask = _Ask(n_bytes, draw_class, prediction_resistance)
        place = Place(self._line, consumer, patience_s)
        try:
            account, now = await self._entitled(consumer, ask, place)
            account.quota.charge(ask.cost, now)
            data, origins = self._take(account, ask, now)
        except DrawwellError as error:
            self.tally.refused(consumer, type(error).__name__)
            if isinstance(error, Refused) and consumer in self.accounts:
                self.accounts[consumer].refused += 1
            raise
        finally:
            place.leave()
        account.count(n_bytes, draw_class)
        self._serial += 1
        self.tally.granted(consumer, draw_class, n_bytes, self._serial, receipt=receipt)
        if not receipt:
            return Grant(data, self._serial, draw_class)
        key = self._fresh(RECEIPT_KEY_BYTES)
        return Grant(
            data, self._serial, draw_class, self._receipt(account, data, draw_class, origins, key), key
        )

    def _account(self, consumer: str) -> Account:
        try:
            return self.accounts[consumer]
        except KeyError:
            raise PermissionRefused(
                f"no consumer is called {consumer!r} here",
                hint="See 'drawwell consumer list' on the broker; 'drawwell consumer invite' adds one.",
            ) from None

    def _check_request(self, account: Account, ask: _Ask) -> None:
        if not 1 <= ask.n_bytes <= self.rules.max_draw_bytes:
            raise DrawRefused(
                f"a draw is 1 to {self.rules.max_draw_bytes} bytes, not {ask.n_bytes}",
                hint="Draw in several pieces.",
            )
        if ask.draw_class not in account.terms.classes:
            raise DrawRefused(
                f"{account.name} may not draw class {ask.draw_class}",
                hint=f"Ask for class {' or '.join(sorted(account.terms.classes))}, or have the operator allow it.",
            )

    async def _entitled(self, consumer: str, ask: _Ask, place: Place) -> tuple[Account, float]:
        """Return, without a last await, when terms, quota and supply all cover the draw; and the time."""
        while True:
            account, now = self._account(consumer), self._clock()
            self._check_request(account, ask)
            account.quota.check(ask.cost, now)
            if why := self.not_ready_because():
                raise NoHealthySource(why, hint="See 'drawwell doctor' on the broker's machine.")
            needed = self._needed_bytes(account, ask, now)
            if needed and not place.may_go(needed):
                await place.wait(needed, self._starved)
                continue
            if account.quota.reservation(ask.cost, now) is None:
                return account, now
            async with account.reserving:
                gone = self.accounts.get(consumer) is not account
                state = None if gone else account.quota.reservation(ask.cost, self._clock())
                if state is not None:
                    await self._write_ahead.reserve(account.name, state)
                    account.quota.confirm(state)

    def _needed_bytes(self, account: Account, ask: _Ask, now: float) -> int:
        """What the draw takes out of the reservoir."""
        seed = SEED_BYTES if self._seed_due(account, ask, now) else 0
        return seed + (ask.n_bytes if ask.draw_class is DrawClass.FULL else 0)

    def _starved(self, missing_bytes: int) -> Starved:
        rate = self._supply_bytes_per_s()
        return Starved(
            f"the reservoir is {missing_bytes} bytes short",
            retry_after_s=min(missing_bytes / rate, LONGEST_WAIT_S) if rate else None,
            estimate=True,
            hint="Wait and draw again; 'drawwell draw --wait 30s' does it by itself.",
        )

    def _take(self, account: Account, ask: _Ask, now: float) -> tuple[bytes, Origins]:
        self._line.served(account.name, self._needed_bytes(account, ask, now), account.terms.weight)
        if self._seed_due(account, ask, now):
            self._seed(account, now)
        drbg = account.drbg
        assert drbg is not None  # noqa: S101  seeded just now or before: anything else is our bug
        # two copies of this process, restored from one image, would else give out the same bytes
        output = drbg.generate(ask.n_bytes, self._fresh(ADDITIONAL_BYTES))
        if ask.draw_class is DrawClass.DRBG:
            self._supply.count_drbg(ask.n_bytes)
            return output, account.seed_origins
        taken = self._supply.take(ask.n_bytes)
        mixed = int.from_bytes(taken.data, "little") ^ int.from_bytes(output, "little")
        taken.data[:] = bytes(ask.n_bytes)
        return mixed.to_bytes(ask.n_bytes, "little"), taken.origins

    def _seed_due(self, account: Account, ask: _Ask, now: float) -> bool:
        return (
            account.drbg is None
            or ask.prediction_resistance
            or now - account.seeded_at >= self.rules.reseed_interval_s
        )

    def _seed(self, account: Account, now: float) -> None:
        seed = self._supply.take(SEED_BYTES)
        if account.drbg is None:
            account.drbg = CtrDrbg(bytes(seed.data), account.name.encode()[:SEED_BYTES])
        else:
            account.drbg.reseed(bytes(seed.data))
        seed.data[:] = bytes(SEED_BYTES)
        account.seeded_at, account.seed_origins = now, seed.origins

    def _receipt(
        self, account: Account, data: bytes, draw_class: DrawClass, origins: Origins, key: bytes
    ) -> bytes:
        # of several lives of one source the last: there is room for each name once
        last = {each.identity.name: each for each in sorted(origins, key=lambda each: each.health_epoch)}
        sources = tuple(ReceiptSource.of(last[name], self._state_of(name)) for name in sorted(last))
        body = ReceiptBody.of(
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
        )
        return self._signer.sign(body)

    def _state_of(self, source: str) -> SourceState:
        return self.sources[source].report().state if source in self.sources else SourceState.OFF

    def mix_in(self, consumer: str, data: bytes) -> None:
        """Mix `data` into the consumer's DRBG as additional input (SP 800-90A r1, 9.3.1), of which nothing is asked."""
        drbg = self.accounts[consumer].drbg if consumer in self.accounts else None
        if drbg:
            drbg.generate(0, hashlib.sha384(data).digest())

    def available_bytes(self, consumer: str, draw_class: DrawClass) -> int:
        """How many bytes one draw could have now without waiting, as far as supply and quota go (not the rate)."""
        account, now = self.accounts.get(consumer), self._clock()
        if account is None or draw_class not in account.terms.classes or self.not_ready_because():
            return 0
        seed = self._needed_bytes(account, _Ask(1, DrawClass.DRBG, prediction_resistance=False), now)
        beyond_seed = len(self._supply.reservoir) - seed
        if beyond_seed < 0 or not self._line.may_go(None, seed):
            return 0
        most = beyond_seed if draw_class is DrawClass.FULL else self.rules.max_draw_bytes
        left = account.quota.left(now)
        return most if left is None else min(most, left)

    def set_terms(self, terms: Mapping[str, Terms], restored: Mapping[str, QuotaState]) -> None:
        """Have exactly these consumers, on these terms; what was spent stays spent.

        `restored` are the reservations on disk, for those that are new here.
        """
        now = self._clock()
        for name in self.accounts.keys() - terms.keys():
            self.accounts.pop(name).wipe()
            self._line.forget(name)
        for name, wanted in terms.items():
            account = self.accounts.get(name)
            if account is None:
                quota = Quota(wanted.rate, wanted.total, now=now, restored=restored.get(name))
                self.accounts[name] = Account(name, wanted, quota)
            elif account.terms != wanted:
                account.quota.change(wanted.rate, wanted.total, now)
                account.terms = wanted
        self._line.wake_all()

    # ---- being asked -------------------------------------------------------------------------------------

    async def call(self, peer: str, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Answer a control verb; see `drawwell.ports.Broker.call`."""
        if self.control is None:
            raise PermissionRefused("this broker answers no control verbs")
        result: dict[str, Any] = await self.control(peer, verb, args)
        return result

    def add_source(self, source: Source) -> None:
        """Count on one more source from now on."""
        self.sources[source.name] = source
        source.changed = self._sources_changed

    @property
    def evidence(self) -> Evidence:
        """What vouches for everything that ever came in.

        What a source left behind lies in the reservoir and in the generators when it is gone.
        """
        healthy = (
            evidence_of(source.report().identity) for source in self.sources.values() if source.healthy
        )
        return weakest([self._evidence, *healthy])

    def healthy_sources(self) -> int:
        """How many sources may be counted on now."""
        return sum(source.healthy for source in self.sources.values())

    def _credit(self) -> str:
        present = weakest(evidence_of(source.report().identity) for source in self.sources.values())
        if weakest([self._evidence, present]) is present:
            return ""
        return f"bytes of evidence {self._evidence!r} came in before, and decide a kernel's credit until a restart"

    def _sources_changed(self) -> None:
        self._evidence = self.evidence
        self.tally.sources_are(
            {name: each.health_epoch for name, each in self.sources.items() if each.healthy}
        )
        self._line.wake_all()

    def not_ready_because(self) -> str:
        """Why nothing is served now; empty when it is."""
        healthy, wanted = self.healthy_sources(), self.rules.min_sources
        if healthy >= wanted:
            return ""
        if not self.sources:
            return f"no noise source has come yet, {wanted} needed"
        return f"{healthy} of {len(self.sources)} noise sources healthy, {wanted} needed"

    def consumer_report(self, name: str) -> ConsumerReport | None:
        """One consumer as it is now, None for nobody."""
        account = self.accounts.get(name)
        return account.report(self._clock()) if account else None

    def _supply_bytes_per_s(self) -> float:
        rates = (source.supply_bytes_per_s for source in self.sources.values() if source.healthy)
        return combined_rate(rates, max(1, self.rules.min_sources))

    def report(self) -> BrokerReport:
        """Everything, as it is now."""
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
            sources=tuple(source.report() for source in self.sources.values()),
            consumers=tuple(account.report(now) for account in self.accounts.values()),
            sinks=tuple(sink.report for sink in self.sinks),
            doors=(*self.doors, *self.guest_doors()),
            notes=tuple(filter(None, (remark() for remark in self.remarks))),
        )
