"""Shares of the event loop's time: immediate service, and turns."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from drawwell.doors.shares import HEADROOM, MOST_DEBT, QUIET_S, ROUND_S, TURN_S, Share, Shares, shares_of
from drawwell.testing.waiting import until

WAITING = 50


class Waiter:
    """A connection with requests for `turns` turns."""

    def __init__(self, share: Share, name: str, order: list[str], turns: int = 1) -> None:
        self.share, self.name, self.order, self.turns = share, name, order, turns
        share.wait(self)

    def take_turn(self) -> None:
        self.order.append(self.name)
        self.turns -= 1
        if self.turns:
            self.share.wait(self)


class Slow(Waiter):
    """A connection with a turn of a tenth of the longest."""

    def take_turn(self) -> None:
        super().take_turn()
        ends = time.perf_counter() + TURN_S / 10
        while time.perf_counter() < ends:
            pass


class Timeline:
    """A clock that only work moves, and the shares that go by it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.now = 100.0
        self._loop = loop
        shares = self.shares = Shares(loop, lambda: self.now)
        self.greedy, self.modest = shares.of("greedy"), shares.of("modest")
        self.let_in(self.greedy, self.modest, cost_s=TURN_S / 4)

    def work(self, cost_s: float) -> None:
        self.now += cost_s

    def poll(self) -> None:
        self._loop.call_soon(self._loop.stop)
        self._loop.run_forever()

    def end_round(self) -> None:
        self.poll()  # the one during which it began
        self.poll()
        self.now += ROUND_S

    def idle(self) -> None:
        self.end_round()
        self.now += 10 * ROUND_S

    def let_in(self, *all_shares: Share, cost_s: float = 0.0) -> list[bool]:
        """Have each do work at the same moment; return who had not to wait."""
        begun, let_in = self.now, []
        for share in all_shares:
            self.now = begun
            let_in.append(share.run(self.work, cost_s))
        self.now = begun
        return let_in


@pytest.fixture
def timeline() -> Iterator[Timeline]:
    loop = asyncio.new_event_loop()
    yield Timeline(loop)
    loop.close()


def test_a_consumer_that_is_alone_never_waits(timeline: Timeline) -> None:
    """A single consumer gets the whole time of every round."""
    alone, let_in = timeline.shares.of("web01"), list[bool]()
    timeline.idle()
    for _ in range(1000):
        let_in.append(alone.run(timeline.work, ROUND_S / 7))
        timeline.poll()
    assert all(let_in)


def test_a_consumer_is_not_alone_because_it_is_read_first(timeline: Timeline) -> None:
    """The input of one poll has one share, even if it takes many rounds."""
    timeline.idle()
    let_in = [timeline.greedy.run(timeline.work, ROUND_S / 10) for _ in range(1000)]
    assert sum(let_in) <= HEADROOM * 10 + 1


def test_a_consumer_beyond_its_share_waits_and_the_others_do_not(timeline: Timeline) -> None:
    """A share depends on how many consumers took part in the last round."""
    timeline.end_round()
    assert timeline.let_in(timeline.greedy, cost_s=0.51 * ROUND_S * HEADROOM) == [True]
    assert timeline.let_in(timeline.modest, cost_s=TURN_S) == [True]
    assert timeline.let_in(timeline.greedy, timeline.modest) == [False, True]


def test_what_is_overdrawn_is_paid_back(timeline: Timeline) -> None:
    """A turn as long as three shares also uses up the next two rounds."""
    greedy, modest = timeline.greedy, timeline.modest
    timeline.end_round()
    timeline.let_in(greedy, modest)
    timeline.let_in(greedy, cost_s=3.01 * timeline.shares.slice_s)

    let_in = []
    for _ in range(3):
        timeline.end_round()
        let_in += timeline.let_in(modest, greedy)
    assert let_in == [True, False, True, False, True, True]


def test_a_debt_is_bounded(timeline: Timeline) -> None:
    """A turn during which the whole process was stopped costs ten shares."""
    greedy, modest = timeline.greedy, timeline.modest
    timeline.end_round()
    timeline.let_in(greedy, modest)
    timeline.let_in(greedy, cost_s=100.0)

    rounds, waits = 0, True
    while waits:
        timeline.end_round()
        waits = timeline.let_in(modest, greedy) != [True, True]
        rounds += 1
    assert rounds <= MOST_DEBT + 1


def test_a_loop_that_works_for_a_waiting_consumer_is_not_quiet(timeline: Timeline) -> None:
    """Turns without limit are given only after a poll without other input."""
    greedy, modest, order = timeline.greedy, timeline.modest, list[str]()
    timeline.end_round()
    timeline.let_in(greedy, modest)
    greedy.charge(ROUND_S)

    had = []
    for served in ([modest], []):
        Waiter(greedy, "greedy", order)
        timeline.let_in(*served)
        timeline.work(2 * QUIET_S)  # a task of greedy
        timeline.poll()
        had.append(len(order))
    assert had == [0, 1]


def test_sessions_of_one_consumer_have_one_share(timeline: Timeline) -> None:
    """All sessions of a consumer use up the same share."""
    assert timeline.shares.of("greedy") is timeline.greedy
    assert timeline.shares.of("modest") is not timeline.greedy


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
    """A session has as many turns as its requests need."""

    async def run() -> list[str]:
        loop, order = shares_of(asyncio.get_running_loop()), list[str]()
        Waiter(loop.of("web01"), "web01", order, turns=5)
        await until(lambda: len(order) >= 5, "it is done")
        return order

    assert asyncio.run(run()) == ["web01"] * 5


def test_all_that_wait_within_their_shares_have_a_turn_before_the_next_poll() -> None:
    """Meanwhile other consumers are served at once."""

    async def run() -> list[str]:
        loop, order = asyncio.get_running_loop(), list[str]()
        shares = shares_of(loop)
        for number in range(WAITING):
            Slow(shares.of(f"web{number}"), f"web{number}", order)
        shares.of("db01").run(lambda: None)
        await asyncio.sleep(0)
        return order.copy()  # the loop runs until it is closed

    assert len(asyncio.run(run())) == WAITING
