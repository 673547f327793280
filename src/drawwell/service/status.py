"""Service-manager notifications: readiness, status line, watchdog."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from drawwell.reports import BrokerReport, SourceState
from drawwell.service.systemd import Manager
from drawwell.units import format_size

LOOK_EVERY_S: Final = 2.0
"""Maximum age of the status line in seconds."""
LEAST_BYTES: Final = 48
"""A reservoir with fewer bytes is starved: it cannot seed a consumer's generator."""


class ServiceStatus:
    """Sends notifications to `manager` until cancelled.

    Args:
        manager: The service manager.
        ready: Returns once the process is in service.
        status: Returns the status line; called every `LOOK_EVERY_S`.
        alive: Returns whether all drivers respond; otherwise the watchdog is not notified.
    """

    def __init__(
        self,
        manager: Manager,
        *,
        ready: Callable[[], Awaitable[object]],
        status: Callable[[], str],
        alive: Callable[[], bool] = lambda: True,
    ) -> None:
        self._manager = manager
        self._ready = ready
        self._status = status
        self._alive = alive

    async def run(self) -> None:
        """Send READY once, then the status and watchdog notifications."""
        if not self._manager.listens:
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._say_ready())
            tasks.create_task(self._say_status())

    def reloading(self) -> None:
        """Notify that a reload has begun; `ready_again` ends it."""
        self._manager.notify(RELOADING="1", MONOTONIC_USEC=str(time.monotonic_ns() // 1000))

    def ready_again(self) -> None:
        """Notify that the reload has ended, with or without success."""
        self._manager.notify(READY="1", STATUS=self._status())

    def stopping(self) -> None:
        """Notify that the process is stopping."""
        self._manager.notify(STOPPING="1", STATUS="stopping")

    async def _say_ready(self) -> None:
        await self._ready()
        self._manager.notify(READY="1", STATUS=self._status())

    async def _say_status(self) -> None:
        every_s = min(LOOK_EVERY_S, (self._manager.watchdog_s or LOOK_EVERY_S) / 3)
        said = ""
        while True:
            status = self._status()
            if status != said:
                self._manager.notify(STATUS=status)
                said = status
            if self._alive():
                self._manager.notify(WATCHDOG="1")
            await asyncio.sleep(every_s)


class BrokerStatusLine:
    """The broker's state in one line, with the time since the last draw.

    Args:
        report: Returns the broker's report.
        consumers: Returns the consumers with a session.
        now: Returns the seconds on a clock that never goes back.
    """

    def __init__(
        self,
        report: Callable[[], BrokerReport],
        consumers: Callable[[], frozenset[str]],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._report = report
        self._consumers = consumers
        self._now = now
        self._served_at = now()

    def __call__(self) -> str:
        """Return ``healthy, …``, ``starved, …``, ``STALLED 12 s: …`` etc."""
        report = self._report()
        if not report.ready:
            return self._why_not(report)
        self._served_at = self._now()
        count = len(self._consumers())
        word = "healthy" if report.reservoir_bytes >= LEAST_BYTES else "starved"
        rate = f"{format_size(report.supply_bytes_per_s)}/s full entropy"
        return f"{word}, {rate}, {count} consumer{'' if count == 1 else 's'}"

    def _why_not(self, report: BrokerReport) -> str:
        states = {source.state for source in report.sources}
        errors = "; ".join(
            f"{source.identity.name}: {source.last_error}" for source in report.sources if source.last_error
        )
        why = f": {errors}" if errors else ""
        if SourceState.PERMANENT_FAILURE in states:
            return f"FAILED{why}"
        if any(source.stalled for source in report.sources):
            return f"STALLED {self._now() - self._served_at:.0f} s{why}"
        if states <= {SourceState.OFF}:
            return f"no source{why}"
        if SourceState.STARTING in states:
            return f"starting{why}"
        return report.not_ready_because + why
