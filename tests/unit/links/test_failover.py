"""Several brokers behind one upstream: who is asked, who is left alone, and for how long."""

import asyncio
from typing import Any

import pytest

from drawwell.entropy.blocks import DrawClass, Grant
from drawwell.errors import (
    AuthenticationFailed,
    DrawRefused,
    DrawwellError,
    LinkUnavailable,
    NoHealthySource,
    PermissionRefused,
    QuotaExceeded,
    RemoteProtocolError,
    Starved,
    StateUnavailable,
    UsageError,
)
from drawwell.links.failover import Failover


class ScriptedUpstream:
    """Raises what it is told to, else grants."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.error: DrawwellError | None = None
        self.asked = 0
        self.closed = False

    async def draw(self, n_bytes: int, draw_class: DrawClass, **_: bool) -> Grant:
        self.asked += 1
        if self.error:
            raise self.error
        return Grant(self.name.encode(), self.asked, draw_class)

    async def call(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        self.asked += 1
        if self.error:
            raise self.error
        return {"from": self.name}

    async def aclose(self) -> None:
        self.closed = True


class Pair:
    """Two brokers, a clock that the test sets, and jitter of one half."""

    def __init__(self) -> None:
        self.first, self.second = ScriptedUpstream("first"), ScriptedUpstream("second")
        self.now = 100.0
        self.jitter = 0.5
        self.failover = Failover(
            [self.first, self.second],
            jitter=lambda: self.jitter,
            now=lambda: self.now,
            base_s=1.0,
            cap_s=10.0,
        )

    def draw(self) -> str:
        return asyncio.run(self.failover.draw(32, DrawClass.FULL)).data.decode()

    @property
    def asked(self) -> tuple[int, int]:
        return self.first.asked, self.second.asked


def test_a_change_of_brokers_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The journal has a line when a broker is left for the next and one when it serves again, whatever lies between."""
    pair = Pair()
    caplog.set_level("INFO")
    pair.first.error = LinkUnavailable("gone")
    for _ in range(3):
        assert pair.draw() == "second"
        pair.now += 20
    pair.first.error = None
    assert [pair.draw() for _ in range(2)] == ["first"] * 2

    assert caplog.messages == ["first cannot be drawn from: gone", "first can be drawn from again"]


def test_first_is_preferred() -> None:
    """As long as the first serves, the second is not asked."""
    pair = Pair()

    assert [pair.draw() for _ in range(3)] == ["first"] * 3
    assert pair.asked == (3, 0)


