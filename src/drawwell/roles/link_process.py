"""The link role: draws from remote brokers and serves a local socket.

It has no device and no CAP_SYS_ADMIN. The kernel's feeder draws here and uses no network.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from drawwell import __version__
from drawwell.authorisation import OBSERVE, DoorKind, Principal
from drawwell.broker.identities import link_consumer
from drawwell.config.model import Config
from drawwell.doors.door import Door
from drawwell.doors.http import HttpDoor
from drawwell.doors.sockets import listens_at
from drawwell.doors.unix import UnixDoor
from drawwell.entropy.blocks import DrawRequest, Grant
from drawwell.errors import ConfigError, DrawRefused, DrawwellError, PermissionRefused, StateUnavailable
from drawwell.host.clock import clock_is_set, clock_remark
from drawwell.host.generation import Generations
from drawwell.links.identity import LINKS, load
from drawwell.ports import Upstream
from drawwell.reports import LinkReport, UpstreamReport, as_json
from drawwell.roles.certificate_renewal import keep_renewed
from drawwell.roles.directories import make_run_dir
from drawwell.roles.joined_links import JoinedLinks
from drawwell.service.status import ServiceStatus
from drawwell.service.systemd import Manager
from drawwell.units import format_size
from drawwell.wire.limits import MAX_MIXED

log = logging.getLogger("drawwell.link")

ASK_EVERY_S: Final = 60.0
ANSWER_S: Final = 3.0
_FRESH_S: Final = 5.0
"""How long an answer is reused for all callers."""


class Relay:
    """A `Broker` over an `Upstream`: forwards every draw, stores nothing.

    Args:
        upstream: The source of the bytes.
        links: The links that `upstream` uses, by URL.
        certificates: Returns the remaining seconds of the certificate for a URL, or None.
        mix: The number of brokers whose bytes `upstream` mixes.
        note: A further note for the report; "" for none.
    """

    def __init__(
        self,
        upstream: Upstream,
        links: Mapping[str, Upstream],
        certificates: Callable[[str], float | None] = lambda _url: None,
        *,
        mix: int = 1,
        note: str = "",
    ) -> None:
        self._note = note
        self._mix = mix
        self._upstream = upstream
        self._links = links
        self._certificates = certificates
        self._states = dict.fromkeys(links, "not checked yet")
        self._asked_at = float("-inf")
        self._asking = asyncio.Lock()
        self._began = time.monotonic()
        self._draws = self._bytes = 0
        self.last_error = ""

    def try_draw(self, principal: Principal, request: DrawRequest) -> Grant | None:  # noqa: ARG002 - Broker's
        """Return None, because a remote draw always waits; see `Broker`."""
        return None

    async def draw(self, principal: Principal, request: DrawRequest) -> Grant:
        """Draw remotely (Broker); all local peers count as one consumer."""
        if request.receipt and self._mix > MAX_MIXED:
            raise DrawRefused(
                f"a link forwards receipts of at most {MAX_MIXED} brokers, but this link mixes {self._mix}",
                hint="Draw as root (root connects to the brokers directly), or draw from one broker with --via LINK.",
            )
        try:
            grant = await self._upstream.draw(
                request.n_bytes,
                request.draw_class,
                prediction_resistance=request.prediction_resistance,
                receipt=request.receipt,
                patience_s=request.patience_s,
            )
        except DrawwellError as error:
            if str(error) != self.last_error:
                log.warning("%s: %s", self._upstream.name, error, extra={"consumer": principal.name})
            self.last_error = str(error)
            raise
        self.last_error = ""
        self._draws += 1
        self._bytes += request.n_bytes
        return grant

    async def sign(self, grant: Grant) -> Grant:
        """Return the grant as signed by the remote broker; see `Broker`."""
        return grant

    def mix_in(self, principal: Principal, data: bytes) -> None:
        """Do nothing, because a link has no generator; see `Broker`."""

    async def call(self, principal: Principal, verb: str, args: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Answer for this link, or forward the verb to the broker; see `Broker`."""
        if verb == "status":
            await self.ask()
            return as_json(self.report())
        if verb == OBSERVE:
            await self.ask()
            return {"names": False, "report": as_json(self.report())}
        if verb == "receipt-key":
            return await self._receipt_keys()
        raise PermissionRefused(f"a link does not support {verb}", hint="Send the verb to the broker.")

    async def _receipt_keys(self) -> dict[str, Any]:
        """Return the keys of all brokers that answer; a draw can use any."""
        calls = [asyncio.wait_for(link.call("receipt-key", {}), ANSWER_S) for link in self._links.values()]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        found = [str(answer.get("public_key", "")) for answer in answers if isinstance(answer, dict)]
        return {"public_key": "".join(found)} if found else await self._upstream.call("receipt-key", {})

    async def ask(self) -> None:
        """Check every broker's readiness, unless this was done recently."""
        async with self._asking:
            if time.monotonic() - self._asked_at < _FRESH_S:
                return
            urls = list(self._links)
            states = await asyncio.gather(*(broker_state(self._links[url]) for url in urls))
            self._states = dict(zip(urls, states, strict=True))
            self._asked_at = time.monotonic()

    def report(self) -> LinkReport:
        """Return the state as of the last check."""
        upstreams = tuple(
            UpstreamReport(url, not why, why, self._certificates(url)) for url, why in self._states.items()
        )
        ready = any(each.ready for each in upstreams)
        return LinkReport(
            version=__version__,
            uptime_s=time.monotonic() - self._began,
            ready=ready,
            not_ready_because=""
            if ready
            else "; ".join(f"{url}: {why}" for url, why in self._states.items()),
            draws=self._draws,
            drawn_bytes=self._bytes,
            upstreams=upstreams,
            notes=tuple(filter(None, (clock_remark(), self._note))),
        )

    def describe(self) -> str:
        """Return the state in one line."""
        report = self.report()
        if not report.ready:
            return f"no broker: {report.not_ready_because}"
        ready = ", ".join(each.url for each in report.upstreams if each.ready)
        error = f"; {self.last_error}" if self.last_error else ""
        return f"linked to {ready}, {format_size(report.drawn_bytes)} in {report.draws} draws{error}"


