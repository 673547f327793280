"""Several sources into one reservoir, in virtual time: each for itself, and how many there must be."""

import asyncio

import pytest

from drawwell.broker.broker import Rules
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import NoHealthySource
from drawwell.reports import SourceState
from drawwell.testing import sick
from drawwell.testing.scripted import ScriptedSource
from drawwell.testing.virtual_time import run_virtually
from drawwell.testing.waiting import until
from drawwell.testing.workbench import Workbench, conditioned


class Pair:
    """Two scripted sticks into one reservoir of 8 KiB."""

    def __init__(self, min_sources: int) -> None:
        self.drivers = ScriptedSource("a", seed=1), ScriptedSource("b", seed=2)
        self.bench = Workbench(
            *self.drivers, rules=Rules("bench", min_sources=min_sources), capacity_bytes=8192
        )
        self.first, self.second = self.bench.sources

    async def draw(self, draw_class: DrawClass = DrawClass.FULL) -> bytes:
        return (await self.bench.broker.draw("web01", 32, draw_class)).data

    async def until_both_fill_it(self) -> None:
        await until(lambda: self.bench.broker.healthy_sources() == 2, "both are healthy")
        await self.bench.until_filled()


def test_two_needed_and_one_unplugged_is_starved_for_both_classes_until_it_is_back() -> None:
    """With min_sources = 2, pulling one stick stops full and drbg alike; its replug starts both again."""

    async def run() -> None:
        pair = Pair(2)
        async with pair.bench.run():
            await pair.until_both_fill_it()
            for draw_class in DrawClass:
                assert len(await pair.draw(draw_class)) == 32
            pair.drivers[1].unplugged = True
            await until(lambda: not pair.second.healthy, "it is found out")
            for draw_class in DrawClass:
                with pytest.raises(NoHealthySource, match="1 of 2 noise sources healthy, 2 needed"):
                    await pair.draw(draw_class)
            pair.drivers[1].unplugged = False
            await pair.until_both_fill_it()
            for draw_class in DrawClass:
                assert len(await pair.draw(draw_class)) == 32

    run_virtually(run())


def test_one_needed_and_one_unplugged_goes_on() -> None:
    """With min_sources = 1 draws go on while one of two sticks is away."""

    async def run() -> None:
        pair = Pair(1)
        async with pair.bench.run():
            await pair.until_both_fill_it()
            pair.drivers[0].unplugged = True
            await until(lambda: not pair.first.healthy, "it is found out")
            for _ in range(2000):
                await pair.draw()
                await asyncio.sleep(0.01)
            assert pair.bench.broker.healthy_sources() == 1
            assert pair.bench.supply.report().balanced

    run_virtually(run())


def test_a_source_that_fails_stops_only_itself() -> None:
    """One stuck stick is latched; the other is healthy, without a failure, and fills the reservoir alone."""

    async def run() -> None:
        pair = Pair(1)
        async with pair.bench.run():
            await pair.until_both_fill_it()
            pair.drivers[0].stream = sick.stuck()
            await until(lambda: pair.bench.monitors[0].state is SourceState.PERMANENT_FAILURE, "it failed")
            frozen = pair.first.report()
            pair.bench.supply.take(len(pair.bench.supply.reservoir))
            await pair.bench.until_filled()
            second = pair.second.report()
            assert (second.state, second.health_failures, second.last_error) == (SourceState.HEALTHY, 0, "")
            assert pair.first.report().conditioned_bits == frozen.conditioned_bits

    run_virtually(run())


def test_accounts_are_separate_and_add_up_to_the_ledger() -> None:
    """What each source was assessed at and conditioned to adds up to the one ledger, to the bit."""

    async def run() -> None:
        pair = Pair(1)
        pair.drivers[1].stream = sick.spliced(sick.good(3).read(20_000), sick.stuck())
        async with pair.bench.run():
            await pair.until_both_fill_it()
            for _ in range(1000):
                await pair.draw()
                await asyncio.sleep(0.01)
            reports = [source.report() for source in pair.bench.sources]
            ledger = pair.bench.supply.report()
            assert sum(report.assessed_bits for report in reports) == ledger.assessed_bits
            assert sum(report.conditioned_bits for report in reports) == ledger.conditioned_bits
            assert reports[0].assessed_bits > reports[1].assessed_bits > 0
            assert ledger.balanced

    run_virtually(run())


def test_samples_of_two_sources_are_never_mixed_in_one_output() -> None:
    """Each output is made of one source's samples: what one failing source had pending is in none."""

    async def run() -> None:
        pair = Pair(2)
        async with pair.bench.run():
            await pair.bench.until_filled()
            served = bytes(pair.bench.supply.take(len(pair.bench.supply.reservoir)))
        made = [conditioned(driver.gave[1:]) for driver in pair.drivers]
        outputs = {each[at : at + 64] for each in made for at in range(0, len(each), 64)}
        assert {served[at : at + 64] for at in range(0, len(served), 64)} <= outputs

    run_virtually(run())


@pytest.mark.parametrize("verb", ["pause", "test"])
def test_a_source_under_somebodys_hands_does_not_count(verb) -> None:
    """With two needed, a source that is paused or under test leaves the broker starved until it is back."""

    async def run() -> None:
        pair = Pair(2)
        async with pair.bench.run(), asyncio.TaskGroup() as group:
            await pair.bench.until_filled()
            asked = group.create_task(pair.first.command(verb, {}))
            await until(lambda: not pair.first.healthy, "it does not count")
            with pytest.raises(NoHealthySource):
                await pair.draw()
            await asked
            if verb == "pause":
                await pair.first.command("resume", {})
            await pair.until_both_fill_it()
            await pair.draw()

    run_virtually(run())


def test_a_hundred_replugs_keep_the_ledger_balanced() -> None:
    """Sticks that are pulled and put back in turn, a hundred times: nothing is lost, and both serve at the end."""

    async def run() -> None:
        pair = Pair(1)
        async with pair.bench.run():
            await pair.until_both_fill_it()
            for turn in range(100):
                driver = pair.drivers[turn % 2]
                driver.unplugged = True
                await asyncio.sleep(20)
                await pair.draw()
                driver.unplugged = False
                await asyncio.sleep(20)
            assert pair.bench.broker.healthy_sources() == 2
            assert pair.bench.supply.report().balanced
            assert [source.report().reconnects for source in pair.bench.sources] == [50, 50]

    run_virtually(run())
