"""The consumer role with a scripted broker and sink, in virtual time."""

import asyncio

import pytest

from drawwell.entropy.blocks import DrawClass, Grant
from drawwell.errors import (
    AuthenticationFailed,
    DrawRefused,
    LinkUnavailable,
    NoHealthySource,
    PermissionRefused,
    QuotaExceeded,
    SinkRefused,
    Starved,
    StateUnavailable,
)
from drawwell.links.failover import Failover
from drawwell.roles.consumer import FIRST_RETRY_S, LAST_RETRY_S, REFUSED_RETRY_S, ConsumerRole
from drawwell.testing.virtual_time import run_virtually


class Upstream:
    """Grants draws or raises the scripted error; records the times."""

    def __init__(self, *script, then=None, name="well") -> None:
        self.name = name
        self.script = list(script)
        self.then = then
        self.asked: list[float] = []
        self.closed = 0

    async def draw(
        self, n_bytes, draw_class, *, prediction_resistance=False, receipt=False, patience_s=0.0
    ) -> Grant:
        self.asked.append(asyncio.get_running_loop().time())
        error = self.script.pop(0) if self.script else self.then
        if error:
            raise error
        return Grant(bytes(n_bytes), len(self.asked), draw_class)

    async def aclose(self) -> None:
        self.closed += 1


class Sink:
    """Wants 100 bytes per second, `wants` times."""

    def __init__(self, wants: int, error: Exception | None = None) -> None:
        self.wants = wants
        self.error = error
        self.got: list[object] = []
        self.closed = 0

    def wanted_bytes(self) -> int:
        return 100

    async def wait_wanted(self) -> None:
        if len(self.got) >= self.wants:
            await asyncio.Event().wait()

    async def deliver(self, grant) -> None:
        if self.error:
            raise self.error
        self.got.append(grant)
        await asyncio.sleep(1)

    async def aclose(self) -> None:
        self.closed += 1


def fed(upstream, sink: Sink, *, seconds: float = 3600.0, jitter=lambda: 1.0) -> ConsumerRole:
    """Run the role for this time; return it."""
    role = ConsumerRole(upstream, sink, DrawClass.FULL, jitter=jitter)

    async def run() -> None:
        try:
            async with asyncio.timeout(seconds):
                await role.run()
        except TimeoutError:
            pass

    run_virtually(run())
    return role


def gaps(upstream: Upstream) -> list[float]:
    """Return the seconds between the draws."""
    return [later - earlier for earlier, later in zip(upstream.asked, upstream.asked[1:], strict=False)]


def test_a_sink_gets_grants_of_its_class_and_size_and_nothing_else() -> None:
    """The sink gets the broker's grants, with its class and size."""
    upstream, sink = Upstream(), Sink(5)
    fed(upstream, sink)

    assert len(sink.got) == len(upstream.asked) == 5
    assert all(isinstance(grant, Grant) and len(grant) == 100 for grant in sink.got)
    assert {grant.draw_class for grant in sink.got} == {DrawClass.FULL}


def test_nothing_is_drawn_that_the_sink_does_not_want() -> None:
    """While the sink wants no bytes, none are drawn."""
    upstream = Upstream()
    fed(upstream, Sink(0))

    assert upstream.asked == []


@pytest.mark.parametrize("error", [QuotaExceeded("rate", retry_after_s=7.5), Starved("s", retry_after_s=7.5)])
def test_a_refusal_is_waited_out_as_long_as_the_broker_asks(error) -> None:
    """The next draw is at exactly the time that the broker gave."""
    upstream, sink = Upstream(error), Sink(1)
    fed(upstream, sink)

    assert gaps(upstream) == [7.5]
    assert len(sink.got) == 1


def test_a_refusal_without_a_time_is_asked_again_in_a_while() -> None:
    """Without a time from the broker, the retry is after REFUSED_RETRY_S."""
    upstream = Upstream(*[NoHealthySource("none")] * 4)
    role = fed(upstream, Sink(1))

    assert gaps(upstream) == [REFUSED_RETRY_S] * 4
    assert role.last_error == ""


