"""Draws that mix two brokers with simulated sticks, with a receipt."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from drawwell.config.load import load
from drawwell.crypto.receipts import read_receipt
from drawwell.entropy.blocks import DrawClass, Grant
from drawwell.errors import LinkUnavailable
from drawwell.links.failover import Failover
from drawwell.links.unix import UnixLink
from drawwell.roles.link_process import LinkProcess
from drawwell.service.systemd import Manager
from drawwell.simulator.pty import PtyDevice
from drawwell.testing.waiting import until
from support.station import Site, running

pytestmark = pytest.mark.slow

BYTES = 65_536
"""The largest draw."""


@contextlib.asynccontextmanager
async def wells(folder: Path, *seeds: int) -> AsyncIterator[list[Site]]:
    """Run a broker with one simulated stick for each seed."""
    async with contextlib.AsyncExitStack() as stack:
        sites = []
        for place, seed in enumerate(seeds):
            (folder / f"well-{place}").mkdir()
            site = Site(folder / f"well-{place}", name=f"well-{place}")
            await stack.enter_async_context(PtyDevice(site.folder / "stick", seed=seed, rate=0))
            await stack.enter_async_context(running(site))
            await site.until_healthy(share=0.1)
            sites.append(site)
        yield sites


async def drawn_directly(folder: Path, *seeds: int) -> tuple[Grant, str]:
    """Draw once from the brokers; return grant and public keys."""
    async with wells(folder, *seeds) as sites, contextlib.AsyncExitStack() as stack:
        links = [site.link(await site.enrol("web01")) for site in sites]
        for link in links:
            stack.push_async_callback(link.aclose)
        keys = [(await site.ask("receipt-key"))["public_key"] for site in sites]
        failover = Failover(links, jitter=lambda: 0.5, mix=len(sites))
        return await failover.draw(BYTES, DrawClass.DRBG, receipt=True), "".join(keys)


async def drawn_through_a_link(folder: Path, *seeds: int) -> tuple[Grant, str]:
    """Draw like `drawn_directly`, but from the link process of a machine."""
    async with wells(folder, *seeds) as sites:
        text = (
            f'[broker]\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n[links]\nmix = {len(sites)}\n'
        )
        for site in sites:
            identity = await site.enrol("web01")
            text += f'[[upstream]]\nurl = "tls://{site.tls}"\nidentity = "{identity.directory}"\n'
        (folder / "link.toml").write_text(text)
        process, stop = LinkProcess(load(str(folder / "link.toml")), Manager({})), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(process.run(stop))
            await until(process.door.ready.is_set, "the link listens")
            link = UnixLink(f"{folder}/run/link.sock")
            try:
                grant = await link.draw(BYTES, DrawClass.DRBG, receipt=True)
                return grant, (await link.call("receipt-key", {}))["public_key"]
            finally:
                await link.aclose()
                stop.set()


@pytest.mark.parametrize("draw", [drawn_directly, drawn_through_a_link])
def test_two_brokers_of_two_sticks_are_mixed_with_a_receipt(
    folder: Path, draw: Callable[..., Coroutine[Any, Any, tuple[Grant, str]]]
) -> None:
    """The receipt names both brokers, and `receipt verify` checks both parts."""
    grant, keys = asyncio.run(draw(folder, 1, 2))
    lines = grant.receipt.split(b"\n")
    assert [read_receipt(each).broker for each in lines] == ["well-0", "well-1"]
    files = {"r": grant.receipt, "r.key": grant.receipt_key, "data": grant.data, "keys.pem": keys.encode()}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    linked = (folder / "link.toml").exists()
    for options in (("--key", "keys.pem"), *([("-c", "link.toml")] if linked else [])):
        command = [sys.executable, "-m", "drawwell", "receipt", "verify", "r", "--data", "data", *options]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        assert done.stdout.count("verified, key") == 2
        assert done.stdout.count("matches") == 2


def test_one_stick_behind_two_brokers_is_no_mixture(folder: Path) -> None:
    """The device's own ID counts, at whichever broker it is plugged in."""
    with pytest.raises(LinkUnavailable, match="have different devices"):
        asyncio.run(drawn_directly(folder, 1, 1))
