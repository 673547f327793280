"""Forty TLS consumers that want more than one stick delivers."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from drawwell.entropy.blocks import DrawClass
from drawwell.errors import Refused
from drawwell.links.tls import TlsLink
from drawwell.simulator.pty import PtyDevice
from drawwell.testing.waiting import until
from drawwell.wire.contexts import client_context
from drawwell.wire.frames import Draw, Hello
from support.certificates import PaperAuthority
from support.station import Site, running

pytestmark = pytest.mark.slow

MODEST = 36
DRAW_BYTES = 256
DRAWS = 64
"""Draws of each consumer in the queue; one more or less is 1.6 %."""
PATIENCE_S = 5.0  # short: a place in line, not a wait of the test
STICK_BYTES_PER_S = 57_000
"""The rate of a OneRNG."""


class Crowd:
    """Machines with valid certificates, and the bytes that each one got."""

    def __init__(self, folder: Path) -> None:
        self.names = [f"c{number:02}" for number in range(MODEST)] + ["greedy", "impatient", "slow", "deaf"]
        self.authority = PaperAuthority(folder)
        self.site = Site(folder)
        certificate, key, ca = self.authority.server("well", self.site.address)
        consumers = "".join(f'[[consumer]]\nname = "{name}"\n' for name in self.names)
        self.site.write(f'[pki]\nca = "{ca}"\ncertificate = "{certificate}"\nkey = "{key}"\n{consumers}')
        self.files = {name: self.authority.client(name) for name in self.names}
        self.got = dict.fromkeys(self.names, 0)

    def link(self, name: str) -> TlsLink:
        return TlsLink(self.site.address, 55000, context=lambda: client_context(*self.files[name]))

    async def draw_on(
        self, link: TlsLink, name: str, n_bytes: int = DRAW_BYTES, patience_s: float = PATIENCE_S
    ) -> None:
        """Draw again after each answer."""
        while True:
            try:
                grant = await link.draw(n_bytes, DrawClass.FULL, patience_s=patience_s)
            except Refused as error:
                await asyncio.sleep(error.retry_after_s or 0.01)
            else:
                self.got[name] += len(grant.data)

    async def read_slowly(self, link: TlsLink, name: str) -> None:
        """Pause after each answer."""
        while True:
            with contextlib.suppress(Refused):
                await link.draw(DRAW_BYTES, DrawClass.FULL, patience_s=PATIENCE_S)
            await asyncio.sleep(1.0)  # short: a place in line, not a wait of the test

    async def never_read(self, name: str) -> None:
        """Repeatedly request the maximum without reading answers."""
        _reader, writer = await asyncio.open_connection(
            self.site.address, 55000, ssl=client_context(*self.files[name]), server_hostname=self.site.address
        )
        writer.write(Hello((1,), "deaf").encode())
        writer.transport.pause_reading()
        writer.write(
            b"".join(
                # short: the protocol's longest
                Draw(4096, DrawClass.FULL, patience_s=60, request_id=number).encode()
                for number in range(1, 33)
            )
        )
        try:
            await asyncio.sleep(3600)
        finally:
            writer.transport.abort()

    async def until_each_got(self, draws: int) -> None:
        """Wait until each waiting machine has got this many more draws."""
        enough = {name: self.got[name] + draws * DRAW_BYTES for name in self.names[:MODEST]}
        await until(lambda: all(self.got[name] >= enough[name] for name in enough), "each got its draws")

    async def draw_all(self) -> None:
        """Let all machines draw; count bytes once all are queued."""
        async with contextlib.AsyncExitStack() as stack:
            links = {}
            for name in self.names:
                links[name] = self.link(name)
                stack.push_async_callback(links[name].aclose)
                await links[name].welcome()
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self.draw_on(links[name], name)) for name in self.names[:MODEST]]
                tasks += [group.create_task(self.draw_on(links["greedy"], "greedy", 4096)) for _ in range(30)]
                tasks.append(group.create_task(self.draw_on(links["impatient"], "impatient", patience_s=0)))
                tasks.append(group.create_task(self.read_slowly(links["slow"], "slow")))
                tasks.append(group.create_task(self.never_read("deaf")))
                await self.until_each_got(4)  # the reservoir is empty and all are in the queue
                before = dict(self.got)
                await self.until_each_got(DRAWS)
                for task in tasks:
                    task.cancel()
            self.got = {name: self.got[name] - before[name] for name in self.names}


def test_queued_machines_get_equal_shares_despite_greedy_and_deaf_ones(folder: Path) -> None:
    """Waiting machines differ by at most 1.25; the greedy one gets no more."""

    async def run() -> None:
        crowd = Crowd(folder)
        async with PtyDevice(folder / "stick", rate=STICK_BYTES_PER_S), running(crowd.site):
            await crowd.site.until_healthy(share=0.02)
            await crowd.draw_all()
        shares = [crowd.got[name] for name in crowd.names[:MODEST]]
        assert 0 < max(shares) <= 1.25 * min(shares)
        assert crowd.got["greedy"] <= 1.25 * max(shares) + 2 * 4096  # one draw at each end of the count

    asyncio.run(run())
