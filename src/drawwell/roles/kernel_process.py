"""The process that feeds the kernel, the only one with CAP_SYS_ADMIN.

It draws from a Unix socket, listens on nothing, and imports neither cryptography nor TLS
(law 10). Its report is a file that all users can read.
"""

import asyncio
import json
import os
import pwd
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Final

from drawwell import __version__
from drawwell.config.defaults import KERNEL_USER
from drawwell.config.model import Config
from drawwell.entropy.blocks import DrawClass, Grant
from drawwell.entropy.credit import credit
from drawwell.errors import DrawwellError, PermissionRefused, StateUnavailable
from drawwell.links.link import Link
from drawwell.links.unix import UnixLink
from drawwell.ownership import make_directory, rights_of_owner
from drawwell.reports import Evidence, FeedReport, SinkReport, as_json
from drawwell.roles.consumer import ConsumerRole
from drawwell.service.status import LOOK_EVERY_S, ServiceStatus
from drawwell.service.systemd import Manager
from drawwell.sinks.kernel import KernelSink
from drawwell.state.files import read_file, replace_file
from drawwell.units import format_size

FIRST_FEED_S: Final = 5.0
"""How long startup waits for the first feed, so the boot continues with a fed kernel."""
RETRY_S: Final = 1.0
"""Retry interval for a local broker without a source; the boot waits for the feed."""
BROKER_STARTS_S: Final = 60.0
"""systemd's sockets accept connections up to half a minute before the broker runs."""
BELIEVED_USERS: Final = ("drawwell",)
"""The package's user for broker and link; root and our own user are also trusted."""


class EvidenceCheckedUpstream:
    """A local Upstream that requests the broker's evidence after each draw.

    A broker that has ever had bytes without evidence reports none, so a report after the draw
    also covers earlier bytes. The draw and the report must use one session, because a
    restarted broker does not know the earlier bytes.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self.evidence = Evidence.NO_NOISE
        """The evidence reported after the last draw."""

    @property
    def name(self) -> str:
        """The broker's address; see `Upstream`."""
        return self._link.name

    async def draw(self, n_bytes: int, draw_class: DrawClass, **options: Any) -> Grant:
        """Draw, then request the evidence; see `Upstream`."""
        self.evidence = Evidence.NO_NOISE
        grant = await self._link.draw(n_bytes, draw_class, **options)
        session = self._link.sessions
        with suppress(DrawwellError, ValueError):  # without evidence, the bytes earn no credit
            evidence = Evidence((await self._link.call("status", {})).get("evidence", ""))
            if self._link.sessions == session:
                self.evidence = evidence
        return grant

    async def call(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Call a control verb; see `Upstream`."""
        return await self._link.call(verb, args)

    async def aclose(self) -> None:
        """Close the link; see `Upstream`."""
        await self._link.aclose()


class Feeder:
    """Feeds the kernel from the local broker, or otherwise from the link.

    Args:
        config: The configuration.
        manager: The service manager.
        kernel: Makes the sink; replaced in tests.
    """

    def __init__(
        self, config: Config, manager: Manager, kernel: Callable[..., KernelSink] = KernelSink
    ) -> None:
        linked = config.draws_elsewhere
        path = config.broker.link_socket if linked else config.unix.path
        self._upstream = EvidenceCheckedUpstream(
            UnixLink(path, believed=believed(), open_deadline_s=BROKER_STARTS_S)
        )
        self._sink = kernel(
            credit=lambda: credit(None if linked else self._upstream.evidence, config.kernel.credit),
            interval_s=config.kernel.interval,
            chunk_bytes=config.kernel.amount,
        )
        self._consumer = ConsumerRole(
            self._upstream, self._sink, DrawClass.FULL, jitter=random.random, refused_retry_s=RETRY_S
        )
        self._path = config.broker.feed_report
        self._was_fed = asyncio.Event()
        self._tending = ServiceStatus(manager, ready=self._fed, status=self._status_line)

    async def run(self, stop: asyncio.Event) -> None:
        """Feed until `stop` is set.

        Raises:
            SinkRefused: the kernel accepts no more bytes.
        """
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(each)
                    for each in (self._consumer.run(), self._tending.run(), self._publish())
                ]
                await stop.wait()
                self._tending.stopping()
                for task in tasks:
                    task.cancel()
        except* DrawwellError as errors:
            raise errors.exceptions[0] from None
        finally:
            with suppress(OSError, PermissionRefused), rights_of_owner(self._path):
                os.unlink(self._path)

    async def _fed(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_FEED_S):
                await self._was_fed.wait()

    def _status_line(self) -> str:
        report, error = self._sink.report, self._consumer.last_error
        fed = f"fed {format_size(report.delivered_bytes)}, {report.credited_bits} bits credited"
        if error:
            return f"starved: {error}" if not report.deliveries else f"starved: {error}; {fed}"
        return fed if report.deliveries else "waiting for the first bytes"

    async def _publish(self) -> None:
        """Write the report whenever it changes."""
        directory = os.path.dirname(self._path)
        with suppress(OSError, PermissionRefused), rights_of_owner(directory):
            make_directory(directory, 0o755)
        said: object = None
        while True:
            now = (self._sink.report, self._consumer.last_error)
            if now != said:
                said = now
                if now[0].deliveries:
                    self._was_fed.set()
                report = FeedReport(__version__, time.time(), self._upstream.name, now[1], now[0])
                with suppress(StateUnavailable, PermissionRefused):  # the service manager gets the status too
                    replace_file(self._path, json.dumps(as_json(report)).encode(), 0o644)
            await asyncio.sleep(LOOK_EVERY_S / 10)


def believed(names: Iterable[str] = BELIEVED_USERS) -> frozenset[int]:
    """Return the IDs of the users whose sockets are trusted."""
    found = {0, os.geteuid()}
    for name in names:
        with suppress(KeyError):
            found.add(pwd.getpwnam(name).pw_uid)
    return frozenset(found)


def feed_reports(path: str) -> Iterator[SinkReport]:
    """Yield the report of the process that feeds this machine's kernel."""
    if report := read_report(path):
        with suppress(TypeError):
            yield SinkReport(**report["sink"])


def read_report(path: str) -> dict[str, Any] | None:
    """Read a feeder's report; None if the file is missing or invalid."""
    try:
        owner = os.lstat(path).st_uid
        if owner not in believed((*BELIEVED_USERS, KERNEL_USER)):
            return None
        document = json.loads(read_file(path))
    except (OSError, StateUnavailable, ValueError):
        return None
    return document if isinstance(document, dict) and isinstance(document.get("sink"), dict) else None
