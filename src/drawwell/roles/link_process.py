"""The link role: it holds the links to brokers elsewhere, and hands on what it draws at a socket of this machine.

It has neither a device nor CAP_SYS_ADMIN; whoever feeds the kernel draws here and never meets the network.
"""

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from drawwell import __version__
from drawwell.authorisation import DoorKind, Principal
from drawwell.broker.identities import link_consumer
from drawwell.config.model import Config
from drawwell.doors.sockets import listens_at
from drawwell.doors.unix import UnixDoor
from drawwell.entropy.blocks import DrawRequest, Grant
from drawwell.errors import ConfigError, DrawwellError, PermissionRefused, StateUnavailable
from drawwell.host.clock import clock_is_set, clock_remark
from drawwell.host.generation import Generations
from drawwell.links.failover import Failover
from drawwell.links.identity import LINKS, load
from drawwell.ports import Upstream
from drawwell.reports import LinkReport, UpstreamReport, as_json
from drawwell.roles.certificate_renewal import keep_renewed
from drawwell.roles.directories import make_run_dir
from drawwell.roles.make_links_and_sinks import identity_directory, make_upstream
from drawwell.service.status import ServiceStatus
from drawwell.service.systemd import Manager
from drawwell.units import format_size

log = logging.getLogger("drawwell.link")

ASK_EVERY_S: Final = 60.0
ANSWER_S: Final = 3.0
_FRESH_S: Final = 5.0
"""An answer is not asked for again so soon, whoever asks here."""


class Relay:
    """A `Broker` over an `Upstream`: every draw is one draw there; nothing is kept here.

    Args:
        upstream: Where to draw.
        links: The brokers behind it, by URL.
        certificates: Says how many seconds the certificate that each is shown is valid, where it is shown one.
    """

    def __init__(
        self,
        upstream: Upstream,
        links: Mapping[str, Upstream],
        certificates: Callable[[str], float | None] = lambda _url: None,
    ) -> None:
        self._upstream = upstream
        self._links = links
        self._certificates = certificates
        self._states = dict.fromkeys(links, "not asked yet")
        self._asked_at = float("-inf")
        self._asking = asyncio.Lock()
        self._began = time.monotonic()
        self._draws = self._bytes = 0
        self.last_error = ""

    def try_draw(self, principal: Principal, request: DrawRequest) -> Grant | None:  # noqa: ARG002 - Broker's
        """Return None: a draw from afar always waits (Broker)."""
        return None

    async def draw(self, principal: Principal, request: DrawRequest) -> Grant:
        """Draw there (Broker). All who draw here are one consumer there: this machine."""
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
        """Return it: the broker there has signed it (Broker)."""
        return grant

    def mix_in(self, principal: Principal, data: bytes) -> None:
        """Do nothing: there is no generator here (Broker)."""

    async def call(self, principal: Principal, verb: str, args: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Answer for ourselves, or have the broker answer (Broker)."""
        if verb == "status":
            await self.ask()
            return as_json(self.report())
        if verb == "receipt-key":
            return await self._upstream.call(verb, {})
        raise PermissionRefused(f"a link does not answer {verb}", hint="Ask at the broker.")

    async def ask(self) -> None:
        """Ask every broker whether it is ready, unless that was just done; none is waited for long."""
        async with self._asking:
            if time.monotonic() - self._asked_at < _FRESH_S:
                return
            urls = list(self._links)
            states = await asyncio.gather(*(broker_state(self._links[url]) for url in urls))
            self._states = dict(zip(urls, states, strict=True))
            self._asked_at = time.monotonic()

    def report(self) -> LinkReport:
        """How things are, as of the last time that anybody was asked."""
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
            notes=tuple(filter(None, (clock_remark(),))),
        )

    def describe(self) -> str:
        """Say in a line how it does."""
        report = self.report()
        if not report.ready:
            return f"no broker: {report.not_ready_because}"
        ready = ", ".join(each.url for each in report.upstreams if each.ready)
        error = f"; {self.last_error}" if self.last_error else ""
        return f"linked to {ready}, {format_size(report.drawn_bytes)} in {report.draws} draws{error}"


async def broker_state(link: Upstream) -> str:
    """Return why that broker serves nothing now, "" when it does."""
    try:
        async with asyncio.timeout(ANSWER_S):
            answer = await link.call("status", {})
    except DrawwellError as error:
        return str(error)
    except TimeoutError:
        return f"no answer within {ANSWER_S:g} s"
    return str(answer.get("not_ready_because", ""))


class LinkProcess:
    """The links of a configuration, their door, and the renewal of their certificates.

    Args:
        config: What the operator wants.
        manager: Who started this process; may hand over the socket, named link.

    Raises:
        ConfigError: there is no [[upstream]].
        StateUnavailable: an identity is missing.
        PermissionRefused: the directory of the socket cannot be used.
    """

    def __init__(self, config: Config, manager: Manager) -> None:
        if not config.upstreams:
            raise ConfigError("no broker to link to", hint="Add an [[upstream]], or 'drawwell join TOKEN'.")
        links_dir = os.path.join(config.broker.state_dir, LINKS)
        self._links = {each.url: make_upstream(each, links_dir) for each in config.upstreams}
        self._directories = {
            each.url: identity_directory(each, links_dir) for each in config.upstreams if each.joined
        }
        upstream = Failover(list(self._links.values()), jitter=random.random, mix=config.links.mix)
        self.relay = Relay(upstream, self._links, self._certificate_left_s)
        path = config.broker.link_socket
        self.door = UnixDoor(
            path,
            self.relay,
            lambda uid, _gid, _pid: link_consumer(config, uid),
            way=DoorKind.LINK,
            broker_name="link",
        )
        self._handed = [sock for sock in manager.inherited("link") if listens_at(sock, path)]
        if not self._handed:
            make_run_dir(config.broker.run_dir)
        self._generations = Generations(self._restart, manager.opened("copies"))
        self._stale = asyncio.Event()
        self._tending = ServiceStatus(manager, ready=self.door.ready.wait, status=self.relay.describe)

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set; raises as Door.serve."""
        identities = [(self._links[url], directory) for url, directory in self._directories.items()]
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(each)
                for each in (
                    self.door.serve(self._handed), keep_renewed(identities), self._keep_asking(),
                    self._generations.listen(), self._close_stale(), self._tending.run(),
                )
            ]  # fmt: skip
            await stop.wait()
            self._tending.stopping()
            for task in tasks:
                task.cancel()
        await self._close()

    async def _keep_asking(self) -> None:
        while True:
            await self.relay.ask()
            await asyncio.sleep(ASK_EVERY_S)

    def _restart(self) -> None:
        self._stale.set()

    async def _close_stale(self) -> None:
        """End the sessions that a copy of this machine has, too; they open again by themselves."""
        while True:
            await self._stale.wait()
            self._stale.clear()
            await self._close()

    async def _close(self) -> None:
        for link in self._links.values():
            await link.aclose()

    def _certificate_left_s(self, url: str) -> float | None:
        directory = self._directories.get(url)
        if directory is None or not clock_is_set():
            return None
        try:
            return load(directory).expires() - time.time()
        except StateUnavailable:
            return None
