"""A consumer replaces its key: both are valid, then only the new one."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from drawwell.entropy.blocks import DrawClass
from drawwell.errors import AuthenticationFailed, LinkUnavailable
from drawwell.links.identity import LinkIdentity, load
from drawwell.links.renewal import rekey
from drawwell.links.tls import TlsLink
from drawwell.simulator.pty import PtyDevice
from support.station import Site, running


class Moving:
    """A machine that replaces its key, with a copy of the old key."""

    def __init__(self, site: Site, identity: LinkIdentity) -> None:
        self.site, self.identity = site, identity
        shutil.copytree(identity.directory, f"{identity.directory}.kept")
        self.earlier = load(f"{identity.directory}.kept")
        self.connections = 0
        self.lost_after = 3

    async def draws(self, identity: LinkIdentity) -> bool:
        async with contextlib.aclosing(self.site.link(identity)) as link:
            return len(await link.draw(8, DrawClass.DRBG)) == 8

    @contextlib.asynccontextmanager
    async def connect(self, identity: LinkIdentity) -> AsyncIterator[TlsLink]:
        self.connections += 1
        if self.connections == self.lost_after:
            raise LinkUnavailable("the network is gone")
        if self.connections == 2:
            assert await self.draws(self.earlier)
            assert await self.draws(identity)
        async with contextlib.aclosing(self.site.link(identity)) as link:
            yield link


def test_a_key_is_replaced_while_both_count(folder: Path) -> None:
    """Once the new key is in use, the old one is refused."""

    async def run() -> None:
        site = Site(folder)
        async with PtyDevice(folder / "stick", rate=0), running(site):
            await site.until_healthy()
            moving = Moving(site, await site.enrol("web01"))
            async with contextlib.aclosing(site.link(moving.earlier)) as open_session:
                await open_session.draw(8, DrawClass.DRBG)
                moved = await rekey(moving.identity, moving.connect)
                with pytest.raises((AuthenticationFailed, LinkUnavailable)):
                    await open_session.draw(8, DrawClass.DRBG)
            assert await moving.draws(moved)
            with pytest.raises((AuthenticationFailed, LinkUnavailable)):
                await moving.draws(moving.earlier)
            assert sorted(os.listdir(folder / "web01")) == [
                "ca.pem", "cert.pem", "key.pem", "keys.json", "link.json", "receipt-key.pem"
            ]  # fmt: skip

    asyncio.run(run())


def test_a_network_that_fails_between_costs_no_key(folder: Path) -> None:
    """The new key can draw, and another attempt ends the old one."""

    async def run() -> None:
        site = Site(folder)
        async with PtyDevice(folder / "stick", rate=0), running(site):
            await site.until_healthy()
            moving = Moving(site, await site.enrol("web01"))
            moving.lost_after = 2
            with pytest.raises(LinkUnavailable):
                await rekey(moving.identity, moving.connect)
            assert await moving.draws(load(moving.identity.directory))
            assert await moving.draws(moving.earlier)
            moving.connections, moving.lost_after = 5, 0
            await rekey(load(moving.identity.directory), moving.connect)
            with pytest.raises((AuthenticationFailed, LinkUnavailable)):
                await moving.draws(moving.earlier)

    asyncio.run(run())
