"""Accounts that are opened from a store at the first draw."""

import asyncio

import pytest

from drawwell.broker.account import Lease
from drawwell.entropy.blocks import DrawRequest
from drawwell.entropy.quota import QuotaState
from drawwell.errors import DrawRefused, PermissionRefused, StateUnavailable
from drawwell.testing.virtual_time import run_virtually
from drawwell.units import Allowance
from support.principals import consumer
from support.workbench import Workbench
from unit.broker.known_bench import DRBG, FULL, limited, on_bench, refusal, sourceless

DAY_S = 86_400.0
REQUEST = DrawRequest(100, DRBG)


class Engine:
    """A store of leases that can delay its answers."""

    def __init__(self, **leases: Lease) -> None:
        self.leases = leases
        self.asked: list[str] = []
        self.open = asyncio.Event()
        self.open.set()
        self.away = False

    async def lease(self, name: str) -> Lease | None:
        self.asked.append(name)
        found = self.leases.get(name)
        await self.open.wait()
        if self.away:
            raise StateUnavailable("the store is away", hint="Wait.")
        return found


def test_an_account_is_opened_at_the_first_draw() -> None:
    """Only a waiting draw queries the store, never an attempt."""
    engine = Engine(web01=Lease(limited("1000"), None))

    async def scenario(bench: Workbench) -> None:
        assert bench.broker.accounts == {}
        assert bench.broker.try_draw(consumer("web01"), REQUEST) is None
        assert engine.asked == []
        await asyncio.gather(*(bench.broker.draw(consumer("web01"), REQUEST) for _ in range(3)))
        assert bench.broker.try_draw(consumer("web01"), REQUEST) is not None
        assert bench.broker.accounts["web01"].draws == 4
        count = len(engine.asked)
        await bench.broker.draw(consumer("web01"), REQUEST)
        assert len(engine.asked) == count

    on_bench(scenario, terms={}, lease=engine.lease)


def test_what_was_reserved_before_counts_as_spent() -> None:
    """An account starts with the reservation from the previous run."""

    async def run() -> None:
        bench = sourceless(terms={})
        spent = QuotaState(int(bench.clock() // DAY_S), DAY_S, 950)
        engine = Engine(web01=Lease(limited(total=Allowance(1000, DAY_S)), spent))
        bench = sourceless(terms={}, lease=engine.lease)
        bench.put(bytes(range(256)))
        async with bench.run():
            assert await refusal(bench.broker.draw(consumer("web01"), REQUEST)) == "QuotaExceeded"

    run_virtually(run())


def test_an_unknown_consumer_leaves_no_account() -> None:
    """A consumer that is not in the store is refused at each draw."""
    engine = Engine()

    async def scenario(bench: Workbench) -> None:
        for _ in range(2):
            with pytest.raises(PermissionRefused, match="'x'"):
                await bench.broker.draw(consumer("x"), REQUEST)
        assert engine.asked == ["x", "x"]
        assert bench.broker.accounts == {}

    on_bench(scenario, terms={}, lease=engine.lease)


def test_a_store_that_is_away_refuses_and_forgets_no_consumer() -> None:
    """A first draw is refused; a consumer with an account can still draw."""
    engine = Engine(web01=Lease(limited("1000"), None), db01=Lease(limited("1000"), None))

    async def scenario(bench: Workbench) -> None:
        await bench.broker.draw(consumer("web01"), REQUEST)
        engine.away = True
        assert await refusal(bench.broker.draw(consumer("db01"), REQUEST)) == "StateUnavailable"
        await bench.broker.draw(consumer("web01"), REQUEST)
        engine.away = False
        await bench.broker.draw(consumer("db01"), REQUEST)

    on_bench(scenario, terms={}, lease=engine.lease)


@pytest.mark.parametrize(
    ("leases", "outcome"),
    [
        ({}, PermissionRefused),
        ({"web01": Lease(limited("1000", classes=frozenset({DRBG})), None)}, DrawRefused),
    ],
)
def test_a_change_during_the_lookup_counts(leases: dict[str, Lease], outcome: type[Exception]) -> None:
    """Terms that change during the store's lookup are looked up again."""
    engine = Engine(web01=Lease(limited("1000"), None))

    async def scenario(bench: Workbench) -> None:
        async def change() -> None:
            engine.leases = leases
            bench.broker.book.change("web01", None)
            engine.open.set()

        engine.open.clear()
        drawing = bench.broker.draw(consumer("web01"), DrawRequest(8, FULL))
        error, _ = await asyncio.gather(drawing, change(), return_exceptions=True)
        assert isinstance(error, outcome)
        assert engine.asked == ["web01", "web01"]

    on_bench(scenario, terms={}, lease=engine.lease)


def test_a_consumer_that_is_not_in_the_terms_keeps_its_lease() -> None:
    """A configuration change does not close a leased account."""
    engine = Engine(web01=Lease(limited("1000"), None))

    async def scenario(bench: Workbench) -> None:
        await bench.broker.draw(consumer("web01"), REQUEST)
        bench.broker.book.set_terms({"db01": limited("1000")})
        assert set(bench.broker.accounts) == {"web01", "db01"}
        bench.broker.book.set_terms({})
        assert set(bench.broker.accounts) == {"web01"}

    on_bench(scenario, terms={}, lease=engine.lease)


def test_the_busiest_are_those_with_the_most_draws() -> None:
    """A few accounts are all reported; of many, only the busiest."""

    async def scenario(bench: Workbench) -> None:
        for name, draws in (("a", 1), ("b", 3), ("c", 2)):
            for _ in range(draws):
                await bench.broker.draw(consumer(name), REQUEST)
        assert [each.name for each in bench.broker.book.busiest(3)] == ["a", "b", "c"]
        assert [each.name for each in bench.broker.book.busiest(2)] == ["b", "c"]

    on_bench(scenario, terms={name: limited("100000") for name in "abc"})
