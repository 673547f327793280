"""A broker with everything round it: state on disk, sources, doors, and the upkeep of all three."""

import asyncio
import contextlib
import logging
import os
import ssl
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from drawwell.authorisation import Principal
from drawwell.broker.account import Lease, Terms
from drawwell.broker.audit import Auditor
from drawwell.broker.broker import LocalBroker, Rules
from drawwell.broker.control import Control
from drawwell.broker.health_record import HealthRecord
from drawwell.broker.identities import OWN_NAMES, configured_terms, invited_terms
from drawwell.broker.own_verbs import BUSIEST, OwnVerbs
from drawwell.broker.receipts import BrokerReceipts
from drawwell.broker.remote_sources import RemoteSources
from drawwell.broker.reservations import ReservationWriter
from drawwell.broker.signing import Signing
from drawwell.broker.supply import Supply
from drawwell.config.broker_side import ConsumerSection, SourceSection
from drawwell.config.model import TABLES, Config, Table
from drawwell.crypto import ctr_drbg, drbg
from drawwell.enrolment.first_boot_seeds import Seeds
from drawwell.entropy.health import HealthMonitor
from drawwell.entropy.reservoir import Reservoir
from drawwell.errors import DrawwellError, StateUnavailable, UsageError
from drawwell.host.clock import WallClock
from drawwell.ports import Sink
from drawwell.reports import BrokerReport, SinkReport
from drawwell.roles.directories import DESCRIPTORS, allow_descriptors
from drawwell.roles.doors import Doors
from drawwell.roles.guests import Guests
from drawwell.roles.kernel_process import read_report
from drawwell.roles.make_driver import make_driver
from drawwell.roles.signing_keys import signing_keys
from drawwell.roles.source import SourceRole
from drawwell.service.status import BrokerStatusLine
from drawwell.service.systemd import Manager
from drawwell.state.files import make_private_directory
from drawwell.state.health_rows import HealthRows
from drawwell.state.store import Store
from drawwell.verbs import CONTROL_VERBS, Handler

log = logging.getLogger("drawwell.broker")

UPKEEP_S = 60.0
SERIALS_PER_LIFE = 2**40
"""Grant serial numbers: the boot epoch above, a count below. No two lives of a broker share one."""


