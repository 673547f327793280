"""Third-party kernel feeders, fed by drawwell: they feed the drawn bytes.

A stand-in intercepts what they feed, and acts as an old kernel where a program needs one.
"""

import asyncio
import contextlib
import os
import random
import shutil
import struct
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from drawwell.authorisation import Principal
from drawwell.crypto import pki
from drawwell.doors.egd import EgdDoor
from drawwell.doors.tls import TlsDoor
from drawwell.entropy.blocks import DrawClass, DrawRequest, Grant
from drawwell.links.memory import MemoryLink
from drawwell.roles.consumer import ConsumerRole
from drawwell.sinks.fifo import FifoSink
from drawwell.testing import sick
from drawwell.testing.waiting import DEADLINE_S, until
from drawwell.wire.contexts import server_context
from support.certificates import PaperAuthority
from support.fake_broker import FakeBroker
from support.principals import consumer
from support.serving import serving

FULL = DrawClass.FULL
SBIN = "/usr/sbin:/sbin:" + os.defpath


def program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=SBIN)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


class NoiseBroker(FakeBroker):
    """Grants fake noise, and records it."""

    def __init__(self) -> None:
        super().__init__()
        self.stream = sick.good(2017)
        self.granted = b""

    def _grant(self, consumer: str, request: DrawRequest) -> Grant:
        data = self.stream.read(request.n_bytes)
        self.granted += data
        self.serial += 1
        return Grant(data, self.serial, request.draw_class)


class Feeder:
    """A program that feeds a simulated kernel."""

    def __init__(self, folder: Path, stand_in: str, *arguments: str, wants: bool = False) -> None:
        self.log = folder / "fed"
        self.arguments = arguments
        self.environment = {**os.environ, "LD_PRELOAD": stand_in, "STAND_IN_LOG": str(self.log)}
        self.environment |= {"STAND_IN_WANTS": "1"} if wants else {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Feeder"]:
        quiet = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            *self.arguments, env=self.environment, stdout=quiet, stderr=quiet
        )
        try:
            yield self
        finally:
            process.kill()
            await process.wait()

    def fed(self) -> list[tuple[int, bytes]]:
        """Return credit in bits, and bytes, of each feed (struct rand_pool_info)."""
        found, log = [], self.log.read_bytes() if self.log.exists() else b""
        while log:
            credit, size = struct.unpack_from("=ii", log)
            found.append((credit, log[8 : 8 + size]))
            log = log[8 + size :]
        return found


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Compile the simulated kernel."""
    library = tmp_path_factory.mktemp("stand-in") / "kernel.so"
    source = Path(__file__).with_name("kernel_stand_in.c")
    subprocess.run([program("cc"), "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return str(library)


def test_ekeyd_feeds_an_old_kernel_what_it_asked_for(tmp_path: Path, stand_in: str) -> None:
    """ekeyd-egd-linux draws 128 bytes over EGD and feeds each once, in order."""
    name = program("ekeyd-egd-linux")

    async def run() -> None:
        broker = NoiseBroker()
        door = EgdDoor("127.0.0.1:0", broker, "guest1", FULL, lambda: 10**6)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            host, _, port = door.address.rpartition(":")
            feeder = Feeder(tmp_path, stand_in, name, "-H", host, "-p", port, "-b", "1", wants=True)
            async with feeder.running():
                await until(lambda: len(feeder.fed()) >= 3, "it fed")
            fed = feeder.fed()
        assert {len(data) for _credit, data in fed} == {128}
        assert broker.granted.startswith(b"".join(data for _credit, data in fed))

    asyncio.run(run())


def rngd(fifo: Path) -> list[str]:
    """Return the command of 2017, in the foreground with a shorter interval."""
    return [program("rngd"), "-f", "-r", str(fifo), "-p", str(fifo.with_name("pid")), "--feed-interval=1"]


async def _until_fed(feeder: Feeder, broker: NoiseBroker) -> None:
    await until(lambda: len(feeder.fed()) >= 2, "it fed at once and again after its interval")
    for _credit, data in feeder.fed():
        assert len(data) == 64
        assert data in broker.granted


@pytest.mark.slow
def test_consumer_of_2017_is_fed_over_tls(tmp_path: Path, stand_in: str) -> None:
    """socat fills a FIFO from the stream, and rngd feeds only these bytes."""
    socat, fifo, authority = program("socat"), tmp_path / "pipe", PaperAuthority(tmp_path)
    os.mkfifo(fifo)
    files = authority.server("localhost", "127.0.0.1")
    certificate, key, ca = authority.client("web01")

    class Registry:
        async def identify(self, certificate_der: bytes) -> Principal:
            return consumer(pki.consumer_name(pki.read_certificate(certificate_der)) or "")

        def check(self, principal: Principal) -> Principal:
            return principal

    async def run() -> None:
        broker = NoiseBroker()
        streams = {"web01": FULL}
        door = TlsDoor(
            "127.0.0.1", 0, lambda: server_context(*files), broker, Registry(), streams=streams.get
        )
        async with serving(door), asyncio.timeout(DEADLINE_S):
            where = f"OPENSSL:{door.address},cert={certificate},key={key},cafile={ca}"
            carrier = await asyncio.create_subprocess_exec(
                socat, "-u", f"{where},openssl-commonname=localhost", f"PIPE:{fifo}"
            )
            try:
                async with Feeder(tmp_path, stand_in, *rngd(fifo)).running() as feeder:
                    await _until_fed(feeder, broker)
            finally:
                with contextlib.suppress(ProcessLookupError):  # its reader is gone
                    carrier.kill()
                await carrier.wait()

    asyncio.run(run())


@pytest.mark.slow
def test_rngd_is_fed_by_our_fifo(tmp_path: Path, stand_in: str) -> None:
    """Without socat, rngd reads a FIFO that our sink fills."""
    fifo = tmp_path / "noise.fifo"

    async def run() -> None:
        broker = NoiseBroker()
        role = ConsumerRole(MemoryLink(broker, "web01"), FifoSink(str(fifo), 512), FULL, jitter=random.random)
        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
            streaming = group.create_task(role.run())
            async with Feeder(tmp_path, stand_in, *rngd(fifo)).running() as feeder:
                await _until_fed(feeder, broker)
            streaming.cancel()

    asyncio.run(run())
