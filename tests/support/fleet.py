"""Brokers of a fleet as processes, and machines that draw from them."""

import asyncio
import contextlib
import dataclasses
import random
import shutil
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from drawwell.crypto.tokens import parse_token
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import DrawwellError, QuotaExceeded
from drawwell.links.enrol import join
from drawwell.links.failover import Failover
from drawwell.links.identity import LinkIdentity
from drawwell.simulator.pty import PtyDevice
from drawwell.testing.waiting import until
from support.daemon import Daemon
from support.postgres import FleetDatabase
from support.station import Site


class FleetSites:
    """Sites with a shared store and CA; the first one has the owner's role."""

    def __init__(
        self,
        folder: Path,
        database: FleetDatabase,
        names: Sequence[str] = ("a", "b", "c"),
        *,
        allow_async: bool = False,
    ) -> None:
        self._database = database
        allowed = "allow_async = true\n" if allow_async else ""
        self.sites: list[Site] = []
        for name in names:
            (folder / name).mkdir()
            address = database.of(f"site-{name}")
            more = f'[fleet]\n{allowed}store = "{address}"\nowner = "{folder}/a/owner"\ngrace = "60s"'
            self.sites.append(Site(folder / name, name=f"site-{name}", more=more))
        (folder / "a/owner").write_text(database.owner)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[list[Daemon]]:
        """Run a broker at each site until the block ends."""
        async with contextlib.AsyncExitStack() as stack:
            daemons: list[Daemon] = []
            for seed, site in enumerate(self.sites):
                await stack.enter_async_context(PtyDevice(site.folder / "stick", seed=seed, rate=0))
                if daemons:
                    shutil.copytree(self.sites[0].folder / "state/pki", site.folder / "state/pki")
                    (site.folder / "state").chmod(0o700)
                daemons.append(stack.enter_context(self.daemon(site)))
                await site.until_healthy(share=0.1)
            yield daemons

    def spent(self) -> list[tuple[str, int]]:
        """Return the granted bytes of each consumer, according to the store."""
        with psycopg.connect(self._database.owner) as db:
            rows = db.execute("SELECT consumer, granted FROM drawwell.lease ORDER BY consumer").fetchall()
        return [(str(name), int(granted)) for name, granted in rows]

    def daemon(self, site: Site) -> Daemon:
        """Return the broker of a site without starting it."""
        return Daemon("broker", config=site.path, log=site.folder / "log")

    async def enrol(self, name: str, place: Site, **terms: str) -> LinkIdentity:
        """Invite a machine at the first site, and let it join at another."""
        invitation = await self.sites[0].ask("consumer.invite", {"name": name, **terms})
        token = dataclasses.replace(parse_token(invitation["token"]), host=place.address)
        await until(lambda: _listens(token.host, token.port), "the other site has read the invitation")
        return await asyncio.to_thread(join, token, str(place.folder / name), force=True)

    def failover(self, identity: LinkIdentity, dice: random.Random, sites: Sequence[Site] = ()) -> Failover:
        """Return a link to `sites` (default: all), in random order."""
        links = [site.link(identity) for site in sites or self.sites]
        dice.shuffle(links)
        return Failover(links, jitter=dice.random, base_s=0.05, cap_s=0.5)


@dataclass
class Drawer:
    """A machine that draws from every broker, and the bytes that it received."""

    identity: LinkIdentity
    serials: list[int] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def received(self) -> int:
        """How many bytes the machine received."""
        return sum(map(len, self.pieces))

    async def draw_on(self, failover: Failover, dice: random.Random, most: int = 400) -> None:
        """Draw until the quota is completely used up."""
        try:
            while True:
                n_bytes = dice.randint(1, most)
                try:
                    grant = await failover.draw(n_bytes, DrawClass.DRBG)
                except QuotaExceeded:
                    if n_bytes == 1:
                        return
                    most = n_bytes // 2
                    continue
                except DrawwellError as error:
                    self.errors[type(error).__name__] += 1
                    await asyncio.sleep(failover.wait_s())
                    continue
                self.serials.append(grant.serial)
                self.pieces.append(grant.data)
        finally:
            await failover.aclose()


def _listens(host: str, port: int) -> bool:
    with socket.socket() as peer:
        return peer.connect_ex((host, port)) == 0


def audit(drawers: Sequence[Drawer]) -> None:
    """Check that no serial number and no 8-byte window occurs twice."""
    serials = [serial for each in drawers for serial in each.serials]
    pieces = [piece for each in drawers for piece in each.pieces]
    windows = np.sort(np.concatenate([view for piece in pieces for view in _windows(piece)]))
    assert len(set(serials)) == len(serials)
    assert not (windows[1:] == windows[:-1]).any()


def _windows(piece: bytes) -> Iterator["np.ndarray[Any, np.dtype[np.uint64]]"]:
    """Yield all 8-byte windows of a piece, as numbers."""
    for at in range(min(8, len(piece) - 7)):
        yield np.frombuffer(piece, np.uint64, count=(len(piece) - at) // 8, offset=at)