@pytest.mark.parametrize(
    "error",
    [
        LinkUnavailable("gone"),
        AuthenticationFailed("another"),
        Starved("empty"),
        NoHealthySource("sick"),
        StateUnavailable("full disk"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_next_serves_when_one_cannot(error: DrawwellError) -> None:
    """What is wrong with one broker is no reason not to ask the next; each is asked once."""
    pair = Pair()
    pair.first.error = error

    assert pair.draw() == "second"
    assert pair.asked == (1, 1)
    assert asyncio.run(pair.failover.call("status", {})) == {"from": "second"}


@pytest.mark.parametrize(
    "error",
    [QuotaExceeded("spent", retry_after_s=3.0), PermissionRefused("no"), DrawRefused("too large")],
    ids=lambda error: type(error).__name__,
)
def test_what_concerns_us_is_not_asked_elsewhere(error: DrawwellError) -> None:
    """A quota is not evaded at the next broker, a refusal not repeated there."""
    pair = Pair()
    pair.first.error = error

    with pytest.raises(type(error)):
        pair.draw()
    assert pair.asked == (1, 0)
    pair.first.error = None
    assert pair.draw() == "first"


def test_broker_that_failed_is_left_alone_for_its_backoff_and_then_preferred_again() -> None:
    """Full jitter of one half on a base of one second: half a second."""
    pair = Pair()
    pair.first.error = LinkUnavailable("gone")
    pair.draw()
    pair.first.error = None

    pair.now = 100.49
    assert pair.draw() == "second"
    pair.now = 100.51
    assert pair.draw() == "first"


def test_backoff_doubles_up_to_its_cap_and_begins_anew_after_a_success() -> None:
    """One half of 1, 2, 4, 8, 10, 10 seconds; after a success one half of 1 again."""
    pair = Pair()
    pair.first.error = pair.second.error = LinkUnavailable("gone")
    waits = []
    for _ in range(6):
        with pytest.raises(LinkUnavailable):
            pair.draw()
        waits.append(pair.failover.wait_s())
        pair.now += waits[-1]
    assert waits == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]

    pair.first.error = None
    assert pair.draw() == "first"
    pair.first.error = LinkUnavailable("gone")
    pair.second.error = Starved("empty", retry_after_s=60.0)
    with pytest.raises(Starved):
        pair.draw()
    assert pair.failover.wait_s() == 0.5


def test_time_that_a_broker_named_is_kept() -> None:
    """A starved broker is asked again when it said, not earlier and without jitter."""
    pair = Pair()
    pair.first.error = Starved("empty", retry_after_s=7.25, estimate=True)
    pair.second.error = Starved("empty", retry_after_s=9.0)

    with pytest.raises(Starved) as caught:
        pair.draw()
    assert (caught.value.retry_after_s, caught.value.estimate) == (7.25, True)
    pair.now += 7.0
    with pytest.raises(Starved) as caught:
        pair.draw()
    assert caught.value.retry_after_s == 0.25
    assert pair.asked == (1, 1)


def test_starved_broker_is_better_news_than_one_that_is_gone() -> None:
    """When none can serve, the error says that one is alive; its class and hint are kept."""
    pair = Pair()
    pair.first.error = LinkUnavailable("gone")
    pair.second.error = NoHealthySource("0 of 1 sources", hint="See drawwell doctor.")

    with pytest.raises(NoHealthySource, match="0 of 1 sources") as caught:
        pair.draw()
    assert caught.value.hint == "See drawwell doctor."
    assert caught.value.retry_after_s == 0.5


def test_nobody_is_asked_while_all_are_left_alone() -> None:
    """Draws during the backoff raise at once and reach no broker."""
    pair = Pair()
    pair.first.error = pair.second.error = LinkUnavailable("gone", hint="Look.")
    for _ in range(5):
        with pytest.raises(LinkUnavailable) as caught:
            pair.draw()

    assert pair.asked == (1, 1)
    assert caught.value.hint == "Look."


def test_names_and_closing_are_of_all() -> None:
    """The name lists every broker; closing closes every link."""
    pair = Pair()
    assert pair.failover.name == "first, second"
    assert pair.failover.wait_s() == 0.0

    asyncio.run(pair.failover.aclose())
    assert pair.first.closed
    assert pair.second.closed


class Mixing(Pair):
    """Two brokers that are mixed; `first` and `second` grant their name, eight bytes long."""

    def __init__(self) -> None:
        super().__init__()
        self.first.name, self.second.name = "honest!!", "hostile!"
        self.failover = Failover(
            [self.first, self.second], jitter=lambda: 1.0, mix=2, now=lambda: self.now, base_s=1.0
        )


def test_mixed_bytes_are_the_xor_of_all() -> None:
    """Neither broker knows the result."""
    pair = Mixing()
    grant = asyncio.run(pair.failover.draw(8, DrawClass.FULL))

    assert grant.data == bytes(a ^ b for a, b in zip(b"honest!!", b"hostile!", strict=True))


def test_a_mixed_draw_needs_every_broker() -> None:
    """With one of two gone nothing is granted, and the other is not asked for nothing meanwhile."""
    pair = Mixing()
    pair.second.error = LinkUnavailable("gone")
    for _ in range(3):
        with pytest.raises(LinkUnavailable):
            pair.draw()
        pair.now += 0.1

    assert pair.failover.wait_s() == pytest.approx(0.7)
    assert pair.asked == (1, 1)


def test_a_broker_that_cheats_is_left_alone() -> None:
    """The next one serves when the first gave the same bytes twice."""
    pair = Pair()
    pair.first.error = RemoteProtocolError("the broker gave the same bytes twice")

    assert pair.draw() == "second"


def test_no_receipt_covers_mixed_bytes() -> None:
    """Asking for one is a misuse, told before anybody is asked."""
    pair = Mixing()
    with pytest.raises(UsageError):
        asyncio.run(pair.failover.draw(8, DrawClass.FULL, receipt=True))

    assert pair.asked == (0, 0)
