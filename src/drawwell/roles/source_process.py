"""A noise source as a process: device, health tests and conditioning.

The reservoir is in the broker. The process exits if its device is gone or is not the expected
device. The service manager restarts it when a device appears. A permanent health test failure
does not end the process, because a restart would forget the failure.
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
"""A source with slow start-up tests counts as ready after this; its state shows the tests."""


class LoneSource:
    """One source and its link to the broker.

    Args:
        driver: The driver of the device.
        claim: The assessment of the device's noise.
        path: The broker's deposit socket.
        manager: The service manager.
    """

    def __init__(self, driver: NoiseSource, claim: NoiseClaim, path: str, manager: Manager) -> None:
        self.link = DepositLink(path, self._look)
        monitor = HealthMonitor(claim, hash_key=os.urandom(32))
        self.role = SourceRole(driver, monitor, self.link.depot, time.monotonic, ends=self._ends)
        self._driver = driver
        self._manager = manager
        self._healthy = asyncio.Event()
        self._tending = ServiceStatus(manager, ready=self._ready, status=self._status_text)
        self._status_line = SourceStatusLine()

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set or the source ends; report why to the broker.

        Raises:
            SourceError: the device is gone, or is not the expected device.
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
        """Return whether this error ends the process; a silent device does not."""
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

    def _status_text(self) -> str:
        return self._status_line(self.role.report(), self.link.waiting_because, self.role.supply_bytes_per_s)


class SourceStatusLine:
    """A source's state in one line, with the time since its last sample."""

    def __init__(self) -> None:
        self._received_at = time.monotonic()

    def __call__(self, report: SourceReport, alone_because: str, rate_bytes_per_s: float) -> str:
        """Return ``healthy, 31.2 kB/s full entropy``, ``STALLED 12 s: …`` etc."""
        if not report.stalled:
            self._received_at = time.monotonic()
        state = self._state(report, rate_bytes_per_s)
        return f"{state}; waiting: {alone_because}" if alone_because else state

    def _state(self, report: SourceReport, rate_bytes_per_s: float) -> str:
        why = f": {report.last_error}" if report.last_error else ""
        if report.stalled:
            return f"STALLED {time.monotonic() - self._received_at:.0f} s{why}"
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
