"""A broker with everything round it: state on disk, sources, doors, and the upkeep of all three."""

import asyncio
import logging
import os
import ssl
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from drawwell.config.doors import EgdSection
from drawwell.config.kinds import HostPort
from drawwell.config.model import TABLES, Config, Table
from drawwell.config.serving import ConsumerSection
from drawwell.crypto.drbg import self_test
from drawwell.crypto.receipts import ReceiptSigner, receipt_key_from_seed
from drawwell.doors.door import Door, Limits
from drawwell.doors.egd import EgdDoor
from drawwell.doors.enrol import EnrolDoor
from drawwell.doors.http import HttpDoor
from drawwell.doors.ssh import SshDoor
from drawwell.doors.tls import TlsDoor
from drawwell.doors.unix import UnixDoor
from drawwell.entropy.blocks import DrawClass
from drawwell.entropy.health import HealthMonitor
from drawwell.entropy.reservoir import Reservoir
from drawwell.errors import DrawwellError, StateUnavailable, UsageError
from drawwell.host.admin import Admin, Site
from drawwell.host.authority import Authority
from drawwell.host.clock import wall_clock
from drawwell.host.files import make_private_directory, read_file, replace_file
from drawwell.host.openssl import offered
from drawwell.host.registry import InvitedRegistry, OwnPkiRegistry
from drawwell.host.seeds import Seeds
from drawwell.host.store import Store
from drawwell.roles.account import Terms
from drawwell.roles.assemble import make_driver
from drawwell.roles.auditing import Auditor
from drawwell.roles.broker import Broker, Rules
from drawwell.roles.control import Answer, Control
from drawwell.roles.people import (
    OWN_NAMES,
    certificate_names,
    configured_terms,
    invited_terms,
    local_consumer,
    ssh_consumer,
)
from drawwell.roles.premises import DESCRIPTORS, allow_descriptors, make_run_dir
from drawwell.roles.source import SourceRole
from drawwell.roles.supply import Supply
from drawwell.roles.writeahead import WriteAhead
from drawwell.wire.contexts import server_context

log = logging.getLogger("drawwell.broker")

UPKEEP_S = 60.0
SERIALS_PER_LIFE = 2**40
"""Grant serial numbers: the boot epoch above, a count below. No two lives of a broker share one."""


