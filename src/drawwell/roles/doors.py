"""All doors of a broker, as configured."""

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from drawwell.authorisation import DoorKind, Principal
from drawwell.broker.audit import Auditor
from drawwell.broker.broker import LocalBroker
from drawwell.broker.identities import (
    OWN_NAMES,
    certificate_names,
    configured_terms,
    invited_terms,
    local_consumer,
    matched_terms,
    patterns,
    speaks_for_consumers,
    ssh_consumer,
)
from drawwell.broker.remote_sources import RemoteSources
from drawwell.config.defaults import SOURCE_USER
from drawwell.config.doors import EgdSection
from drawwell.config.model import Config
from drawwell.config.values import HostPort
from drawwell.crypto import pki
from drawwell.doors.deposit import DepositDoor
from drawwell.doors.door import Door, Limits
from drawwell.doors.egd import EgdDoor
from drawwell.doors.enrol import EnrolDoor
from drawwell.doors.http import HttpDoor
from drawwell.doors.sockets import listens_at
from drawwell.doors.ssh import SshDoor
from drawwell.doors.tls import MAX_HALF_OPEN, TlsDoor
from drawwell.doors.unix import UnixDoor
from drawwell.enrolment.admin import ConsumerAdmin
from drawwell.enrolment.bare_lines import judge_bare_lines
from drawwell.enrolment.broker_details import details_of
from drawwell.enrolment.broker_list import BrokerList
from drawwell.enrolment.ca import CertificateAuthority, SigningKeys
from drawwell.enrolment.registry import InvitedRegistry, OwnPkiRegistry
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import StateUnavailable, UsageError
from drawwell.host.clock import WallClock, clock_is_set, clock_remark
from drawwell.reports import CertificateReport
from drawwell.roles.directories import make_run_dir
from drawwell.roles.fleet_membership import fleet_membership
from drawwell.service.systemd import Manager
from drawwell.state.files import read_file
from drawwell.state.port import ConsumerStore
from drawwell.verbs import Handler
from drawwell.wire.contexts import server_context

log = logging.getLogger("drawwell.broker")


