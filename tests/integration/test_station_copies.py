"""Two copies of one broker: of its disk, and of its memory."""

import asyncio
import shutil
from pathlib import Path

import pytest

from drawwell.entropy.blocks import DrawClass
from drawwell.errors import LinkUnavailable
from drawwell.links.unix import UnixLink
from drawwell.simulator.pty import PtyDevice
from drawwell.testing.waiting import DEADLINE_S, until
from support.station import Site, running

SEED = 4711
"""The seed of both sticks: unlike real ones, they deliver the same noise."""
PIECE_BYTES = 8
"""Two random pieces of this size are equal with probability 2^-64."""


async def _drawn(site: Site) -> dict[DrawClass, bytes]:
    link = UnixLink(site.draw_socket)
    drawn = dict.fromkeys(DrawClass, b"")
    for n_bytes in (32, 4096, 1, 48, 16_384):
        for draw_class in DrawClass:
            drawn[draw_class] += (await link.draw(n_bytes, draw_class)).data
    await link.aclose()
    return drawn


def _pieces(data: bytes) -> set[bytes]:
    return {data[at : at + PIECE_BYTES] for at in range(len(data) - PIECE_BYTES + 1)}


def test_two_copies_of_a_state_directory_never_serve_the_same_bytes(folder: Path) -> None:
    """Copies with the same noise never have 8 drawn bytes in common."""
    first, second = folder / "a", folder / "b"
    first.mkdir()

    async def run() -> None:
        one = Site(first)
        async with PtyDevice(first / "stick", seed=SEED, rate=0), running(one):
            await one.until_healthy(share=1.0)
            before = await _drawn(one)
        shutil.copytree(first / "state", second / "state")
        other = Site(second)
        async with (
            PtyDevice(first / "stick", seed=SEED, rate=0),
            PtyDevice(second / "stick", seed=SEED, rate=0),
            running(one) as process_one,
            running(other) as process_other,
        ):
            for site in (one, other):
                await site.until_healthy(share=1.0)
            got = [before, await _drawn(one), await _drawn(other)]
            assert process_one.station
            assert process_other.station
        served = [_pieces(drawn[each]) for drawn in got for each in DrawClass]
        assert all(len(pieces) > 20_000 for pieces in served)
        assert sum(map(len, served)) == len(set().union(*served))

    asyncio.run(run())


def test_a_broker_that_was_copied_restarts(folder: Path) -> None:
    """Reservoir and generators are reset, and TLS sessions end."""

    async def run() -> None:
        site = Site(folder)
        async with PtyDevice(folder / "stick", rate=0), running(site) as process:
            station = process.station
            assert station
            await site.until_healthy(share=1.0)
            link = site.link(await site.enrol("web01"))
            await link.draw(32, DrawClass.DRBG)
            before = await site.ask("status")
            waiting = asyncio.get_running_loop().create_task(
                link.draw(65_536, DrawClass.FULL, patience_s=DEADLINE_S)
            )
            process.generations.events["uevent"] += 1
            process._restart()
            assert len(station._supply.reservoir) == 0
            assert all(account.drbg is None for account in station.broker.accounts.values())
            with pytest.raises(LinkUnavailable):
                await waiting
            status = await site.until_healthy(share=1.0)
            assert status["ledger"]["balanced"]
            assert status["ledger"]["discarded_bits"] >= before["ledger"]["discarded_bits"] + 8 * 131_072
            assert status["sources"][0]["health_epoch"] == before["sources"][0]["health_epoch"] + 1
            assert any("copied or restored" in note for note in status["notes"])
            assert len((await link.draw(32, DrawClass.FULL)).data) == 32
            await link.aclose()

    asyncio.run(run())


def test_the_daemon_listens(folder: Path) -> None:
    """A daemon listens for copies as long as it runs."""

    async def run() -> None:
        site = Site(folder)
        async with PtyDevice(folder / "stick", rate=0), running(site) as process:
            await until(process.generations.ready.is_set, "it listens")
            assert process.generations.copies == 0

    asyncio.run(run())