async def broker_state(link: Upstream) -> str:
    """Return why the broker cannot serve now; "" if it can."""
    try:
        async with asyncio.timeout(ANSWER_S):
            answer = await link.call("status", {})
    except DrawwellError as error:
        return str(error)
    except TimeoutError:
        return f"no answer within {ANSWER_S:g} s"
    return str(answer.get("not_ready_because", ""))


class LinkProcess:
    """The links of a configuration, their door, and certificate renewal.

    Args:
        config: The configuration.
        manager: The service manager; may pass the socket named link.
        note: A further note for the status; "" for none.

    Raises:
        ConfigError: there is no [[upstream]].
        StateUnavailable: an identity is missing.
        PermissionRefused: the socket's directory cannot be used.
    """

    def __init__(self, config: Config, manager: Manager, *, note: str = "") -> None:
        if not config.upstreams:
            raise ConfigError("no broker to link to", hint="Add [[upstream]] or run 'drawwell join'.")
        links_dir = os.path.join(config.broker.state_dir, LINKS)
        self._joined = joined = JoinedLinks(config.upstreams, links_dir, config.links.mix)
        self.relay = Relay(
            joined.upstream, joined.links, self._certificate_left_s, mix=joined.upstream.mix, note=note
        )
        path = config.broker.link_socket
        self.door = UnixDoor(
            path,
            self.relay,
            lambda uid, _gid, _pid: link_consumer(config, uid),
            way=DoorKind.LINK,
            broker_name="link",
        )
        handed = [sock for sock in manager.inherited("link") if listens_at(sock, path)]
        if not handed:
            make_run_dir(config.broker.run_dir)
        self._doors: dict[Door, Sequence[socket.socket]] = {self.door: handed}
        if config.health.listen and not config.serves:
            where = str(config.health.listen)
            self._doors[HttpDoor(where, self.relay)] = manager.inherited("health")
        self._generations = Generations(self._restart, manager.opened("copies"))
        self._stale = asyncio.Event()
        self._tending = ServiceStatus(manager, ready=self._ready, status=self.relay.describe)

    @property
    def doors(self) -> Collection[Door]:
        """The door on which this process listens."""
        return self._doors

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set; same errors as Door.serve."""
        renewing = keep_renewed(self._joined.identities(), self._joined.refresh)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(each)
                for each in (
                    *(door.serve(handed) for door, handed in self._doors.items()),
                    renewing, self._keep_asking(), self._tending.run(),
                    self._generations.listen(), self._close_stale(),
                )
            ]  # fmt: skip
            await stop.wait()
            self._tending.stopping()
            for task in tasks:
                task.cancel()
        await self._close()

    async def _ready(self) -> None:
        await asyncio.gather(*(door.ready.wait() for door in self._doors))

    async def _keep_asking(self) -> None:
        while True:
            await self.relay.ask()
            await asyncio.sleep(ASK_EVERY_S)

    def _restart(self) -> None:
        self._stale.set()

    async def _close_stale(self) -> None:
        """End sessions that a copy of this machine may share; they reopen on use."""
        while True:
            await self._stale.wait()
            self._stale.clear()
            await self._close()

    async def _close(self) -> None:
        for link in self._joined.links.values():
            await link.aclose()

    def _certificate_left_s(self, url: str) -> float | None:
        directory = self._joined.directories.get(url)
        if directory is None or not clock_is_set():
            return None
        try:
            return load(directory).expires() - time.time()
        except StateUnavailable:
            return None
