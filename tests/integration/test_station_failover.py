"""A machine with two real brokers, one of which is killed."""

import asyncio
import contextlib
import os

import pytest

from drawwell.config.load import load
from drawwell.roles.run import RunProcess
from drawwell.simulator.pty import PtyDevice
from drawwell.testing.waiting import until
from support.daemon import Daemon
from support.station import Site

pytestmark = pytest.mark.slow

CONSUMER = """\
[broker]
state_dir = "{folder}/mine"
run_dir = "{folder}/mine"
[[upstream]]
url = "tls://{first.tls}"
identity = "{folder}/first/web01"
[[upstream]]
url = "tls://{second.tls}"
identity = "{folder}/second/web01"
[[sink]]
kind = "fifo"
path = "{folder}/fifo"
chunk = "512B"
"""


class Reader:
    """Reads the FIFO on request, like a program that cannot draw."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.read = bytearray()

    async def until_more(self, size: int = 16_384) -> None:
        """Read more bytes than the pipe can contain from before."""
        wanted = len(self.read) + size
        await until(lambda: self._look() >= wanted, "the reader gets more")

    def _look(self) -> int:
        with contextlib.suppress(BlockingIOError):
            self.read += os.read(self._fd, 4096)
        return len(self.read)

    def close(self) -> None:
        os.close(self._fd)


def test_a_sink_is_fed_by_the_other_broker_when_one_dies(folder) -> None:
    """The reader gets bytes from either broker, and no byte twice."""
    for name in ("first", "second"):
        (folder / name).mkdir()
    first, second = Site(folder / "first"), Site(folder / "second")
    path = folder / "consumer.toml"
    path.write_text(CONSUMER.format(folder=folder, first=first, second=second))

    def broker(site: Site) -> Daemon:
        return Daemon("broker", config=site.path, log=site.folder / "log")

    async def drawn_from(site: Site) -> int:
        consumers = (await site.ask("status"))["consumers"]
        return sum(each["draws"] for each in consumers if each["name"] == "web01")

    async def run() -> None:
        stop = asyncio.Event()
        sticks = [PtyDevice(site.folder / "stick", seed=n, rate=0) for n, site in enumerate((first, second))]
        async with sticks[0], sticks[1]:
            with broker(first) as one, broker(second) as two:
                for site in (first, second):
                    await site.until_healthy()
                    await site.enrol("web01")
                process = RunProcess(load(str(path)), lambda: load(str(path)))
                reader = Reader(str(folder / "fifo"))
                async with asyncio.TaskGroup() as group:
                    group.create_task(process.run(stop))
                    await reader.until_more()
                    assert await drawn_from(first) > 0 == await drawn_from(second)
                    one.kill()
                    await reader.until_more()
                    assert await drawn_from(second) > 0
                    two.kill()
                    with broker(first):
                        await first.until_healthy()
                        await reader.until_more()
                        stop.set()
        reader.close()
        windows = [bytes(reader.read[at : at + 8]) for at in range(len(reader.read) - 7)]
        assert len(set(windows)) == len(windows)

    asyncio.run(run())
