"""Sources, operators, disk and consumers fail together, in virtual time."""

import asyncio
import itertools
import random
from collections import Counter

import pytest

from drawwell.broker.account import Terms
from drawwell.broker.broker import Rules
from drawwell.entropy.blocks import DrawClass, DrawRequest
from drawwell.errors import DrawwellError, NoHealthySource, QuotaExceeded, Refused, StateUnavailable
from drawwell.reports import SourceState
from drawwell.testing import sick
from drawwell.testing.scripted import ScriptedSource
from drawwell.testing.virtual_time import run_virtually
from drawwell.testing.waiting import until
from drawwell.units import Allowance
from support.principals import consumer
from support.workbench import Disk, Workbench

BOTH = frozenset(DrawClass)
TERMS = {
    "greedy": Terms(BOTH, None, None),
    "rated": Terms(BOTH, Allowance(300, 1.0), None),
    "poor": Terms(BOTH, None, Allowance(5_000, 3600.0)),
    "both": Terms(BOTH, Allowance(500, 1.0), Allowance(20_000, 3600.0)),
    "drbg": Terms(frozenset({DrawClass.DRBG}), None, Allowance(9_000, 3600.0)),
}
VERBS = ("info", "pause", "resume", "test", "capture", "sample", "reset", "nonsense")
STORM_S = 120.0


class Storm:
    """Two sources, five consumers, one disk, and a random generator."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.seeds = itertools.count(100 * seed)
        self.drivers = [ScriptedSource(name, seed=next(self.seeds)) for name in "ab"]
        self.bench = Workbench(
            *self.drivers, disk=Disk(), terms=TERMS, rules=Rules("storm", min_sources=1), capacity_bytes=8192
        )
        self.outcomes: Counter[str] = Counter()
        self.served: Counter[str] = Counter()
        self.pieces: list[bytes] = []
        self.serials: list[int] = []

    async def weather(self) -> None:
        """Break or repair something from time to time."""
        while True:
            await asyncio.sleep(self.dice.expovariate(1.0))
            driver = self.dice.choice(self.drivers)
            match self.dice.randrange(6):
                case 0:
                    driver.unplugged = True
                case 1 | 2:
                    driver.unplugged = False
                case 3:
                    fresh = sick.good(next(self.seeds))
                    driver.stream = sick.spliced(bytes(self.dice.choice([7, 9, 4000])), fresh)
                case 4:
                    self.bench.disk.full = not self.bench.disk.full
                case 5:
                    driver.at_read.append(None)

    async def operator(self) -> None:
        """Type verbs, some of which are cancelled before their answer."""
        while True:
            await asyncio.sleep(self.dice.expovariate(2.0))
            source, verb = self.dice.choice(self.bench.sources), self.dice.choice(VERBS)
            try:
                async with asyncio.timeout(self.dice.choice([0.001, 60.0])):
                    await source.command(verb, {"bytes": self.dice.randint(0, 2000)})
            except (DrawwellError, TimeoutError) as error:
                self.outcomes[type(error).__name__] += 1
            else:
                self.outcomes[verb] += 1

    async def consumer(self, name: str) -> None:
        """Draw, patiently or not, and check the invariants."""
        while True:
            healthy = self.bench.broker.healthy_sources()
            draw_class = self.dice.choice(list(DrawClass))
            try:
                grant = await self.bench.broker.draw(
                    consumer(name),
                    DrawRequest(
                        self.dice.randint(1, 200),
                        draw_class,
                        prediction_resistance=self.dice.random() < 0.1,
                        patience_s=self.dice.choice([0.0, 0.5]),
                    ),
                )
            except (Refused, StateUnavailable) as error:
                self.outcomes[type(error).__name__] += 1
                if isinstance(error, NoHealthySource) and self.bench.broker.healthy_sources():
                    self.outcomes["refused without a cause"] += 1
            else:
                assert healthy or self.bench.broker.healthy_sources()
                self.pieces.append(grant.data)
                self.serials.append(grant.serial)
                self.served[name] += len(grant)
            assert self.bench.supply.report().balanced
            await asyncio.sleep(self.dice.expovariate(2.0))

    async def run(self) -> None:
        async with self.bench.run():
            try:
                async with asyncio.timeout(STORM_S), asyncio.TaskGroup() as group:
                    group.create_task(self.weather())
                    group.create_task(self.operator())
                    for name in [*TERMS] * 3:
                        group.create_task(self.consumer(name))
            except TimeoutError:
                pass
            await self.repair()

    async def repair(self) -> None:
        """Repair everything by its own means, and check that it works."""
        self.bench.disk.full = False
        for driver, source in zip(self.drivers, self.bench.sources, strict=True):
            driver.unplugged = False
            driver.stream = sick.good(next(self.seeds))
            for verb in ("info", "reset", "resume"):
                try:
                    async with asyncio.timeout(60):
                        await source.command(verb, {})
                except DrawwellError:
                    continue
        await until(
            lambda: all(monitor.state is SourceState.HEALTHY for monitor in self.bench.monitors),
            "all are well",
        )
        await self.bench.until_filled()
        await self.bench.broker.draw(consumer("greedy"), DrawRequest(32, DrawClass.FULL))


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 6))])
def test_in_a_storm_nothing_hangs_nothing_is_served_twice_and_all_is_well_after(seed: int) -> None:
    """In any storm the ledger balances, quotas hold, and all recovers.

    No window of bytes is served twice, and every verb is answered.
    """

    async def run() -> Storm:
        storm = Storm(seed)
        await storm.run()
        return storm

    storm = run_virtually(run())

    windows = [piece[at : at + 8] for piece in storm.pieces for at in range(len(piece) - 7)]
    assert len(set(windows)) == len(windows) > 1000
    assert len(set(storm.serials)) == len(storm.serials)
    assert {"NoHealthySource", "StateUnavailable", "UsageError", "SourceUnavailable"} <= set(storm.outcomes)
    for name, terms in TERMS.items():
        assert terms.total is None or storm.served[name] <= terms.total.limit_bytes
    assert storm.bench.supply.report().balanced
    assert QuotaExceeded.__name__ in storm.outcomes
    assert "refused without a cause" not in storm.outcomes