class Station:
    """Opens the state and builds the broker; `run` lets it live.

    Args:
        config: What the operator wants.

    Raises:
        SelfTestFailure: the DRBG gave a wrong answer to a known question.
        StateUnavailable: the state directory cannot be used, or another broker uses it.
        ConfigError: certificates that cannot be used.
    """

    def __init__(self, config: Config) -> None:
        self_test()
        self.config = config
        state = config.broker.state_dir
        make_private_directory(state)
        self._store = Store(os.path.join(state, "broker.db"))
        self._clock = wall_clock(self._store.time_seen)
        section = config.broker
        self._supply = Supply(
            Reservoir(section.reservoir, low_mark=section.low_mark_bytes, high_mark=section.high_mark_bytes)
        )
        self.sources = [self._source(index) for index in range(len(config.sources))]
        self._write_ahead = WriteAhead(self._store.reserve_quota)
        self._signer = ReceiptSigner(_receipt_key(os.path.join(state, "receipt-key.pem")))
        self.broker = Broker(
            Rules(section.name, section.min_sources, section.reseed_interval, section.max_draw),
            self._supply,
            self.sources,
            write_ahead=self._write_ahead,
            signer=self._signer,
            first_serial=self._store.boot_epoch * SERIALS_PER_LIFE,
            fresh=os.urandom,
            clock=self._clock,
        )
        self._auditor = Auditor(self.broker, config.audit.path or "", self._clock)
        self._auditor.started(self._store.boot_epoch * SERIALS_PER_LIFE)
        self._admin: Admin | None = None
        self._authority: Authority | None = None
        self._own_pki: OwnPkiRegistry | None = None
        self._tls: TlsDoor | None = None
        self._doors: list[Coroutine[Any, Any, None]] = []
        self._open_local_doors()
        if config.ssh.user or (config.tls.listen and not config.pki.ca):
            self._open_to_invited()
        if config.tls.listen and config.pki.ca:
            self._open_to_own_pki(config.tls.listen)
        self._install_control()
        self.follow_consumers()

    async def run(self) -> None:
        """Run sources and doors until cancelled; the last thing is to let go of devices and state."""
        allow_descriptors(DESCRIPTORS + self.config.tls.max_sessions)
        try:
            async with asyncio.TaskGroup() as below:
                lower = [below.create_task(self._write_ahead.run()), below.create_task(self._upkeep())]
                lower += [below.create_task(source.run()) for source in self.sources]
                try:
                    async with asyncio.TaskGroup() as above:
                        for door in self._doors:
                            above.create_task(door)
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
        self._store.close()

    def begin_anew(self) -> None:
        """Serve nothing that lies in memory now: this machine may be a copy, and another one has the same.

        Sessions over TLS end: two machines that go on with one would encrypt under the same key and nonces.
        """
        ssl.RAND_add(os.urandom(32), 0.0)  # OpenSSL's generator is a copy, too
        wiped = self._supply.wipe()
        for account in self.broker.accounts.values():
            account.wipe()
        for source in self.sources:
            source.begin_anew()
        if self._tls:
            self._tls.drop_all()
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
        if self._tls:
            self._tls.reload()
        for table in TABLES:
            if table.section is not ConsumerSection and _changed(table, self.config, config):
                log.warning("a restart is needed for the changes in %s", table.header)
        self.config = replace(self.config, consumers=config.consumers)
        if self._admin:
            self._admin.site = replace(self._admin.site, configured=self._names_taken())
        if self._own_pki:
            self._own_pki.configure(self.config.pki.identity, certificate_names(self.config))
        self.follow_consumers()
        self._auditor.note("configuration read again")
        log.info("configuration read again")

    def follow_consumers(self) -> None:
        """Bring the broker's accounts in line with the configuration and the invitations."""
        self.broker.set_terms(self._terms(), self._store.quota_states())

    async def _follow_one(self, _name: str) -> None:
        self.follow_consumers()

    # ---- building ----------------------------------------------------------------------------------------

    def _source(self, index: int) -> SourceRole:
        driver, claim = make_driver(self.config.sources[index])
        return SourceRole(driver, HealthMonitor(claim, hash_key=os.urandom(32)), self._supply, self._clock)

    def _open_local_doors(self) -> None:
        config, broker, name = self.config, self.broker, self.config.broker.name
        make_run_dir(config.broker.run_dir)
        unix = UnixDoor(config.unix.path, broker, self._identify, mode=config.unix.mode, broker_name=name)
        control = UnixDoor(
            config.control.path, broker, self._identify, mode=0o600, control=True, broker_name=name
        )
        self._open(unix, f"unix {config.unix.path}")
        self._open(control)
        if config.health.listen:
            where = str(config.health.listen)
            self._open(HttpDoor(where, broker), f"health {where}")
        if config.http.listen:
            http = HttpDoor(config.http.listen, broker, self._identify, mode=config.http.mode)
            self._open(http, f"http {config.http.listen}")
        for egd in config.egds:
            self._open_egd(egd)

    def _open(self, door: Door, words: str = "") -> None:
        """Have a door served by `run`; `words` say in the status what it is."""
        self._doors.append(door.serve())
        self._auditor.watch(words or "control", door)
        self.broker.doors += (words,) if words else ()

    def _open_egd(self, egd: EgdSection) -> None:
        where, draw_class = str(egd.listen), DrawClass(egd.draw_class)
        available = partial(self.broker.available_bytes, egd.consumer, draw_class)
        door = EgdDoor(where, self.broker, egd.consumer, draw_class, available, mode=egd.mode)
        who = f"whoever may open it (mode {egd.mode:04o})" if "/" in where else "any local user"
        self._open(door, f"egd {where}, class {draw_class}: {who} is consumer {egd.consumer}")

    def _open_to_invited(self) -> None:
        """Open the doors of those whom the configuration does not know: they have our certificate, or an SSH key."""
        config = self.config
        authority = self._authority = Authority(
            os.path.join(config.broker.state_dir, "pki"), config.broker.name, self._clock()
        )
        registry = InvitedRegistry(self._store)
        joinable = None if config.pki.ca else config.tls.listen
        admin = self._admin = Admin(self._store, registry, authority, self._site(joinable), clock=self._clock)
        admin.listeners.append(self._follow_one)
        if config.ssh.user:
            self._open_ssh(registry)
        if joinable:
            self._add_tls(joinable, partial(self._own_context, authority), registry)
            self._open_enrol(admin, authority)

    def _site(self, joinable: HostPort | None) -> Site:
        config, host = self.config, self.config.tls.names[0]
        bracketed = f"[{host}]" if ":" in host else host
        enrol = config.enrol.listen
        return Site(
            broker=config.broker.name,
            enrol_address=f"{bracketed}:{enrol.port if enrol else 0}" if joinable else "",
            addresses=(f"{bracketed}:{joinable.port}",) if joinable else (),
            receipt_public_key=self._signer.public_key.decode(),
            configured=self._names_taken(),
            ssh=bool(config.ssh.user),
        )

    def _names_taken(self) -> frozenset[str]:
        """The consumers that nobody may be invited as."""
        return OWN_NAMES | frozenset(configured_terms(self.config))

    def _open_ssh(self, registry: InvitedRegistry) -> None:
        path, user = self.config.ssh.path, self.config.ssh.user

        def identify(uid: int, name: str) -> str:
            return ssh_consumer(self.config, registry, uid, name)

        door = SshDoor(path, self.broker, identify, broker_name=self.config.broker.name)
        self._open(door, f"ssh {path}: user {user} speaks for every consumer with a key")

    def _open_enrol(self, admin: Admin, authority: Authority) -> None:
        enrol = self.config.enrol.listen
        if enrol:
            certificate, key = authority.ca_files
            door = EnrolDoor(
                admin, enrol.host, enrol.port, certificate=certificate, key=key, clock=self._clock
            )
            door.answered = self._auditor.joined
            self._doors.append(door.serve())
            self.broker.doors += (f"enrol {enrol} while an invitation is pending",)

    def _own_context(self, authority: Authority) -> ssl.SSLContext:
        certificate, key = authority.server_files(self.config.tls.names, self._clock())
        return server_context(certificate, key, authority.ca_files[0], renews=True)

    def _open_to_own_pki(self, listen: HostPort) -> None:
        own = self.config.pki
        registry = self._own_pki = OwnPkiRegistry(own.identity, certificate_names(self.config))
        self._add_tls(listen, lambda: server_context(own.certificate, own.key, own.ca), registry)

    def _add_tls(
        self,
        listen: HostPort,
        context: Callable[[], ssl.SSLContext],
        registry: InvitedRegistry | OwnPkiRegistry,
    ) -> None:
        self._tls = TlsDoor(
            listen.host or "*",
            listen.port,
            context,
            self.broker,
            registry,
            broker_name=self.config.broker.name,
            streams=self._stream_class,
            limits=Limits(max_sessions=self.config.tls.max_sessions),
            clock=self._clock,
        )
        self._open(self._tls, f"tls {listen}, with http")
        self.broker.remarks += (partial(_key_exchange, self._tls, ", ".join(offered())),)

    def _stream_class(self, consumer: str) -> DrawClass | None:
        account = self.broker.accounts.get(consumer)
        return account.terms.stream_class if account else None

    def _install_control(self) -> None:
        owner, consumers = self._admin.answers() if self._admin else (_no_invitations(), {})
        self.broker.control = Control(
            self.broker,
            {"receipt-key": self._receipt_key, **Seeds(self._store, self._clock).answers(), **owner},
            {"receipt-key": self._receipt_key, **consumers},
            self._auditor.asked,
        )

    async def _receipt_key(self, _name: str, _args: dict[str, Any]) -> dict[str, Any]:
        return {"public_key": self._signer.public_key.decode()}

    def _identify(self, uid: int, _gid: int, _pid: int) -> str:
        return local_consumer(self.config, uid)

    def _terms(self) -> Mapping[str, Terms]:
        invited = self._admin.consumers().values() if self._admin else ()
        return {**invited_terms(invited), **configured_terms(self.config)}

    async def _upkeep(self) -> None:
        """Note the time, so that no restart goes back before it, and renew the broker's own certificate."""
        while True:
            try:
                await asyncio.to_thread(self._store.note_time, self._clock())
            except StateUnavailable as error:
                log.error("%s", error)
            await asyncio.sleep(UPKEEP_S)
            await self._auditor.settle()
            if self._tls and self._authority:
                try:
                    self._tls.reload()
                except DrawwellError as error:
                    log.error("the TLS door keeps its old certificate: %s", error)


def _key_exchange(door: TlsDoor, offers: str) -> str:
    """Say what is known: what a handshake has come to stands in its hello, and so it is counted."""
    negotiated = ", ".join(f"{name} ({times})" for name, times in door.groups.most_common())
    return f"tls key exchange: offered {offers}; negotiated {negotiated or 'none yet'}"


def _no_invitations() -> dict[str, Answer]:
    """What the operator is told where nobody can join."""

    async def refuse(_name: str, _args: dict[str, Any]) -> dict[str, Any]:
        raise UsageError(
            "this broker invites nobody: it has neither an SSH door nor a TLS door with the built-in CA",
            hint='Set [tls] listen = "*:55000" or [ssh] user in the configuration and start again.',
        )

    return {f"consumer.{verb}": refuse for verb in ("invite", "list", "revoke", "quota")}


def _changed(table: Table, old: Config, new: Config) -> bool:
    return bool(getattr(old, table.attribute) != getattr(new, table.attribute))


def _receipt_key(path: str) -> bytes:
    """The Ed25519 key that signs receipts; made at the first start."""
    if not os.path.exists(path):
        replace_file(path, receipt_key_from_seed(os.urandom(32)))
    return read_file(path)
