"""An EGD door and a client of it."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from pathlib import Path

from drawwell.broker.account import Terms
from drawwell.broker.broker import Rules
from drawwell.doors.door import Limits
from drawwell.doors.egd import EgdDoor
from drawwell.entropy.blocks import DrawClass
from drawwell.testing.waiting import DEADLINE_S
from support.fake_broker import FakeBroker
from support.serving import serving
from support.workbench import UNLIMITED, Workbench

FULL = DrawClass.FULL
ORDINARY = Limits()


class Client:
    """A client of the EGD protocol, as in its manual."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, door: EgdDoor) -> "Client":
        if "/" in door.address:
            client = cls(*await asyncio.open_unix_connection(door.address))
        else:
            host, _, port = door.address.rpartition(":")
            client = cls(*await asyncio.open_connection(host.strip("[]"), int(port)))
        CLIENTS.append(client)
        return client

    async def level(self) -> int:
        self.writer.write(b"\x00")
        return struct.unpack(">I", await self.reader.readexactly(4))[0]

    async def read(self, n_bytes: int) -> bytes:
        self.writer.write(bytes((1, n_bytes)))
        return await self._counted()

    async def read_waiting(self, n_bytes: int) -> bytes:
        self.writer.write(bytes((2, n_bytes)))
        return await self.reader.readexactly(n_bytes)

    def write(self, data: bytes, bits: int = 0) -> None:
        self.writer.write(b"\x03" + struct.pack(">HB", bits, len(data)) + data)

    async def process(self) -> bytes:
        self.writer.write(b"\x04")
        return await self._counted()

    async def _counted(self) -> bytes:
        return await self.reader.readexactly((await self.reader.readexactly(1))[0])

    async def ended(self) -> bytes:
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""


CLIENTS: list[Client] = []


@contextlib.asynccontextmanager
async def opened(door: EgdDoor) -> AsyncIterator[None]:
    """Serve during a block, and close the clients before the door."""
    async with serving(door), asyncio.timeout(DEADLINE_S):
        try:
            yield
        finally:
            while CLIENTS:
                CLIENTS.pop().writer.close()


def unix_door(
    tmp_path: Path, broker: FakeBroker, available: int = 10**6, limits: Limits = ORDINARY
) -> EgdDoor:
    return EgdDoor(str(tmp_path / "egd"), broker, "guest1", FULL, lambda: available, limits=limits)


def workbench(terms: Terms = UNLIMITED) -> Workbench:
    """Return a broker that is ready without a source; tests supply bytes."""
    return Workbench(rules=Rules("bench", min_sources=0), terms={"guest1": terms})


def bench_door(tmp_path: Path, bench: Workbench, draw_class: DrawClass = FULL) -> EgdDoor:
    level = lambda: bench.broker.available_bytes("guest1", draw_class)  # noqa: E731
    return EgdDoor(str(tmp_path / "egd"), bench.broker, "guest1", draw_class, level)