@pytest.mark.parametrize(
    "error",
    [
        LinkUnavailable("down"),
        StateUnavailable("disk full"),
        PermissionRefused("revoked"),
        AuthenticationFailed("run out"),
    ],
)
def test_a_fixable_error_is_retried_with_growing_waits(error) -> None:
    """Waits double while a broker is down or refuses; a success resets them."""
    upstream, sink = Upstream(*[error] * 9, None, error), Sink(2)
    fed(upstream, sink)

    waits = [min(FIRST_RETRY_S * 2**n, LAST_RETRY_S) for n in range(9)]
    assert gaps(upstream) == pytest.approx([*waits, 1.0, waits[0]])
    assert len(sink.got) == 2


def test_waits_are_spread_by_jitter() -> None:
    """Jitter scales each wait, so that consumers do not retry together."""
    shares = iter([0.5, 0.25])
    upstream = Upstream(*[LinkUnavailable("down")] * 2)
    fed(upstream, Sink(1), jitter=lambda: next(shares))

    assert gaps(upstream) == pytest.approx([0.5 * FIRST_RETRY_S, 0.25 * 2 * FIRST_RETRY_S])


def test_the_last_error_is_shown_until_it_is_over() -> None:
    """While draws fail, the role reports the reason."""
    role = fed(Upstream(then=LinkUnavailable("the link broke")), Sink(1), seconds=100)

    assert role.last_error == "the link broke"


def test_a_draw_that_can_never_be_served_ends_it() -> None:
    """A draw of wrong size or class ends the role and releases everything."""
    upstream, sink = Upstream(DrawRefused("class")), Sink(1)
    with pytest.raises(DrawRefused):
        fed(upstream, sink)

    assert len(upstream.asked) == 1
    assert (upstream.closed, sink.closed) == (1, 1)


def test_a_sink_that_refuses_ends_it() -> None:
    """If the sink refuses bytes, no more are drawn for it."""
    upstream, sink = Upstream(), Sink(3, SinkRefused("the reader is gone"))
    with pytest.raises(SinkRefused):
        fed(upstream, sink)

    assert len(upstream.asked) == 1
    assert (upstream.closed, sink.closed) == (1, 1)


def test_a_lost_draw_is_not_asked_for_again() -> None:
    """After a lost answer, the next draw is a new one."""
    upstream, sink = Upstream(LinkUnavailable("broke in the middle")), Sink(1)
    fed(upstream, sink)

    assert [grant.serial for grant in sink.got] == [2]


def over_both(first: Upstream, second: Upstream, sink: Sink, seconds: float = 3600.0) -> None:
    """Feed the sink from two brokers, on one clock."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        both = Failover([first, second], jitter=lambda: 1.0, now=loop.time)
        role = ConsumerRole(both, sink, DrawClass.FULL, jitter=lambda: 1.0)
        try:
            async with asyncio.timeout(seconds):
                await role.run()
        except TimeoutError:
            pass

    run_virtually(run())


def test_a_second_broker_serves_while_the_first_is_down() -> None:
    """No draw fails; the first broker serves again when it is up."""
    first, second = Upstream(*[LinkUnavailable("down")] * 3, name="a"), Upstream(name="b")
    sink = Sink(20)
    over_both(first, second, sink)

    assert len(sink.got) == 20
    assert len(first.asked) + len(second.asked) == 23
    assert first.asked[-1] > second.asked[-1]


def test_when_both_are_down_it_waits_and_goes_on() -> None:
    """Without a broker the role waits, with few retries, and then continues."""
    down = [LinkUnavailable("down")] * 6
    first, second, sink = Upstream(*down, name="a"), Upstream(*down, name="b"), Sink(1)
    over_both(first, second, sink)

    assert len(sink.got) == 1
    assert 6 <= len(first.asked) + len(second.asked) <= 13


def test_a_quota_at_one_broker_is_not_dodged_at_the_other() -> None:
    """A quota concerns the consumer, so the second broker is not tried."""
    first, second = Upstream(QuotaExceeded("rate", retry_after_s=9.0), name="a"), Upstream(name="b")
    sink = Sink(1)
    over_both(first, second, sink)

    assert gaps(first) == [9.0]
    assert second.asked == []


def test_starved_brokers_are_asked_when_the_first_of_them_said() -> None:
    """If both are starved, the next draw is at the earlier of the times."""
    first = Upstream(Starved("a", retry_after_s=40.0), name="a")
    second = Upstream(Starved("b", retry_after_s=15.0), name="b")
    over_both(first, second, Sink(1))

    assert len(first.asked) == 1
    assert gaps(second) == pytest.approx([15.0], abs=1e-3)
