"""Several sources for one reservoir, in virtual time."""

import asyncio
from dataclasses import replace

import pytest

from drawwell.broker.broker import Rules
from drawwell.crypto.drbg import Drbg
from drawwell.crypto.receipts import read_receipt, verify_receipt
from drawwell.entropy.blocks import DrawClass, DrawRequest
from drawwell.errors import NoHealthySource
from drawwell.reports import SourceState
from drawwell.testing import sick
from drawwell.testing.scripted import RATE, ScriptedSource
from drawwell.testing.virtual_time import run_virtually
from drawwell.testing.waiting import until
from support.principals import consumer
from support.workbench import Workbench, conditioned


class Pair:
    """Two scripted sticks with one reservoir of 8 KiB."""

    def __init__(self, min_sources: int) -> None:
        self.drivers = ScriptedSource("a", seed=1), ScriptedSource("b", seed=2)
        self.bench = Workbench(
            *self.drivers, rules=Rules("bench", min_sources=min_sources), capacity_bytes=8192
        )
        self.first, self.second = self.bench.sources

    async def draw(self, draw_class: DrawClass = DrawClass.FULL) -> bytes:
        return (await self.bench.broker.draw(consumer("web01"), DrawRequest(32, draw_class))).data

    async def until_both_fill_it(self) -> None:
        await until(lambda: self.bench.broker.healthy_sources() == 2, "both are healthy")
        await self.bench.until_filled()


def test_two_needed_and_one_unplugged_is_starved_for_both_classes_until_it_is_back() -> None:
    """With min_sources = 2, unplugging one stick stops both classes."""

    async def run() -> None:
        pair = Pair(2)
        async with pair.bench.run():
            await pair.until_both_fill_it()
            for draw_class in DrawClass:
                assert len(await pair.draw(draw_class)) == 32
            pair.drivers[1].unplugged = True
            await until(lambda: not pair.second.healthy, "it is detected")
            for draw_class in DrawClass:
                with pytest.raises(
                    NoHealthySource, match="1 of 2 noise sources are healthy, but min_sources is 2"
                ):
                    await pair.draw(draw_class)
            pair.drivers[1].unplugged = False
            await pair.until_both_fill_it()
            for draw_class in DrawClass:
                assert len(await pair.draw(draw_class)) == 32

    run_virtually(run())


def test_one_needed_and_one_unplugged_goes_on() -> None:
    """With min_sources = 1, draws continue without one of two sticks."""

    async def run() -> None:
        pair = Pair(1)
        async with pair.bench.run():
            await pair.until_both_fill_it()
            pair.drivers[0].unplugged = True
            await until(lambda: not pair.first.healthy, "it is detected")
            for _ in range(2000):
                await pair.draw()
                await asyncio.sleep(0.01)
            assert pair.bench.broker.healthy_sources() == 1
            assert pair.bench.supply.report().balanced

    run_virtually(run())


def test_a_source_that_fails_stops_only_itself() -> None:
    """A stuck stick is latched; the other continues without a failure."""

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
    """The sources' accounts add up exactly to the ledger."""

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


def outputs_of(driver: ScriptedSource) -> set[int]:
    """Return all outputs from its tested samples, as numbers."""
    made = conditioned(driver.gave[1:])
    return {int.from_bytes(made[at : at + 64]) for at in range(0, len(made), 64)}


def test_two_needed_means_that_each_output_is_the_xor_of_one_of_each() -> None:
    """Each 64 bytes are A xor B, never A or B alone, and name both."""

    async def run() -> None:
        pair = Pair(2)
        async with pair.bench.run():
            await pair.bench.until_filled()
            taken = pair.bench.supply.take(len(pair.bench.supply.reservoir))
        served = [int.from_bytes(taken.data[at : at + 64]) for at in range(0, len(taken), 64)]
        first, second = map(outputs_of, pair.drivers)
        assert len(served) == 128
        assert all(any(each ^ one in second for one in first) for each in served)
        assert not set(served) & (first | second)
        assert {each.identity.name for each in taken.origins} == {"a", "b"}

    run_virtually(run())


def test_two_needed_means_that_a_seed_is_the_xor_of_one_of_each(monkeypatch) -> None:
    """The 48-byte seed of a consumer's DRBG starts with A xor B."""
    seeds: list[bytes] = []
    instantiate = Drbg.__init__

    def recorded(self: Drbg, seed: bytes, personalisation: bytes = b"") -> None:
        seeds.append(seed)
        instantiate(self, seed, personalisation)

    monkeypatch.setattr(Drbg, "__init__", recorded)

    async def run() -> None:
        pair = Pair(2)
        async with pair.bench.run():
            await pair.until_both_fill_it()
            await pair.draw(DrawClass.DRBG)
        heads = [{each >> 128 for each in outputs_of(driver)} for driver in pair.drivers]
        (seed,) = seeds
        value = int.from_bytes(seed)
        assert any(value ^ one in heads[1] for one in heads[0])
        assert value not in heads[0] | heads[1]

    run_virtually(run())


async def drained_rate(bench: Workbench, seconds: float) -> float:
    """Take all bytes as they are deposited; return the bytes per second."""
    begun, before = bench.clock(), bench.supply.report().delivered_bits
    while bench.clock() - begun < seconds:
        bench.supply.take(len(bench.supply.reservoir))
        await asyncio.sleep(0.02)
    return (bench.supply.report().delivered_bits - before) / 8 / (bench.clock() - begun)