class Doors:
    """Builds the doors of `broker`; run the coroutines in `doors` to serve.

    Args:
        config: The configuration.
        broker: Serves the draws.
        store: The invited consumers.
        guests: Returns the guests of this machine.
        keys: Signs certificates and receipts.
        auditor: Records which consumers join and leave.
        clock: Seconds since the epoch; never goes back.
        manager: May pass listening sockets named unix, control, health, http, tls, ssh, source
            and egd-CONSUMER. The enrolment door opens its own socket while invitations exist.
        brokers: Returns the list of brokers that consumers receive.
        reception: Accepts sources from other processes; None to accept none.

    Raises:
        StateUnavailable: the state cannot be used.
        ConfigError: a certificate cannot be used.
    """

    def __init__(
        self,
        config: Config,
        broker: LocalBroker,
        store: ConsumerStore,
        *,
        guests: Callable[[], Collection[str]],
        keys: SigningKeys,
        auditor: Auditor,
        clock: WallClock,
        manager: Manager,
        reception: RemoteSources | None = None,
        brokers: BrokerList,
    ) -> None:
        self.config = config
        self.broker = broker
        self.doors: list[Coroutine[Any, Any, None]] = []
        self.listed: list[str] = []
        """Descriptions of the doors for the status."""
        self.admin: ConsumerAdmin | None = None
        self._store = store
        self._guests = guests
        self._keys = keys
        self._auditor = auditor
        self._clock = clock
        self._manager = manager
        self._brokers = brokers
        self._fleet = fleet_membership(config, keys)
        if self._fleet:
            self.doors.append(self._fleet.run())
        self._listeners: list[Door] = []
        self._undated = False
        self.server_key = ""
        """SHA-256 of the TLS door's public key, in hexadecimal."""
        self._ends: dict[str, float] = {}
        """The expiry time of each certificate, by name."""
        self._authority: CertificateAuthority | None = None
        self._own_pki: OwnPkiRegistry | None = None
        self._invited: InvitedRegistry | None = None
        self._enrol: EnrolDoor | None = None
        self._tls: TlsDoor | None = None
        self._open_local_doors()
        if reception:
            self._open_to_sources(reception)
        if config.ssh.user or (config.tls.listen and not config.pki.ca):
            self._open_to_invited()
        if config.tls.listen and config.pki.ca:
            self._open_to_own_pki(config.tls.listen)

    def notes(self) -> Iterator[str]:
        """Yield the notes on the doors for the status."""
        yield clock_remark()
        if self._authority:
            yield self._authority.trouble
        if self._invited:
            yield self._invited.note()
        if self._enrol:
            yield self._enrol.remark()
        if self._fleet:
            yield self._fleet.trouble
        if self._tls:
            yield self._tls.key_exchanges()

    async def ready(self) -> None:
        """Wait until every door listens."""
        await asyncio.gather(*(door.ready.wait() for door in self._listeners))

    def consumers(self) -> frozenset[str]:
        """Return the consumers with a session at any door."""
        return frozenset().union(*(door.consumers for door in self._listeners))

    def sessions(self) -> int:
        """Return the number of open sessions."""
        return sum(door.sessions for door in self._listeners)

    def handshakes_waiting(self) -> int:
        """Return the number of TLS handshakes in the queue."""
        return len(self._tls.handshakes) if self._tls else 0

    def certificates(self) -> tuple[CertificateReport, ...]:
        """Return the remaining validity of the certificates in use."""
        now = self._clock.dates()
        return tuple(CertificateReport(name, end - now) for name, end in self._ends.items())

    def recheck(self, consumer: str | None = None) -> None:
        """End sessions without valid credentials: those of `consumer`, or of all."""
        for door in self._listeners:
            door.recheck(consumer)

    def end_sessions(self) -> None:
        """End all TLS sessions."""
        if self._tls:
            self._tls.drop_all()

    def reload_certificates(self) -> None:
        """Reload certificates; on an error (see the class), nothing changes."""
        if self._authority:
            with suppress(StateUnavailable):  # the status reports it
                self._authority.refresh()
        if self._tls:
            self._tls.reload()

    def renew(self) -> None:
        """Renew the built-in CA's certificate if it is due, in any thread."""
        if self._authority or (self._undated and clock_is_set()):
            self.reload_certificates()

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers of the verbs about the doors."""
        return {"server.rotate": self._rotate_server, "fleet.open": self._open_to_brokers}

    def retry(self) -> None:
        """Retry a failed read of changes, in any thread; can raise an error."""
        if self._invited:
            self._invited.retry()

    def follow(self, config: Config) -> None:
        """Apply the configuration's consumer names."""
        self.config = config
        if self.admin:
            self.admin.configure(self._names_taken())
        if self._own_pki:
            self._own_pki.configure(config.pki.identity, certificate_names(config), patterns(config))
        self.recheck()

    async def _rotate_server(self, _owner: Principal) -> dict[str, Any]:
        """Replace the keys of the TLS and enrolment doors; return the new keys."""
        authority = self._authority
        if authority is None or self._tls is None or self._own_pki:
            raise UsageError(
                "this broker has no TLS door with the built-in CA",
                hint="Replace the key in [pki] with your own PKI, then 'systemctl reload drawwell-broker'.",
            )
        await asyncio.to_thread(authority.rotate_server, self.config.server_names, self._clock.dates())
        self.reload_certificates()
        return {"until": self._ends["server"]}

    async def _open_to_brokers(self, _owner: Principal) -> dict[str, Any]:
        if self._fleet is None:
            raise UsageError("this broker is not in a fleet", hint="Run 'drawwell fleet init' first.")
        if self._enrol is None or self.admin is None:
            raise UsageError("no broker can join: the TLS door is off", hint='Set [tls] listen = "*:55000".')
        await asyncio.to_thread(self._fleet.open)
        await self._enrol.follow()
        return {"enrol_address": self.admin.site.enrol_address}

    def _open_local_doors(self) -> None:
        config, broker, name = self.config, self.broker, self.config.broker.name
        make_run_dir(config.broker.run_dir)
        unix = UnixDoor(config.unix.path, broker, self._identify, mode=config.unix.mode, broker_name=name)
        control = UnixDoor(
            config.control.path, broker, self._identify, mode=0o600, way=DoorKind.CONTROL, broker_name=name
        )
        self._open(unix, f"unix {config.unix.path}", self._handed("unix", config.unix.path))
        self._open(control, handed=self._handed("control", config.control.path))
        if config.health.listen:
            where = str(config.health.listen)
            self._open(HttpDoor(where, broker), f"health {where}", self._handed("health", where))
        if config.http.listen:
            http = HttpDoor(config.http.listen, broker, self._identify, mode=config.http.mode)
            self._open(http, f"http {config.http.listen}", self._handed("http", config.http.listen))
        for egd in config.egds:
            self._open_egd(egd)

    def _open_to_sources(self, reception: RemoteSources) -> None:
        path, uid = self.config.broker.source_socket, self.config.broker.source_uid
        user = self.config.broker.source_user or SOURCE_USER
        who = "" if uid is None else f", and user {user}"
        label = f"deposits {path}: from root and the broker's own user{who}"
        self._open(DepositDoor(path, reception, uid), label, self._handed("source", path))

    def _open(self, door: Door, label: str = "", handed: Sequence[socket.socket] = ()) -> None:
        """Serve a door; `label` is its status line, `handed` are its sockets."""
        self.doors.append(door.serve(handed))
        self._listeners.append(door)
        self._auditor.watch(label or "control", door)
        self.listed += [label] if label else []

    def _handed(self, name: str, where: str) -> list[socket.socket]:
        """Take a door's sockets from the service manager if they are at `where`."""
        found = self._manager.inherited(name)
        fit = [sock for sock in found if listens_at(sock, where)]
        for sock in found:
            if sock not in fit:
                log.warning("the inherited socket %s is not at %s; it is not used", name, where)
                sock.close()
        return fit

    def _open_egd(self, egd: EgdSection) -> None:
        where, draw_class = str(egd.listen), DrawClass(egd.draw_class)
        available = partial(self.broker.available_bytes, egd.consumer, draw_class)
        door = EgdDoor(where, self.broker, egd.consumer, draw_class, available, mode=egd.mode)
        who = f"any user that can open it (mode {egd.mode:04o})" if "/" in where else "any local user"
        label = f"egd {where}, class {draw_class}: {who} is consumer {egd.consumer}"
        self._open(door, label, self._handed(f"egd-{egd.consumer}", where))

    def _open_to_invited(self) -> None:
        """Open the doors for invited consumers, with our certificate or SSH key."""
        config = self.config
        authority = self._authority = CertificateAuthority(
            os.path.join(config.broker.state_dir, "pki"), self._keys
        )
        judge_bare_lines(self._store, (config.audit.path or "", config.audit.operators_path))
        registry = InvitedRegistry(self._store, self._clock.dates)
        self._invited = registry
        joinable = None if config.pki.ca else config.tls.listen
        admin = self.admin = ConsumerAdmin(
            self._store,
            registry,
            authority,
            details_of(config, joinable, self._names_taken()),
            clock=self._clock,
            guests=self._guests,
            dates=self._clock.dates,
            known=self._brokers.known,
            fleet=self._fleet,
        )
        admin.listeners.append(self.recheck)
        if config.ssh.user:
            self._open_ssh(registry)
        if joinable:
            self._add_tls(joinable, partial(self._own_context, authority), registry)
            self._open_enrol(admin, authority)

    def _names_taken(self) -> frozenset[str]:
        """Return the names that invitations cannot use."""
        return OWN_NAMES | frozenset(configured_terms(self.config))

    def _open_ssh(self, registry: InvitedRegistry) -> None:
        path, user = self.config.ssh.path, self.config.ssh.user

        def identify(uid: int, name: str, key: str) -> str:
            return ssh_consumer(self.config, registry, uid, name, key)

        def speaks(uid: int) -> bool:
            return speaks_for_consumers(self.config, uid)

        door = SshDoor(
            path, self.broker, identify, find=registry.find, speaks=speaks,
            broker_name=self.config.broker.name,
        )  # fmt: skip
        label = f"ssh {path}: user {user} draws on behalf of every consumer with a key"
        self._open(door, label, self._handed("ssh", path))

    def _open_enrol(self, admin: ConsumerAdmin, authority: CertificateAuthority) -> None:
        enrol = self.config.enrol.listen
        if enrol:
            self._enrol = EnrolDoor(
                admin,
                enrol.host,
                enrol.port,
                files=lambda: authority.enrol_files(self._clock.dates()),
                clock=self._clock,
                answered=self._joined,
            )
            self.doors.append(self._enrol.serve())
            self.listed.append(f"enrol {enrol} while an invitation is open")

    def _joined(self, consumer: str, host: str, refused: str) -> None:
        self._auditor.joined(consumer, host, refused)
        if consumer:
            self.recheck(consumer)

    def _own_context(self, authority: CertificateAuthority) -> ssl.SSLContext:
        certificate, key = authority.server_files(self.config.server_names, self._clock.dates())
        self._note_ends(certificate, authority.authorities)
        return server_context(certificate, key, authority.authorities, renews=True)

    def _note_ends(self, server: str, authority: str) -> None:
        """Record when the TLS door's certificate, its CA and the root expire."""
        chain = pki.pem_blocks(read_file(server))[:2]
        shown = zip(("server", "intermediate"), chain, strict=False)
        self._ends = {name: pki.read_certificate(each).not_after for name, each in shown}
        self._ends["ca"] = pki.read_certificate(read_file(authority)).not_after
        self.server_key = pki.read_certificate(chain[0]).spki_sha256.hex()

    def _open_to_own_pki(self, listen: HostPort) -> None:
        own = self.config.pki
        names = certificate_names(self.config)
        registry = self._own_pki = OwnPkiRegistry(
            own.identity, names, patterns(self.config), self._clock.dates
        )
        self._add_tls(listen, self._own_pki_context, registry)

    def _own_pki_context(self) -> ssl.SSLContext:
        """Create the TLS context; if the clock is set, OpenSSL checks the dates."""
        own, self._undated = self.config.pki, not clock_is_set()
        self._note_ends(own.certificate, own.ca)
        return server_context(own.certificate, own.key, own.ca, renews=self._undated)

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
            limits=Limits(max_half_open=MAX_HALF_OPEN, max_sessions=self.config.tls.max_sessions),
            clock=self._clock.dates,
        )
        self._open(self._tls, f"tls {listen}, with http", self._handed("tls", str(listen)))

    def _stream_class(self, consumer: str) -> DrawClass | None:
        terms = configured_terms(self.config).get(consumer) or matched_terms(self.config, consumer)
        if terms is None and self._invited and (known := self._invited.known(consumer)):
            terms = invited_terms(known.row)
        return terms.stream_class if terms else None

    def _identify(self, uid: int, _gid: int, _pid: int) -> str:
        return local_consumer(self.config, uid)
