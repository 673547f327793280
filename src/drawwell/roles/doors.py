"""All doors of one broker, as its configuration has them."""

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from drawwell.authorisation import DoorKind
from drawwell.broker.audit import Auditor
from drawwell.broker.broker import LocalBroker
from drawwell.broker.identities import (
    OWN_NAMES,
    certificate_names,
    configured_terms,
    invited_terms,
    local_consumer,
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
from drawwell.enrolment.broker_details import BrokerDetails
from drawwell.enrolment.ca import CertificateAuthority, SigningKeys
from drawwell.enrolment.registry import InvitedRegistry, OwnPkiRegistry
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import StateUnavailable
from drawwell.host.clock import WallClock, clock_is_set, clock_remark
from drawwell.host.openssl import offered
from drawwell.reports import CertificateReport
from drawwell.roles.directories import make_run_dir
from drawwell.service.systemd import Manager
from drawwell.state.files import read_file
from drawwell.state.store import Store
from drawwell.wire.contexts import server_context

log = logging.getLogger("drawwell.broker")


class Doors:
    """Makes the doors of `broker`; each is served by running its coroutine in `doors`.

    Args:
        config: What the operator wants.
        broker: Who is asked.
        store: Who was invited.
        keys: Sign certificates and receipts.
        auditor: Is told who comes and goes.
        clock: Seconds since the epoch, never stepping back.
        manager: May hand over the sockets that doors listen on, named unix, control, health, http, tls, ssh,
            source, and egd-CONSUMER. The enrolment door takes none: it is shut while no invitation lasts.
        reception: Takes in sources that run in processes of their own; None for a broker that does not.

    Raises:
        StateUnavailable: the state cannot be used.
        ConfigError: certificates that cannot be used.
    """

    def __init__(
        self,
        config: Config,
        broker: LocalBroker,
        store: Store,
        *,
        keys: SigningKeys,
        auditor: Auditor,
        clock: WallClock,
        manager: Manager,
        reception: RemoteSources | None = None,
    ) -> None:
        self.config = config
        self.broker = broker
        self.doors: list[Coroutine[Any, Any, None]] = []
        self.listed: list[str] = []
        """The doors, for the status."""
        self.admin: ConsumerAdmin | None = None
        self._store = store
        self._keys = keys
        self._auditor = auditor
        self._clock = clock
        self._manager = manager
        self._listeners: list[Door] = []
        self._undated = False
        self._ends: dict[str, float] = {}
        """When each certificate ends, by its name."""
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
        """Yield what the status should say about the doors."""
        yield clock_remark()
        if self._authority:
            yield self._authority.trouble
        if self._invited:
            yield self._invited.note()
        if self._enrol:
            yield self._enrol.remark()
        if self._tls:
            yield _key_exchange(self._tls, ", ".join(offered()))

    async def ready(self) -> None:
        """Return when every door listens."""
        await asyncio.gather(*(door.ready.wait() for door in self._listeners))

    def consumers(self) -> frozenset[str]:
        """Who has a session at any door now."""
        return frozenset().union(*(door.consumers for door in self._listeners))

    def sessions(self) -> int:
        """How many sessions are open."""
        return sum(door.sessions for door in self._listeners)

    def handshakes_waiting(self) -> int:
        """How many TLS handshakes wait for their turn."""
        return len(self._tls.handshakes) if self._tls else 0

    def certificates(self) -> tuple[CertificateReport, ...]:
        """How long the certificates that are in use are still valid."""
        now = self._clock.dates()
        return tuple(CertificateReport(name, end - now) for name, end in self._ends.items())

    def recheck(self, consumer: str | None = None) -> None:
        """End the sessions whose credential no longer counts: of `consumer`, or of all."""
        for door in self._listeners:
            door.recheck(consumer)

    def end_sessions(self) -> None:
        """End all sessions over TLS."""
        if self._tls:
            self._tls.drop_all()

    def reload_certificates(self) -> None:
        """Read the certificates again; raises as the constructor, and then the old ones stay."""
        if self._authority:
            with suppress(StateUnavailable):  # the status names it
                self._authority.refresh()
        if self._tls:
            self._tls.reload()

    def renew(self) -> None:
        """Renew the certificate of the built-in CA, when it is due; any thread. Raises as the constructor."""
        if self._authority or (self._undated and clock_is_set()):
            self.reload_certificates()

    def retry(self) -> None:
        """Read again what changed and could not be read; any thread. Raises StateUnavailable."""
        if self._invited:
            self._invited.retry()

    def follow(self, config: Config) -> None:
        """Take over the names of the consumers in the configuration."""
        self.config = config
        if self.admin:
            self.admin.configure(self._names_taken())
        if self._own_pki:
            self._own_pki.configure(config.pki.identity, certificate_names(config))
        self.recheck()

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
        who = "" if uid is None else f", and so may user {user}"
        words = f"deposits {path}: root and the broker's own user may{who}"
        self._open(DepositDoor(path, reception, uid), words, self._handed("source", path))

    def _open(self, door: Door, words: str = "", handed: Sequence[socket.socket] = ()) -> None:
        """Have a door served by `run`; `words` say in the status what it is, `handed` is what it listens on."""
        self.doors.append(door.serve(handed))
        self._listeners.append(door)
        self._auditor.watch(words or "control", door)
        self.listed += [words] if words else []

    def _handed(self, name: str, where: str) -> list[socket.socket]:
        """Take the sockets that the service manager listens on for a door; elsewhere than `where` they are no use."""
        found = self._manager.inherited(name)
        fit = [sock for sock in found if listens_at(sock, where)]
        for sock in found:
            if sock not in fit:
                log.warning("the socket %s that was handed over is not at %s: not used", name, where)
                sock.close()
        return fit

    def _open_egd(self, egd: EgdSection) -> None:
        where, draw_class = str(egd.listen), DrawClass(egd.draw_class)
        available = partial(self.broker.available_bytes, egd.consumer, draw_class)
        door = EgdDoor(where, self.broker, egd.consumer, draw_class, available, mode=egd.mode)
        who = f"whoever may open it (mode {egd.mode:04o})" if "/" in where else "any local user"
        words = f"egd {where}, class {draw_class}: {who} is consumer {egd.consumer}"
        self._open(door, words, self._handed(f"egd-{egd.consumer}", where))

    def _open_to_invited(self) -> None:
        """Open the doors of those whom the configuration does not know: they have our certificate, or an SSH key."""
        config = self.config
        authority = self._authority = CertificateAuthority(
            os.path.join(config.broker.state_dir, "pki"), self._keys
        )
        judge_bare_lines(self._store, (config.audit.path or "", config.audit.operators_path))
        registry = InvitedRegistry(self._store)
        self._invited = registry
        joinable = None if config.pki.ca else config.tls.listen
        admin = self.admin = ConsumerAdmin(
            self._store,
            registry,
            authority,
            self._site(joinable),
            clock=self._clock,
            guests=self._store.guests,
            dates=self._clock.dates,
        )
        admin.listeners.append(self.recheck)
        if config.ssh.user:
            self._open_ssh(registry)
        if joinable:
            self._add_tls(joinable, partial(self._own_context, authority), registry)
            self._open_enrol(admin, authority)

    def _site(self, joinable: HostPort | None) -> BrokerDetails:
        config, host = self.config, self.config.tls.names[0]
        bracketed = f"[{host}]" if ":" in host else host
        enrol = config.enrol.listen
        return BrokerDetails(
            broker=config.broker.name,
            enrol_address=f"{bracketed}:{enrol.port if enrol else 0}" if joinable else "",
            addresses=(f"{bracketed}:{joinable.port}",) if joinable else (),
            configured=self._names_taken(),
            ssh=bool(config.ssh.user),
        )

    def _names_taken(self) -> frozenset[str]:
        """The consumers that nobody may be invited as."""
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
        words = f"ssh {path}: user {user} speaks for every consumer with a key"
        self._open(door, words, self._handed("ssh", path))

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
            self.listed.append(f"enrol {enrol} until the last invitation ends")

    def _joined(self, consumer: str, host: str, refused: str) -> None:
        self._auditor.joined(consumer, host, refused)
        if consumer:
            self.recheck(consumer)

    def _own_context(self, authority: CertificateAuthority) -> ssl.SSLContext:
        certificate, key = authority.server_files(self.config.tls.names, self._clock.dates())
        self._note_ends(certificate, authority.authorities)
        return server_context(certificate, key, authority.authorities, renews=True)

    def _note_ends(self, server: str, authority: str) -> None:
        for name, path in (("server", server), ("ca", authority)):
            self._ends[name] = pki.read_certificate(read_file(path)).not_after

    def _open_to_own_pki(self, listen: HostPort) -> None:
        own = self.config.pki
        registry = self._own_pki = OwnPkiRegistry(own.identity, certificate_names(self.config))
        self._add_tls(listen, self._own_pki_context, registry)

    def _own_pki_context(self) -> ssl.SSLContext:
        """Have dates judged by OpenSSL, which asks this machine's clock, as soon as that is set."""
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
        terms = configured_terms(self.config).get(consumer)
        if terms is None and self._invited and (known := self._invited.known(consumer)):
            terms = invited_terms(known.row)
        return terms.stream_class if terms else None

    def _identify(self, uid: int, _gid: int, _pid: int) -> str:
        return local_consumer(self.config, uid)


def _key_exchange(door: TlsDoor, offers: str) -> str:
    """Say what is known: what a handshake has come to stands in its hello, and so it is counted."""
    negotiated = ", ".join(f"{name} ({times})" for name, times in door.groups.most_common())
    return f"tls key exchange: offered {offers}; negotiated {negotiated or 'none yet'}"
