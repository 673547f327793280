"""A real broker killed at random moments under load, and restarted."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from drawwell.entropy.blocks import DrawClass
from drawwell.errors import LinkUnavailable, QuotaExceeded
from drawwell.links.identity import LinkIdentity
from drawwell.links.tls import TlsLink
from drawwell.simulator.pty import PtyDevice
from drawwell.testing.waiting import until
from support.daemon import Daemon, command, hinted
from support.station import Site

pytestmark = pytest.mark.slow

LIVES = 6
QUOTA = 40_000


@dataclass
class Machine:
    """A joined machine, and all bytes that it received."""

    identity: LinkIdentity
    serials: list[int] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)

    async def draw_on(self, site: Site, dice: random.Random, errors: Counter) -> None:
        """Draw until the broker dies or the quota ends; record all bytes."""
        link = site.link(self.identity)
        try:
            while True:
                try:
                    grant = await link.draw(dice.randint(1, 400), dice.choice(list(DrawClass)))
                except QuotaExceeded as error:
                    if error.retry_after_s > 2:
                        raise
                    await asyncio.sleep(error.retry_after_s)
                    continue
                self.serials.append(grant.serial)
                self.pieces.append(grant.data)
        except (LinkUnavailable, QuotaExceeded) as error:
            errors[type(error).__name__] += 1
        finally:
            await link.aclose()


def test_killed_again_and_again_no_byte_is_served_twice_and_no_quota_is_forgotten(folder) -> None:
    """No byte is served twice over all runs of a killed broker."""
    site, dice, errors = Site(folder), random.Random(5), Counter()
    rates = {"web01": "none", "db01": "2KiB/s"}
    machines: dict[str, Machine] = {}

    async def live(daemon: Daemon) -> None:
        await site.until_healthy(share=0.1)
        for name, rate in rates.items():
            if name not in machines:
                machines[name] = Machine(await site.enrol(name, quota=f"{QUOTA}B/day", rate=rate))
        async with asyncio.TaskGroup() as group:
            for machine in machines.values():
                group.create_task(machine.draw_on(site, dice, errors))
            drawn = sum(len(machine.serials) for machine in machines.values())
            enough = drawn + dice.randint(3, 60)
            await until(
                lambda: errors or sum(len(each.serials) for each in machines.values()) >= enough, "draws"
            )
            daemon.kill()

    async def run() -> None:
        async with PtyDevice(folder / "stick", seed=1, rate=0):
            for _ in range(LIVES):
                errors.clear()
                with Daemon("broker", config=site.path, log=folder / "log") as daemon:
                    await live(daemon)

    asyncio.run(run())
    serials = [serial for machine in machines.values() for serial in machine.serials]
    pieces = [piece for machine in machines.values() for piece in machine.pieces]
    windows = [piece[at : at + 8] for piece in pieces for at in range(len(piece) - 7)]
    assert len(serials) > 10 * LIVES
    assert all(machine.serials for machine in machines.values())
    assert len(set(serials)) == len(serials)
    assert len(set(windows)) == len(windows)
    for machine in machines.values():
        assert sum(map(len, machine.pieces)) <= QUOTA


def test_a_life_that_is_cut_off_costs_at_most_what_was_reserved(folder) -> None:
    """A SIGKILL costs at most one second of the rate, and empties the bucket."""
    site = Site(folder)

    async def left(link: TlsLink) -> int:
        (own,) = (await link.call("status", {}))["consumers"]
        return int(own["quota_left_bytes"])

    async def run() -> None:
        async with PtyDevice(folder / "stick", seed=2, rate=0):
            with Daemon("broker", config=site.path, log=folder / "log") as daemon:
                await site.until_healthy()
                identity = await site.enrol("web01", quota="10000B/h", rate="100B/s")
                link = site.link(identity)
                await link.draw(50, DrawClass.FULL)
                assert await left(link) == 9950
                await link.aclose()
                daemon.kill()
            with Daemon("broker", config=site.path, log=folder / "log"):
                await site.until_healthy()
                link = site.link(identity)
                assert 9850 <= await left(link) <= 9950
                with pytest.raises(QuotaExceeded):
                    await link.draw(10_000, DrawClass.FULL)
                await link.aclose()

    asyncio.run(run())


def test_a_second_broker_on_the_same_state_is_refused(folder) -> None:
    """A second broker on the same state fails with a hint."""
    site = Site(folder)

    async def run() -> None:
        async with PtyDevice(folder / "stick", seed=3, rate=0):
            with Daemon("broker", config=site.path, log=folder / "log") as daemon:
                await site.until_healthy()
                second = await asyncio.to_thread(command, "broker", config=site.path)
                assert second.returncode == 74
                assert "Another broker is using this state" in hinted(second)[0]
                assert (await site.ask("status"))["ready"]
                assert daemon.running

    asyncio.run(run())
