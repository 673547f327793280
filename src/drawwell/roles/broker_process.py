"""A complete broker process: stored state, sources, doors, upkeep."""

import asyncio
import contextlib
import logging
import os
import ssl
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from drawwell.broker.account import AnyQuota, Lease, Terms
from drawwell.broker.account_book import own_quota
from drawwell.broker.audit import Auditor
from drawwell.broker.broker import LocalBroker, Rules
from drawwell.broker.control import Control
from drawwell.broker.health_record import HealthRecord
from drawwell.broker.identities import (
    OWN_NAMES,
    configured_terms,
    invited_terms,
    matched_terms,
    own_consumers,
)
from drawwell.broker.own_verbs import BUSIEST, OwnVerbs
from drawwell.broker.receipts import BrokerReceipts, Signing
from drawwell.broker.remote_sources import RemoteSources
from drawwell.broker.reservations import ReservationWriter
from drawwell.broker.supply import Supply
from drawwell.config.broker_side import ConsumerSection, SourceSection
from drawwell.config.model import TABLES, Config
from drawwell.crypto import ctr_drbg, drbg
from drawwell.enrolment.broker_list import BrokerList
from drawwell.enrolment.first_boot_seeds import Seeds
from drawwell.enrolment.patterns import is_identity
from drawwell.enrolment.refusals import no_invitations
from drawwell.entropy.reservoir import Reservoir
from drawwell.errors import DrawwellError, StateUnavailable
from drawwell.fleet.own_row import OwnRow
from drawwell.host.clock import WallClock
from drawwell.ports import Sink
from drawwell.reports import BrokerReport
from drawwell.roles.directories import DESCRIPTORS, allow_descriptors
from drawwell.roles.doors import Doors
from drawwell.roles.fleet_row import fleet_row
from drawwell.roles.guests import Guests
from drawwell.roles.join_fleet import join_fleet
from drawwell.roles.kernel_process import feed_reports
from drawwell.roles.make_driver import make_source
from drawwell.roles.signing_keys import signing_keys
from drawwell.service.status import BrokerStatusLine
from drawwell.service.systemd import Manager
from drawwell.state.files import make_private_directory
from drawwell.state.health_rows import HealthRows
from drawwell.state.port import Changes, ConsumerStore
from drawwell.state.store import Store
from drawwell.verbs import Handler
from drawwell.wire.brokers import KnownBroker

log = logging.getLogger("drawwell.broker")

UPKEEP_S = 60.0
MATCHED_ACCOUNTS = 65_536
"""Limit of open accounts for consumers that match patterns."""
SERIALS_PER_LIFE = 2**40
"""Serial numbers contain the boot epoch and a count, so no two runs share a number."""


