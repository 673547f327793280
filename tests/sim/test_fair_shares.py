"""A starved broker in virtual time: equal shares, enforced rates."""

import asyncio
import random

import pytest

from drawwell.broker.account import Terms
from drawwell.broker.broker import Rules
from drawwell.entropy.blocks import DrawClass, DrawRequest
from drawwell.errors import Refused, Starved
from drawwell.testing.virtual_time import run_virtually
from drawwell.units import Allowance
from support.principals import consumer
from support.workbench import UNLIMITED, Workbench

SUPPLY_BYTES_PER_S = 38_400
"""About the rate of a OneRNG after conditioning."""
TICK_S = 1 / 60
MINUTE_S = 60.0
BOTH = frozenset(DrawClass)


class Scarcity:
    """A broker with far less supply than demand.

    Args:
        weights: Of the consumers, by name.
    """

    def __init__(self, weights: dict[str, int]) -> None:
        terms = {name: Terms(BOTH, None, None, weight) for name, weight in weights.items()}
        self.bench = Workbench(rules=Rules("bench", min_sources=0), terms=terms, capacity_bytes=131_072)
        self.got = dict.fromkeys(weights, 0)
        self.end = asyncio.get_running_loop().time() + MINUTE_S

    async def supply(self) -> None:
        """Deposit the same small amount repeatedly."""
        while True:
            self.bench.put(bytes(SUPPLY_BYTES_PER_S // 60))
            await asyncio.sleep(TICK_S)

    async def draw_on(self, name: str, n_bytes: int, patience_s: float = 5.0) -> None:
        """Draw until the minute is over."""
        while asyncio.get_running_loop().time() < self.end:
            try:
                await self.bench.broker.draw(
                    consumer(name), DrawRequest(n_bytes, DrawClass.FULL, patience_s=patience_s)
                )
            except Starved as error:
                await asyncio.sleep(error.retry_after_s or 0.01)
            else:
                self.got[name] += n_bytes

    async def run(self, *drawing) -> None:
        """Let all consumers draw for a minute."""
        async with asyncio.TaskGroup() as group:
            always = group.create_task(self.supply())
            await asyncio.wait([group.create_task(each) for each in drawing])
            always.cancel()


@pytest.mark.slow
def test_a_hundred_consumers_get_equal_shares_for_any_sizes() -> None:
    """Over a minute of draws of 32 bytes to 1 KiB, shares differ by 10 %."""

    async def run() -> None:
        dice = random.Random(1)
        scarcity = Scarcity({f"c{number}": 1 for number in range(100)})
        await scarcity.run(
            *(scarcity.draw_on(name, dice.choice([32, 64, 256, 1024])) for name in scarcity.got)
        )

        shares = scarcity.got.values()
        assert max(shares) / min(shares) <= 1.1
        assert sum(shares) >= 0.95 * SUPPLY_BYTES_PER_S * MINUTE_S - 100 * 48

    run_virtually(run())


def test_a_greedy_consumer_gets_no_more_than_a_modest_one() -> None:
    """Fifty queued draws count as those of one consumer."""

    async def run() -> None:
        scarcity = Scarcity({"greedy": 1, "modest": 1})
        greedy = [scarcity.draw_on("greedy", 4096) for _ in range(50)]
        await scarcity.run(*greedy, scarcity.draw_on("modest", 4096))

        assert scarcity.got["greedy"] / scarcity.got["modest"] <= 1.1

    run_virtually(run())


def test_shares_follow_the_weights() -> None:
    """A weight of 4 gets four times the bytes."""

    async def run() -> None:
        scarcity = Scarcity({"one": 1, "four": 4})
        await scarcity.run(scarcity.draw_on("one", 512), scarcity.draw_on("four", 512))

        assert scarcity.got["four"] / scarcity.got["one"] == pytest.approx(4, rel=0.1)

    run_virtually(run())


@pytest.mark.slow
def test_polling_takes_nothing_from_queued_draws() -> None:
    """Polling at full speed gets less than waiting in the queue."""

    async def run() -> None:
        scarcity = Scarcity({"patient": 1, "other": 1, "polling": 1})
        await scarcity.run(
            scarcity.draw_on("patient", 1024),
            scarcity.draw_on("other", 1024),
            scarcity.draw_on("polling", 1024, patience_s=0.0),
        )

        assert scarcity.got["polling"] <= scarcity.got["patient"]
        assert scarcity.got["patient"] / scarcity.got["other"] == pytest.approx(1, rel=0.1)

    run_virtually(run())


@pytest.mark.slow
@pytest.mark.parametrize("n_bytes", [8, 32, 1000, 4096])
def test_a_rate_is_held_to_two_percent_and_never_exceeded(n_bytes: int) -> None:
    """Drawing when permitted gets the rate, and no byte more than the burst."""

    async def run() -> None:
        rate = 1000
        bench = Workbench(
            rules=Rules("bench", min_sources=0), terms={"web01": Terms(BOTH, Allowance(rate, 1.0), None)}
        )
        bench.put(bytes(131_072))
        loop, got = asyncio.get_running_loop(), 0
        async with bench.run():
            end = loop.time() + MINUTE_S
            while loop.time() < end:
                try:
                    await bench.broker.draw(consumer("web01"), DrawRequest(n_bytes, DrawClass.FULL))
                except Refused as error:
                    await asyncio.sleep(error.retry_after_s)
                else:
                    got += n_bytes
                    bench.put(bytes(64) * (n_bytes // 64 + 1))
            allowed = rate * (loop.time() - end + MINUTE_S) + max(rate, n_bytes)

        assert got <= allowed
        assert got >= 0.98 * rate * MINUTE_S - n_bytes

    run_virtually(run())


def test_an_unlimited_consumer_is_not_in_the_way_of_a_limited_one() -> None:
    """A consumer without a limit does not reduce another's rate."""

    async def run() -> None:
        scarcity = Scarcity({"hungry": 1, "limited": 1})
        rate = Allowance(SUPPLY_BYTES_PER_S // 4, 1.0)
        scarcity.bench.broker.book.set_terms({"hungry": UNLIMITED, "limited": Terms(BOTH, rate, None)})
        async with scarcity.bench.run(), asyncio.TaskGroup() as group:
            always = group.create_task(scarcity.supply())
            hungry = group.create_task(scarcity.draw_on("hungry", 4096))
            while asyncio.get_running_loop().time() < scarcity.end:
                try:
                    await scarcity.bench.broker.draw(
                        consumer("limited"), DrawRequest(512, DrawClass.FULL, patience_s=5.0)
                    )
                except Refused as error:
                    await asyncio.sleep(error.retry_after_s or 0.01)
                else:
                    scarcity.got["limited"] += 512
            hungry.cancel()
            always.cancel()

        assert scarcity.got["limited"] >= 0.95 * rate.limit_bytes * MINUTE_S

    run_virtually(run())
