"""Programs that others wrote to feed a kernel, fed by us: what they would put into it is what was drawn for them.

A stand-in keeps what they feed from the real kernel, and plays an old kernel where a program waits for one.
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
    """Grants what passes for noise, and remembers it."""

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
    """A program before the stand-in for the kernel."""

    def __init__(self, folder: Path, stand_in: str, *words: str, wants: bool = False) -> None:
        self.log = folder / "fed"
        self.words = words
        self.environment = {**os.environ, "LD_PRELOAD": stand_in, "STAND_IN_LOG": str(self.log)}
        self.environment |= {"STAND_IN_WANTS": "1"} if wants else {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Feeder"]:
        quiet = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            *self.words, env=self.environment, stdout=quiet, stderr=quiet
        )
        try:
            yield self
        finally:
            process.kill()
            await process.wait()

    def fed(self) -> list[tuple[int, bytes]]:
        """Credit in bits, and bytes, of each feed (struct rand_pool_info)."""
        found, log = [], self.log.read_bytes() if self.log.exists() else b""
        while log:
            credit, size = struct.unpack_from("=ii", log)
            found.append((credit, log[8 : 8 + size]))
            log = log[8 + size :]
        return found


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The stand-in, compiled."""
    library = tmp_path_factory.mktemp("stand-in") / "kernel.so"
    source = Path(__file__).with_name("kernel_stand_in.c")
    subprocess.run([program("cc"), "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return str(library)


def test_ekeyd_feeds_an_old_kernel_what_it_asked_for(tmp_path: Path, stand_in: str) -> None:
    """ekeyd-egd-linux asks by EGD over loopback TCP, 128 bytes at a time, and feeds each byte once, in order."""
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
    """The line of 2017, in the foreground and with a shorter interval."""
    return [program("rngd"), "-f", "-r", str(fifo), "-p", str(fifo.with_name("pid")), "--feed-interval=1"]


async def _until_fed(feeder: Feeder, broker: NoiseBroker) -> None:
    await until(lambda: len(feeder.fed()) >= 2, "it fed at once and again after its interval")
    for _credit, data in feeder.fed():
        assert len(data) == 64
        assert data in broker.granted


@pytest.mark.slow
def test_consumer_of_2017_is_fed_over_tls(tmp_path: Path, stand_in: str) -> None:
    """socat takes the stream into a FIFO, and rngd, which reads it, feeds bytes of it and nothing else."""
    socat, fifo, authority = program("socat"), tmp_path / "pipe", PaperAuthority(tmp_path)
    os.mkfifo(fifo)
    files = authority.server("localhost", "127.0.0.1")
    certificate, key, ca = authority.client("web01")

    class Registry:
        async def identify(self, certificate_der: bytes, now: float) -> Principal:
            return consumer(pki.consumer_name(pki.read_certificate(certificate_der)) or "")

        def check(self, principal: Principal, now: float) -> Principal:
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
                with contextlib.suppress(ProcessLookupError):  # its reader is gone, and it may be, too
                    carrier.kill()
                await carrier.wait()

    asyncio.run(run())


@pytest.mark.slow
def test_rngd_is_fed_by_our_fifo(tmp_path: Path, stand_in: str) -> None:
    """The same without socat: rngd reads the FIFO that a sink of ours fills."""
    fifo = tmp_path / "noise.fifo"

    async def run() -> None:
        broker = NoiseBroker()
        role = ConsumerRole(MemoryLink(broker, "web01"), FifoSink(str(fifo), 512), FULL, jitter=random.random)
        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
            pouring = group.create_task(role.run())
            async with Feeder(tmp_path, stand_in, *rngd(fifo)).running() as feeder:
                await _until_fed(feeder, broker)
            pouring.cancel()

    asyncio.run(run())