class BrokerProcess:
    """Opens the state and builds the broker; `run` runs it.

    Args:
        config: The configuration.
        manager: The service manager; it stores guests' connections while the broker restarts.
        apart: Open no sources, because each one runs in its own process and sends deposits.
        sinks: This process's sinks, for the report.
        notes: Further notes for the report; "" for none.

    Raises:
        SelfTestFailure: the DRBG failed a known-answer test.
        StateUnavailable: the state directory cannot be used, or another broker uses it.
        ConfigError: a certificate cannot be used.
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
        self._sinks, self._notes, self.config = sinks, notes, config
        section = config.broker
        make_private_directory(section.state_dir)
        self._store = Store(os.path.join(section.state_dir, "broker.db"))
        self._clock = WallClock(self._store.time_seen)
        self._fleet = join_fleet(config, self._follow_changes, self._clock, self._row)
        self._consumers: ConsumerStore = self._fleet.store if self._fleet else self._store
        self._first_serial = (self._fleet or self._store).boot_epoch * SERIALS_PER_LIFE
        self._health = HealthRecord(HealthRows(os.path.join(section.state_dir, "health.db")), self._clock)
        self._supply = Supply(
            Reservoir(section.reservoir, low_mark=section.low_mark_bytes, high_mark=section.high_mark_bytes),
            section.min_sources,
        )
        own_sources = () if apart else config.sources
        self.sources = [make_source(each, self._supply.depot, self._clock) for each in own_sources]
        self._write_ahead = ReservationWriter(self._store.lease, self._fleet.lease if self._fleet else None)
        self._keys = signing_keys(config, self._clock.dates(), apart=apart)
        self._signer = BrokerReceipts(self._keys)
        self._signing = Signing(self._signer)
        with contextlib.suppress(StateUnavailable):  # the signer is down: its callers get the error
            self._signer.refresh()
        self._auditor = Auditor(section.name, config.audit, self._clock, self._signer)
        self.broker = self._make_broker()
        self._auditor.started(self._first_serial)
        self._apart, self._invited = apart, 0
        self._reception = self._remote_sources()
        own = KnownBroker(section.name, config.tls.addresses)
        self._brokers = BrokerList(own, lambda: self._signer.all_keys, config.fleet.name, self._fleet)
        self._doorways = Doors(
            config,
            self.broker,
            self._consumers,
            guests=self._store.guests,
            keys=self._keys,
            auditor=self._auditor,
            clock=self._clock,
            manager=manager or Manager({}),
            reception=self._reception,
            brokers=self._brokers,
        )
        self.status_line = BrokerStatusLine(self.broker.report, self._doorways.consumers)
        self._guests = self._make_guests(manager or Manager({}))
        self._admin = self._doorways.admin
        if self._admin:
            self._admin.listeners.append(self._follow_one)
        self._control = Control(self._handlers(), self._auditor.asked)
        self.follow_consumers()

    def report(self, most: int = BUSIEST) -> BrokerReport:
        """Return the full report: broker, busiest consumers, doors, sinks, notes."""
        report, busiest = self.broker.report(), self.broker.book.busiest(most)
        notes = (
            *report.notes,
            self._signer.fault,
            *self._auditor.notes(),
            *self._doorways.notes(),
            self._guests.trouble(),
            self.fault(),
            self._consumers.overdue.note(),
            *(self._fleet.notes() if self._fleet else ()),
            self._clock.note(),
            *self._notes(),
        )
        return replace(
            report,
            consumers=busiest,
            consumers_left_out=report.consumers_active - len(busiest),
            doors=(*self._doorways.listed, *self._guests.listed()),
            sinks=(*(sink.report for sink in self._sinks), *feed_reports(self.config.broker.feed_report)),
            notes=tuple(filter(None, dict.fromkeys(notes))),
            sessions=self._doorways.sessions(),
            handshakes_waiting=self._doorways.handshakes_waiting(),
            certificates=self._doorways.certificates(),
            guests=self._guests.reports() if most else (),
            events=self._auditor.recent() if most else (),
            configuration=tuple(map(os.path.abspath, self.config.files)),
            clock_jumped=bool(self._clock.note()),
            audit_trouble=bool(self._auditor.trouble()),
            state_trouble=bool(self._store.fault),
            signer_away=bool(self._signer.fault),
            fleet=self._fleet.report() if self._fleet else None,
        )

    def _row(self) -> OwnRow:
        return fleet_row(self.broker.report(), self._doorways, self._signer.all_keys)

    async def _full_report(self, most: int) -> BrokerReport:
        if self._admin:
            with contextlib.suppress(StateUnavailable):  # retain the last count
                self._invited = await asyncio.to_thread(self._consumers.count)
        return replace(self.report(most), consumers_invited=self._invited)

    def fault(self) -> str:
        """Return why the state cannot be written; "" if it can."""
        why, means = self._store.fault, "draws that count against a quota are refused"
        return f"the state cannot be written ({why}): {means}" if why else ""

    @property
    def alive(self) -> bool:
        """Whether the drivers of all sources respond."""
        return all(source.alive for source in self.sources)

    async def ready(self) -> None:
        """Wait until every door listens."""
        await self._doorways.ready()

    async def run(self) -> None:
        """Run sources and doors until cancelled; close devices and the state last."""
        allow_descriptors(DESCRIPTORS + self.config.tls.max_sessions)
        try:
            async with asyncio.TaskGroup() as below:
                works = [self._write_ahead.run(), self._signing.run(), self._upkeep()]
                works += [self._fleet.run()] if self._fleet else []
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
        """Erase all bytes and close the state."""
        for account in self.broker.accounts.values():
            account.wipe()
        self._supply.wipe()
        self._auditor.close()
        with contextlib.suppress(StateUnavailable):
            self._consumers.overdue.retry()
        if self._fleet:
            self._fleet.close()
        self._keys.close()
        self._health.close()
        self._store.close()

    def restart(self) -> None:
        """Discard all data in memory, because a copy of this machine may share it.

        TLS sessions end, because two copies would encrypt with the same key and nonces.
        """
        ssl.RAND_add(os.urandom(32), 0.0)  # OpenSSL's generator was copied too
        wiped = self._supply.wipe()
        for account in self.broker.accounts.values():
            account.wipe()
        if self._fleet:
            self._fleet.forfeit()
        for source in self.broker.sources.values():
            source.restart()
        self._doorways.end_sessions()
        self._auditor.note("machine copied")
        log.warning(
            "this machine was copied or restored: dropped %d bytes and all generators, starting tests again",
            wiped,
        )

    async def reload(self, config: Config) -> None:
        """Apply a new configuration at run time; log changes that need a restart.

        Raises:
            ConfigError: a certificate cannot be used; nothing changes.
        """
        await asyncio.to_thread(self._doorways.reload_certificates)
        with contextlib.suppress(StateUnavailable):  # the status reports it
            await asyncio.to_thread(self._signer.refresh)
        for table in TABLES:
            followed = table.section is ConsumerSection or (self._apart and table.section is SourceSection)
            if not followed and getattr(self.config, table.attribute) != getattr(config, table.attribute):
                log.warning("restart to apply the changes in %s", table.header)
        if self._apart and self._reception:
            self._reception.expect(config.written_sources)
        sources = config.sources if self._apart else self.config.sources
        self.config = replace(self.config, consumers=config.consumers, sources=sources, files=config.files)
        self._doorways.follow(self.config)
        self.follow_consumers()
        self._auditor.note("configuration read again")
        log.info("reloaded the configuration")

    def follow_consumers(self) -> None:
        """Update the accounts from the configuration and the guests."""
        resident, book = self._resident_terms(), self.broker.book
        book.set_terms(resident, self._store.leased)
        for name in [each for each in book.accounts if is_identity(each) and each not in resident]:
            book.change(name, matched_terms(self.config, name))

    async def _follow_one(self, name: str) -> None:
        """Apply a change to an invited consumer."""
        if name not in self._resident_terms():
            lease = await self._lease(name)
            self.broker.book.change(name, lease.terms if lease else None)

    async def _follow_changes(self, changes: Changes) -> None:
        if self._admin:
            await self._admin.follow(changes)

    def _make_quota(self, name: str, lease: Lease, now: float) -> AnyQuota:
        """Return a consumer's quota: the fleet's, or this broker's own."""
        if self._fleet is None or self._is_own(name):
            return own_quota(name, lease, now)
        return self._fleet.quota(name, lease.terms.rate, lease.terms.total)

    def _cut_off(self, name: str) -> str:
        return "" if self._fleet is None or self._is_own(name) else self._fleet.cut_off()

    def _is_own(self, name: str) -> bool:
        return name in own_consumers(self.config) or name in self._guests.terms()

    async def _lease(self, name: str) -> Lease | None:
        """Find a consumer that was invited or that matches a pattern."""
        return await asyncio.to_thread(self._look_up, name)

    def _look_up(self, name: str) -> Lease | None:
        terms = matched_terms(self.config, name)
        if terms is None and self._admin and (row := self._admin.entitled(name)):
            terms = invited_terms(row)
        return Lease(terms, self._store.leased(name)) if terms else None

    # ---- construction ----------------------------------------------------------------------

    def _make_broker(self) -> LocalBroker:
        section = self.config.broker
        return LocalBroker(
            Rules(section.name, section.min_sources, section.reseed_interval, section.max_draw),
            self._supply,
            self.sources,
            write_ahead=self._write_ahead,
            signing=self._signing,
            first_serial=self._first_serial,
            fresh=os.urandom,
            clock=self._clock,
            lease=self._lease,
            make_quota=self._make_quota,
            cut_off=self._cut_off,
            tally=self._auditor.tally,
            control=lambda *asked: self._control(*asked),  # noqa: PLW0108  _control does not exist yet
        )

    def _make_guests(self, manager: Manager) -> Guests:
        return Guests(
            self.broker,
            self._store,
            self.config.broker.run_dir,
            manager,
            self._auditor,
            taken=self._names_taken,
            follow=self.follow_consumers,
            clock=self._clock,
        )

    def _remote_sources(self) -> RemoteSources | None:
        if not self._apart and not self.config.broker.deposits:
            return None
        return RemoteSources(self.broker, self._supply, self.config.written_sources if self._apart else ())

    def _close_idle(self) -> None:
        """Close idle accounts for patterns, which admit any number of names."""
        unused = self._clock() - 2 * self.config.broker.reseed_interval
        self.broker.book.close(is_identity, seeded_before=unused, most=MATCHED_ACCOUNTS)

    def _handlers(self) -> dict[str, Handler]:
        return {
            **self._signer.handlers(),
            **self._doorways.handlers(),
            **OwnVerbs(
                self.broker, self._full_report, self._health, lambda: self.config.health.observers
            ).handlers(),
            **self._brokers.handlers(),
            **Seeds(self._consumers, self._clock).handlers(),
            **self._guests.handlers(),
            **(self._admin.handlers() if self._admin else no_invitations(self._consumers, self._clock)),
        }

    def _resident_terms(self) -> Mapping[str, Terms]:
        return {**self._guests.terms(), **configured_terms(self.config)}

    def _names_taken(self) -> Collection[str]:
        """Return the configured and local names; invited ones are in the store."""
        return OWN_NAMES | configured_terms(self.config).keys()

    async def _upkeep(self) -> None:
        """Store the time and health, and renew the broker's own certificate."""
        await self._auditor.check_chains()
        while True:
            with contextlib.suppress(StateUnavailable):  # the status reports it
                await asyncio.to_thread(self._signer.refresh)
            try:
                await asyncio.to_thread(self._consumers.overdue.retry)
                await asyncio.to_thread(self._doorways.retry)
                await asyncio.to_thread(self._store.note_time, self._clock())
                await asyncio.to_thread(self._store.drop_ended, self._clock.undoubted())
                await self._health.note(self.broker.report().sources)
            except StateUnavailable as error:
                log.error("%s", error)
            await asyncio.sleep(UPKEEP_S)
            self._close_idle()
            await self._auditor.settle()
            try:
                await asyncio.to_thread(self._doorways.renew)
            except DrawwellError as error:
                log.error("cannot renew the certificate of the TLS door: %s", error)