@pytest.mark.slow
@pytest.mark.parametrize(("slowness", "expected"), [((1, 4), 0.25), ((1, 1, 1), 1.5), ((1, 4, 4), 0.5)])
def test_sources_of_different_speeds_give_what_they_can(slowness, expected: float) -> None:
    """Two of n give half the sum, or the sum without the largest if less."""

    async def run() -> None:
        drivers = [ScriptedSource(f"s{at}", seed=at, rate=RATE / each) for at, each in enumerate(slowness)]
        bench = Workbench(*drivers, rules=Rules("bench", min_sources=2), capacity_bytes=8192)
        async with bench.run():
            await until(lambda: bench.broker.healthy_sources() == len(drivers), "all are healthy")
            await bench.until_filled()
            await drained_rate(bench, 2.0)  # earlier contents of the lanes
            given = await drained_rate(bench, 5.0)
            alone = RATE * 6 / 8 * 512 / 576
            assert given == pytest.approx(alone * expected, rel=0.1)
            assert bench.broker.report().supply_bytes_per_s == pytest.approx(alone * expected, rel=0.1)

    run_virtually(run())


def test_one_device_under_two_names_is_refused() -> None:
    """The second name of a device in use is rejected, and counts as no source."""

    async def run() -> None:
        pair = Pair(2)
        pair.drivers[1].identity = replace(pair.drivers[1].identity, path="/dev/a")
        async with pair.bench.run():
            await until(lambda: pair.second.report().last_error != "", "the second is checked")
            assert "source a already reads /dev/a" in pair.second.report().last_error
            with pytest.raises(NoHealthySource):
                await pair.draw()
            assert pair.bench.supply.report().combined_bits == 0

    run_virtually(run())


def test_two_sources_that_give_the_same_fail_for_good() -> None:
    """A copy that lags behind is found by its first output; both are latched."""

    async def run() -> None:
        pair = Pair(2)
        pair.drivers[0].stream, pair.drivers[1].stream = sick.good(5), sick.good(5)
        async with pair.bench.run():
            for monitor in pair.bench.monitors:
                await until(lambda each=monitor: each.state is SourceState.PERMANENT_FAILURE, "it is latched")
            await until(
                lambda: all(each.report().last_error for each in pair.bench.sources), "both report why"
            )
            assert [each.report().last_error for each in pair.bench.sources] == [
                f"output equal to that of source {twin}: both are the same source" for twin in "ba"
            ]
            ledger = pair.bench.supply.report()
            assert (ledger.in_lanes_bits, ledger.in_reservoir_bits, ledger.balanced) == (0, 0, True)
            with pytest.raises(NoHealthySource):
                await pair.draw()

    run_virtually(run())


def test_a_receipt_names_the_sources_of_these_bytes_and_no_others() -> None:
    """Class full names the sources of the bytes, drbg those of its seed."""

    async def run() -> None:
        pair = Pair(1)

        async def named(draw_class: DrawClass) -> set[tuple[str, str]]:
            drawn = await pair.bench.broker.draw(consumer("web01"), DrawRequest(64, draw_class, receipt=True))
            grant = await pair.bench.broker.sign(drawn)
            body = verify_receipt(grant.receipt, pair.bench.signer.public_key, grant.data, grant.receipt_key)
            assert body.combined == 1
            return {(each.name, each.state) for each in body.sources}

        pair.drivers[0].unplugged = True
        async with pair.bench.run():
            await pair.bench.until_filled()
            assert await named(DrawClass.DRBG) == {("b", "healthy")}
            pair.drivers[0].unplugged = False
            await until(lambda: pair.first.healthy, "the first is there")
            pair.drivers[1].unplugged = True
            await until(lambda: not pair.second.healthy, "the second is gone")
            pair.bench.supply.take(len(pair.bench.supply.reservoir))
            await pair.bench.until_filled()
            assert await named(DrawClass.FULL) == {("a", "healthy")}
            assert await named(DrawClass.DRBG) == {("b", "off")}

    run_virtually(run())


def test_a_receipt_names_all_that_were_combined() -> None:
    """With two needed, both are named for either class, with their number."""

    async def run() -> None:
        pair = Pair(2)
        async with pair.bench.run():
            await pair.until_both_fill_it()
            for draw_class in DrawClass:
                grant = await pair.bench.broker.draw(
                    consumer("web01"), DrawRequest(64, draw_class, receipt=True)
                )
                body = read_receipt((await pair.bench.broker.sign(grant)).receipt)
                assert ([each.name for each in body.sources], body.combined) == (["a", "b"], 2)

    run_virtually(run())


def test_a_failing_source_empties_its_own_lane_only() -> None:
    """Unplugging drops a stick's lane; the other one's is kept."""

    async def run() -> None:
        pair = Pair(2)
        async with pair.bench.run():
            await pair.until_both_fill_it()
            lanes = [each._depot.store for each in pair.bench.sources]
            await until(lambda: all(map(len, lanes)), "both have outputs")
            before = len(lanes[0])
            pair.drivers[1].unplugged = True
            await until(lambda: not pair.second.healthy, "it is detected")
            assert len(lanes[0]) >= before
            assert len(lanes[1]) == 0
            assert pair.bench.supply.report().balanced

    run_virtually(run())


@pytest.mark.parametrize("verb", ["pause", "test"])
def test_a_paused_or_tested_source_does_not_count(verb) -> None:
    """With two needed, the broker is starved until the source is back."""

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


@pytest.mark.slow
def test_a_hundred_replugs_keep_the_ledger_balanced() -> None:
    """After a hundred replugs in turn nothing is lost, and both serve."""

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
