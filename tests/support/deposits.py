"""A broker without its own sources, and peers that deposit."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from drawwell.broker.broker import Rules
from drawwell.broker.remote_sources import RemoteSources
from drawwell.doors.deposit import LIMITS, DepositDoor
from drawwell.doors.door import Limits
from drawwell.errors import SourceRejected, SourceUnavailable
from drawwell.ports import Source
from drawwell.reports import SourceIdentity, SourceReport, SourceState
from drawwell.roles.source_process import LoneSource
from drawwell.service.systemd import Manager
from drawwell.testing.scripted import ScriptedSource
from drawwell.testing.waiting import until
from drawwell.wire.deposit import Depositor
from support.serving import serving
from support.workbench import CLAIM, Workbench

SMALL = 16_384


HEALTHY = SourceReport(
    SourceIdentity("liar", "onerng", "/dev/liar"), SourceState.HEALTHY, False, 1, 0, 0, 0, 0, 0, 0.0, 0, 0, "",
)  # fmt: skip


class Well:
    """One run of a broker without its own sources, with a deposit door."""

    def __init__(
        self, path: Path, *, uid: int | None = None, limits: Limits = LIMITS, min_sources: int = 1
    ) -> None:
        self.bench = Workbench(capacity_bytes=SMALL, rules=Rules("well", min_sources))
        self.broker = self.bench.broker
        self.reception = RemoteSources(self.broker, self.bench.supply)
        self.door = DepositDoor(str(path), self.reception, uid, limits=limits)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Well"]:
        async with self.bench.run(), serving(self.door):
            yield self

    def everything(self) -> bytes:
        """Take all bytes out of the reservoir."""
        return bytes(self.bench.supply.take(len(self.bench.supply.reservoir)).data)

    async def filled(self) -> None:
        await until(lambda: not self.bench.supply.wanted, "the reservoir was filled")

    async def here(self, name: str = "stick") -> Source:
        sources = self.broker.sources
        await until(lambda: name in sources and sources[name].healthy, f"{name} is here and healthy")
        return sources[name]


@contextlib.asynccontextmanager
async def depositing(path: Path, *drivers: ScriptedSource) -> AsyncIterator[list[LoneSource]]:
    """Run each source as if in its own process, until it or the block ends."""
    stop = asyncio.Event()
    sources = [LoneSource(driver, CLAIM, str(path), Manager({})) for driver in drivers]

    async def run(source: LoneSource) -> None:
        with contextlib.suppress(SourceUnavailable, SourceRejected):
            await source.run(stop)

    async with asyncio.TaskGroup() as group:
        for source in sources:
            group.create_task(run(source))
        try:
            yield sources
        finally:
            stop.set()


def pieces(data: bytes) -> list[bytes]:
    return [data[at : at + 64] for at in range(0, len(data), 64)]


class Liar:
    """A peer that sends handwritten frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def at(cls, path: Path, report: SourceReport = HEALTHY) -> "Liar":
        liar = cls(*await asyncio.open_unix_connection(str(path)))
        liar.writer.write(Depositor().offer("x", report))
        return liar

    async def send(self, data: bytes) -> bytes:
        """Send `data` and return everything up to EOF."""
        self.writer.write(data)
        received = await self.reader.read()
        self.writer.close()
        return received
