"""A noise source as a process of its own: device, health tests and conditioning here, the reservoir elsewhere.

It ends when its device is gone or is not what it claims to be: whoever started it starts it again when there is one.
A permanent failure of the health tests does not end it, as that would forget the failure.
"""

import asyncio
import os
import time
from contextlib import suppress

from drawwell.config.drivers import ONLY_FOR
from drawwell.entropy.health import HealthMonitor, NoiseClaim
from drawwell.errors import DrawwellError, SourceRejected, SourceStalled, SourceUnavailable
from drawwell.links.deposit import DepositLink
from drawwell.ports import NoiseSource
from drawwell.reports import SourceIdentity, SourceReport, SourceState
from drawwell.roles.source import SourceRole
from drawwell.service.status import ServiceStatus
from drawwell.service.systemd import Manager
from drawwell.units import format_size

READY_WITHIN_S = 20.0
"""A source that is slow to pass its start-up tests is called ready then: it runs, and its state says how."""


class LoneSource:
    """One source and its link.

    Args:
        driver: The way to the device.
        claim: What its noise is assessed at.
        path: The broker's socket for deposits.
        manager: Who started this process.
    """

    def __init__(self, driver: NoiseSource, claim: NoiseClaim, path: str, manager: Manager) -> None:
        self.link = DepositLink(path, self._look)
        monitor = HealthMonitor(claim, hash_key=os.urandom(32))
        self.role = SourceRole(driver, monitor, self.link.depot, time.monotonic, ends=self._ends)
        self._driver = driver
        self._manager = manager
        self._healthy = asyncio.Event()
        self._tending = ServiceStatus(manager, ready=self._ready, status=self._words)
        self._words_of = SourceStatusLine()

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set or the source ends; the broker is told why.

        Raises:
            SourceError: the device is gone, or is not what it claims to be.
        """
        async with asyncio.TaskGroup() as group:
            helpers = [
                group.create_task(self.link.run(self.role, self.role.drop_pending)),
                group.create_task(self._tending.run()),
            ]
            role = group.create_task(self._live())
            stopped = group.create_task(stop.wait())
            await asyncio.wait((role, stopped), return_when=asyncio.FIRST_COMPLETED)
            error = role.result() if role.done() else None
            self._manager.notify(STOPPING="1", STATUS=str(error or "stopping"))
            await self.link.leave(str(error or "it was stopped"))
            for task in (role, stopped, *helpers):
                task.cancel()
        if error:
            raise error

    async def _live(self) -> DrawwellError | None:
        try:
            await self.role.run()
        except DrawwellError as error:
            return error
        return None

    def _ends(self, error: DrawwellError) -> bool:
        """Does it end with that? A silent device is still there."""
        if isinstance(error, SourceRejected):
            return True
        return isinstance(error, SourceUnavailable) and self._gone(error)

    def _gone(self, error: SourceUnavailable) -> bool:
        identity = self._driver.identity
        return (
            not isinstance(error, SourceStalled)
            and identity.kind not in ONLY_FOR["command"]
            and not os.path.exists(identity.path)
        )

    def _look(self) -> None:
        if self.role.healthy:
            self._healthy.set()

    async def _ready(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(READY_WITHIN_S):
                await self._healthy.wait()

    def _words(self) -> str:
        return self._words_of(self.role.report(), self.link.waiting_because, self.role.supply_bytes_per_s)


class SourceStatusLine:
    """A source's state in a line, for whoever started its process. Remembers since when it is silent."""

    def __init__(self) -> None:
        self._heard_at = time.monotonic()

    def __call__(self, report: SourceReport, alone_because: str, rate_bytes_per_s: float) -> str:
        """``healthy, 31.2 kB/s full entropy``, ``STALLED 12 s: …``, ``starting`` and what else there may be."""
        if not report.stalled:
            self._heard_at = time.monotonic()
        words = self._state(report, rate_bytes_per_s)
        return f"{words}; waiting: {alone_because}" if alone_because else words

    def _state(self, report: SourceReport, rate_bytes_per_s: float) -> str:
        why = f": {report.last_error}" if report.last_error else ""
        if report.stalled:
            return f"STALLED {time.monotonic() - self._heard_at:.0f} s{why}"
        if report.paused:
            return "paused"
        if report.state is SourceState.HEALTHY:
            rate = f", {format_size(int(rate_bytes_per_s))}/s full entropy" if rate_bytes_per_s else ""
            return f"healthy{rate}{_simulated(report.identity)}"
        if report.state is SourceState.PERMANENT_FAILURE:
            return f"FAILED{why}"
        return f"{'starting' if report.state is SourceState.STARTING else 'no source'}{why}"


def _simulated(identity: SourceIdentity) -> str:
    return " (simulated)" if identity.simulated else ""
