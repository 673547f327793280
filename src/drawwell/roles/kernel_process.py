"""The kernel's feed as a process of its own, the only one that holds CAP_SYS_ADMIN.

It draws at a Unix socket, listens nowhere, and imports neither cryptography nor TLS (law 10). What it did stands in a
file that everybody may read.
"""

import asyncio
import json
import os
import pwd
import random
import time
from collections.abc import Callable, Iterable
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
from drawwell.reports import Evidence, FeedReport, as_json
from drawwell.roles.consumer import ConsumerRole
from drawwell.service.status import LOOK_EVERY_S, ServiceStatus
from drawwell.service.systemd import Manager
from drawwell.sinks.kernel import KernelSink
from drawwell.state.files import read_file, replace_file
from drawwell.units import format_size

FIRST_FEED_S: Final = 5.0
"""A start waits so long for the first feed: whatever is there by then feeds the kernel before the boot goes on."""
RETRY_S: Final = 1.0
"""A broker of this machine is asked so often while it has no source: a boot waits for the first feed."""
BROKER_STARTS_S: Final = 60.0
"""With systemd's sockets one connects before there is a broker. On a slow machine it takes half a minute to come."""
BELIEVED_USERS: Final = ("drawwell",)
"""The account that the package makes for broker and link; root is believed, and our own user."""


class EvidenceCheckedUpstream:
    """An Upstream of this machine that is asked after each draw what vouches for its bytes.

    After it: a broker that ever had bytes of anything else does not vouch again, so what it vouches for now holds for
    the bytes that it gave before. In the same session: a broker that was started again knows nothing of the one before.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self.evidence = Evidence.NO_NOISE
        """What it said after the last draw."""

    @property
    def name(self) -> str:
        """The broker's address (Upstream)."""
        return self._link.name

    async def draw(self, n_bytes: int, draw_class: DrawClass, **options: Any) -> Grant:
        """Draw, and then ask (Upstream)."""
        self.evidence = Evidence.NO_NOISE
        grant = await self._link.draw(n_bytes, draw_class, **options)
        session = self._link.sessions
        with suppress(DrawwellError, ValueError):  # it does not vouch, and the bytes are mixed in uncredited
            evidence = Evidence((await self._link.call("status", {})).get("evidence", ""))
            if self._link.sessions == session:
                self.evidence = evidence
        return grant

    async def call(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Ask a control verb (Upstream)."""
        return await self._link.call(verb, args)

    async def aclose(self) -> None:
        """Close the link (Upstream)."""
        await self._link.aclose()


class Feeder:
    """Feeds the kernel from the broker of this machine, or from its link where it has upstreams and no source.

    Args:
        config: What the operator wants.
        manager: Who started this process.
        kernel: Makes the sink; tests have another one.
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
            credit=lambda: credit(
                Evidence.UNVOUCHED if linked else self._upstream.evidence, config.kernel.credit
            ),
            interval_s=config.kernel.interval,
            chunk_bytes=config.kernel.amount,
        )
        self._consumer = ConsumerRole(
            self._upstream, self._sink, DrawClass.FULL, jitter=random.random, refused_retry_s=RETRY_S
        )
        self._path = config.broker.feed_report
        self._was_fed = asyncio.Event()
        self._tending = ServiceStatus(manager, ready=self._fed, status=self._words)

    async def run(self, stop: asyncio.Event) -> None:
        """Feed until `stop` is set.

        Raises:
            SinkRefused: the kernel takes no more.
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

    def _words(self) -> str:
        report, error = self._sink.report, self._consumer.last_error
        fed = f"fed {format_size(report.delivered_bytes)}, {report.credited_bits} bits credited"
        if error:
            return f"starved: {error}" if not report.deliveries else f"starved: {error}; {fed}"
        return fed if report.deliveries else "waiting for the first bytes"

    async def _publish(self) -> None:
        """Write what happened, whenever something did."""
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
                with suppress(StateUnavailable, PermissionRefused):  # it is told to the service manager, too
                    replace_file(self._path, json.dumps(as_json(report)).encode(), 0o644)
            await asyncio.sleep(LOOK_EVERY_S / 10)


def believed(names: Iterable[str] = BELIEVED_USERS) -> frozenset[int]:
    """Return the numbers of the users whose sockets are believed."""
    found = {0, os.geteuid()}
    for name in names:
        with suppress(KeyError):
            found.add(pwd.getpwnam(name).pw_uid)
    return frozenset(found)


def read_report(path: str) -> dict[str, Any] | None:
    """Read what a feeder of this machine wrote; None when none runs, or it is nothing that one writes."""
    try:
        owner = os.lstat(path).st_uid
        if owner not in believed((*BELIEVED_USERS, KERNEL_USER)):
            return None
        document = json.loads(read_file(path))
    except (OSError, StateUnavailable, ValueError):
        return None
    return document if isinstance(document, dict) and isinstance(document.get("sink"), dict) else None