class BrokerProcess:
    """Opens the state and builds the broker; `run` lets it live.

    Args:
        config: What the operator wants.
        manager: Who started this process; keeps the guests' connections while it is down.
        apart: Open no source: each runs in a process of its own, and deposits.
        sinks: What this process pours into, for the report.
        notes: What else the report should say; "" for nothing.

    Raises:
        SelfTestFailure: the DRBG gave a wrong answer to a known question.
        StateUnavailable: the state directory cannot be used, or another broker uses it.
        ConfigError: certificates that cannot be used.
    """

    def __init__(
        self,
        config: Config,
        manager: Manager | None = None,
        *,
        apart: bool = False,
        sinks: Sequence[Sink] = (),
        notes: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        ctr_drbg.self_test()
        drbg.self_test()
        self._sinks = sinks
        self._notes = notes
        self.config = config
        state = config.broker.state_dir
        make_private_directory(state)
        self._store = Store(os.path.join(state, "broker.db"))
        self._clock = WallClock(self._store.time_seen)
        self._health = HealthRecord(HealthRows(os.path.join(state, "health.db")), self._clock)
        section = config.broker
        self._supply = Supply(
            Reservoir(section.reservoir, low_mark=section.low_mark_bytes, high_mark=section.high_mark_bytes),
            section.min_sources,
        )
        self.sources = [] if apart else [self._source(index) for index in range(len(config.sources))]
        self._write_ahead = ReservationWriter(self._store.lease)
        self._keys = signing_keys(config, self._clock.dates(), apart=apart)
        self._signer = BrokerReceipts(self._keys)
        self._signing = Signing(self._signer)
        with contextlib.suppress(StateUnavailable):  # the signer is away; who needs it is told
            self._signer.refresh()
        self._auditor = Auditor(section.name, config.audit, self._clock, self._signer)
        self.broker = self._make_broker()
        self._auditor.started(self._store.boot_epoch * SERIALS_PER_LIFE)
        self._apart = apart
        self._reception = self._remote_sources()
        self._doorways = Doors(
            config,
            self.broker,
            self._store,
            keys=self._keys,
            auditor=self._auditor,
            clock=self._clock,
            manager=manager or Manager({}),
            reception=self._reception,
        )
        self.words = BrokerStatusLine(self.broker.report, self._doorways.consumers)
        self._guests = Guests(
            self.broker,
            self._store,
            config.broker.run_dir,
            manager or Manager({}),
            taken=self._names_taken,
            follow=self.follow_consumers,
            clock=self._clock,
        )
        self._admin = self._doorways.admin
        if self._admin:
            self._admin.listeners.append(self._follow_one)
        self._control = Control(self._handlers(), self._auditor.asked)
        self.follow_consumers()

    def report(self, most: int = BUSIEST) -> BrokerReport:
        """Report the broker, its busiest consumers, its doors and sinks, and whatever needs attention."""
        report, busiest = self.broker.report(), self.broker.book.busiest(most)
        notes = (
            *report.notes,
            self._auditor.trouble(),
            *self._doorways.notes(),
            self._guests.trouble(),
            self.fault(),
            self._store.overdue.note(),
            self._clock.note(),
            *self._notes(),
        )
        return replace(
            report,
            consumers=busiest,
            consumers_left_out=report.consumers_active - len(busiest),
            doors=(*self._doorways.listed, *self._guests.listed()),
            sinks=(*(sink.report for sink in self._sinks), *self._feeder()),
            notes=tuple(filter(None, notes)),
            sessions=self._doorways.sessions(),
            handshakes_waiting=self._doorways.handshakes_waiting(),
            certificates=self._doorways.certificates(),
            guests=self._guests.reports() if most else (),
            events=self._auditor.recent() if most else (),
            clock_jumped=bool(self._clock.note()),
            audit_trouble=bool(self._auditor.trouble()),
        )

    def _feeder(self) -> Iterator[SinkReport]:
        """Yield the report of the process that feeds this machine's kernel."""
        report = read_report(self.config.broker.feed_report)
        if report:
            with contextlib.suppress(TypeError):
                yield SinkReport(**report["sink"])

    async def _full_report(self, most: int) -> BrokerReport:
        invited = await asyncio.to_thread(self._store.count) if self._admin else 0
        return replace(self.report(most), consumers_invited=invited)

    def fault(self) -> str:
        """Say what keeps the state from being written, "" when it is."""
        why = self._store.fault
        return (
            f"the state cannot be written ({why}): nothing is served that its quota must remember"
            if why
            else ""
        )

    @property
    def alive(self) -> bool:
        """Do the sources' drivers answer, whatever they say?"""
        return all(source.alive for source in self.sources)

    async def ready(self) -> None:
        """Return when every door listens."""
        await self._doorways.ready()

    async def run(self) -> None:
        """Run sources and doors until cancelled; the last thing is to let go of devices and state."""
        allow_descriptors(DESCRIPTORS + self.config.tls.max_sessions)
        try:
            async with asyncio.TaskGroup() as below:
                works = (self._write_ahead.run(), self._signing.run(), self._upkeep())
                lower = [below.create_task(each) for each in works]
                lower += [below.create_task(source.run()) for source in self.sources]
                try:
                    async with asyncio.TaskGroup() as above:
                        for door in self._doorways.doors:
                            above.create_task(door)
                        above.create_task(self._guests.run())
                finally:
                    for task in lower:
                        task.cancel()
        finally:
            self.close()

    def close(self) -> None:
        """Forget every byte and let go of the state."""
        for account in self.broker.accounts.values():
            account.wipe()
        self._supply.wipe()
        self._auditor.close()
        with contextlib.suppress(StateUnavailable):
            self._store.overdue.retry()
        self._health.close()
        self._store.close()

    def restart(self) -> None:
        """Serve nothing that lies in memory now: this machine may be a copy, and another one has the same.

        Sessions over TLS end: two machines that go on with one would encrypt under the same key and nonces.
        """
        ssl.RAND_add(os.urandom(32), 0.0)  # OpenSSL's generator is a copy, too
        wiped = self._supply.wipe()
        for account in self.broker.accounts.values():
            account.wipe()
        for source in self.broker.sources.values():
            source.restart()
        self._doorways.end_sessions()
        self._auditor.note("machine copied")
        log.warning(
            "this machine was copied or restored: %d bytes and all generators dropped, start-up tests again",
            wiped,
        )

    def reload(self, config: Config) -> None:
        """Take over what can change while we run, consumers and certificates; say what cannot.

        Raises:
            ConfigError: certificates that cannot be used; everything stays as it was.
        """
        self._doorways.reload_certificates()
        with contextlib.suppress(StateUnavailable):  # the status names it
            self._signer.refresh()
        for table in TABLES:
            followed = table.section is ConsumerSection or (self._apart and table.section is SourceSection)
            if not followed and _changed(table, self.config, config):
                log.warning("a restart is needed for the changes in %s", table.header)
        if self._apart and self._reception:
            self._reception.expect(config.written_sources)
        sources = config.sources if self._apart else self.config.sources
        self.config = replace(self.config, consumers=config.consumers, sources=sources)
        self._doorways.follow(self.config)
        self.follow_consumers()
        self._auditor.note("configuration read again")
        log.info("configuration read again")

    def follow_consumers(self) -> None:
        """Bring the broker's accounts in line with the configuration and the guests."""
        self.broker.book.set_terms(self._resident_terms(), self._store.leased)

    async def _follow_one(self, name: str) -> None:
        """Follow a change of a consumer that was invited."""
        if name not in self._resident_terms():
            lease = await self._lease(name)
            self.broker.book.change(name, lease.terms if lease else None)

    async def _lease(self, name: str) -> Lease | None:
        """Look up a consumer that was invited."""
        found = await asyncio.to_thread(self._admin.lease, name) if self._admin else None
        return Lease(invited_terms(found[0]), found[1]) if found else None

    # ---- building ----------------------------------------------------------------------------------------

    def _make_broker(self) -> LocalBroker:
        section = self.config.broker
        return LocalBroker(
            Rules(section.name, section.min_sources, section.reseed_interval, section.max_draw),
            self._supply,
            self.sources,
            write_ahead=self._write_ahead,
            signing=self._signing,
            first_serial=self._store.boot_epoch * SERIALS_PER_LIFE,
            fresh=os.urandom,
            clock=self._clock,
            lease=self._lease,
            tally=self._auditor.tally,
            control=self._call,
        )

    def _source(self, index: int) -> SourceRole:
        driver, claim = make_driver(self.config.sources[index])
        return SourceRole(
            driver, HealthMonitor(claim, hash_key=os.urandom(32)), self._supply.depot, self._clock
        )

    def _remote_sources(self) -> RemoteSources | None:
        if not self._apart and not self.config.broker.deposits:
            return None
        return RemoteSources(self.broker, self._supply, self.config.written_sources if self._apart else ())

    async def _call(self, principal: Principal, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        return await self._control(principal, verb, args)

    def _handlers(self) -> dict[str, Handler]:
        return {
            "receipt-key": self._receipt_key,
            **OwnVerbs(
                self.broker, self._full_report, self._health, lambda: self.config.health.observers
            ).handlers(),
            **Seeds(self._store, self._clock).handlers(),
            **self._guests.handlers(),
            **(self._admin.handlers() if self._admin else _no_invitations()),
        }

    async def _receipt_key(self, _principal: Principal) -> dict[str, Any]:
        self._signer.require()
        return {"public_key": self._signer.all_keys}

    def _resident_terms(self) -> Mapping[str, Terms]:
        return {**self._guests.terms(), **configured_terms(self.config)}

    def _names_taken(self) -> Collection[str]:
        """The consumers of the configuration, and this machine's own; the store knows who was invited."""
        return OWN_NAMES | configured_terms(self.config).keys()

    async def _upkeep(self) -> None:
        """Note the time and the sources' health; renew the broker's own certificate."""
        while True:
            with contextlib.suppress(StateUnavailable):  # the status names it
                await asyncio.to_thread(self._signer.refresh)
            try:
                await asyncio.to_thread(self._store.overdue.retry)
                await asyncio.to_thread(self._doorways.retry)
                await asyncio.to_thread(self._store.note_time, self._clock())
                await self._health.note(self.broker.report().sources)
            except StateUnavailable as error:
                log.error("%s", error)
            await asyncio.sleep(UPKEEP_S)
            await self._auditor.settle()
            try:
                await asyncio.to_thread(self._doorways.renew)
            except DrawwellError as error:
                log.error("the TLS door keeps its old certificate: %s", error)


def _no_invitations() -> dict[str, Handler]:
    """What the operator is told where nobody can join."""

    async def refuse(_owner: Principal, **_arguments: Any) -> dict[str, Any]:
        raise UsageError(
            "this broker invites nobody: it has neither an SSH door nor a TLS door with the built-in CA",
            hint='Set [tls] listen = "*:55000" or [ssh] user in the configuration and start again.',
        )

    return {verb: refuse for verb in CONTROL_VERBS if verb.startswith("consumer.")}


def _changed(table: Table, old: Config, new: Config) -> bool:
    return bool(getattr(old, table.attribute) != getattr(new, table.attribute))
