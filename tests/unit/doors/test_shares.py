"""Shares of the loop's time: service at once, and turns."""

import asyncio
from collections.abc import Iterator

import pytest

from drawwell.doors.shares import HEADROOM, MOST_DEBT, ROUND_S, TURN_S, Share, Shares, shares_of
from drawwell.testing.waiting import until


class Waiter:
    """A connection with `turns` turns' worth of requests."""

    def __init__(self, share: Share, name: str, order: list[str], turns: int = 1) -> None:
        self.share, self.name, self.order, self.turns = share, name, order, turns
        share.wait(self)

    def take_turn(self) -> None:
        self.order.append(self.name)
        self.turns -= 1
        if self.turns:
            self.share.wait(self)


@pytest.fixture
def shares() -> Iterator[Shares]:
    loop = asyncio.new_event_loop()
    yield Shares(loop)
    loop.close()


def used_together(*all_shares: Share, now: float, cost_s: float) -> None:
    for share in all_shares:
        share.within(now)
        share.spend(cost_s, now)


def test_a_consumer_that_is_alone_never_waits(shares: Shares) -> None:
    """All the time of every round is its own."""
    alone, now = shares.of("web01"), 100.0
    for _ in range(1000):
        assert alone.may_go(now)
        now += ROUND_S / 7
        alone.spend(ROUND_S / 7, now)


def test_a_consumer_beyond_its_share_waits_and_the_others_do_not(shares: Shares) -> None:
    """Its share depends on how many took part in the round before."""
    greedy, modest = shares.of("greedy"), shares.of("modest")
    used_together(greedy, modest, now=100.0, cost_s=TURN_S / 4)

    now = 100.0 + ROUND_S
    used_together(greedy, now=now, cost_s=ROUND_S * HEADROOM / 2)
    used_together(modest, now=now, cost_s=TURN_S)
    assert not greedy.may_go(now)
    assert modest.may_go(now)


def test_what_is_overdrawn_is_paid_back(shares: Shares) -> None:
    """A turn as long as three shares costs the next two rounds as well."""
    greedy, modest = shares.of("greedy"), shares.of("modest")
    used_together(greedy, modest, now=100.0, cost_s=TURN_S / 4)
    used_together(greedy, modest, now=100.0 + ROUND_S, cost_s=0.0)
    greedy.spend(3.01 * shares.slice_s, 100.0 + ROUND_S)

    admitted = []
    for round_number in range(2, 5):
        modest.within(100.0 + round_number * ROUND_S)
        admitted.append(greedy.may_go(100.0 + round_number * ROUND_S))
    assert admitted == [False, False, True]


def test_a_debt_is_bounded(shares: Shares) -> None:
    """A turn during which the whole process stood still costs ten shares."""
    greedy, modest = shares.of("greedy"), shares.of("modest")
    used_together(greedy, modest, now=100.0, cost_s=TURN_S / 4)
    used_together(greedy, modest, now=100.0 + ROUND_S, cost_s=0.0)
    greedy.spend(100.0, 100.0 + ROUND_S)

    rounds = 0
    while not greedy.may_go(100.0 + (2 + rounds) * ROUND_S):
        modest.within(100.0 + (2 + rounds) * ROUND_S)
        rounds += 1
    assert rounds <= MOST_DEBT


def test_sessions_of_one_consumer_have_one_share(shares: Shares) -> None:
    """All sessions of a consumer use up the same share."""
    first = shares.of("web01")
    assert shares.of("web01") is first
    assert shares.of("db01") is not first


def test_turns_go_round_by_consumer() -> None:
    """Sixty waiting sessions delay another consumer by one turn."""

    async def run() -> list[str]:
        loop, order = shares_of(asyncio.get_running_loop()), list[str]()
        for _ in range(60):
            Waiter(loop.of("greedy"), "greedy", order)
        Waiter(loop.of("modest"), "modest", order)
        await until(lambda: len(order) == 61, "each had a turn")
        return order

    order = asyncio.run(run())
    assert order.index("modest") == 1


def test_a_session_that_is_not_done_has_another_turn() -> None:
    """A session has as many turns as it has requests for."""

    async def run() -> list[str]:
        loop, order = shares_of(asyncio.get_running_loop()), list[str]()
        Waiter(loop.of("web01"), "web01", order, turns=5)
        await until(lambda: len(order) >= 5, "it is done")
        return order

    assert asyncio.run(run()) == ["web01"] * 5
