"""Several brokers as one upstream: choice, backoff and mixing."""

import asyncio
from typing import Any

import pytest

from drawwell.entropy.blocks import DrawClass, Grant
from drawwell.entropy.mixing import parts
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
)
from drawwell.links.failover import Failover


class ScriptedUpstream:
    """An upstream that raises the scripted error or grants."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.error: DrawwellError | None = None
        self.asked = 0
        self.closed = False
        self.devices: object = []

    async def draw(self, n_bytes: int, draw_class: DrawClass, *, receipt: bool = False, **_: bool) -> Grant:
        self.asked += 1
        if self.error:
            raise self.error
        proof = (f"receipt of {self.name}".encode(), self.name.encode() * 4) if receipt else ()
        return Grant(self.name.encode(), self.asked, draw_class, *proof)

    async def call(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        self.asked += 1
        if self.error:
            raise self.error
        return {"from": self.name, "devices": self.devices}

    async def aclose(self) -> None:
        self.closed = True


class Pair:
    """Two brokers, an adjustable clock, and a jitter of one half."""

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
    """The log has a line when a broker is skipped, and when it serves again."""
    pair = Pair()
    caplog.set_level("INFO")
    pair.first.error = LinkUnavailable("gone")
    for _ in range(3):
        assert pair.draw() == "second"
        pair.now += 20
    pair.first.error = None
    assert [pair.draw() for _ in range(2)] == ["first"] * 2

    assert caplog.messages == ["first does not serve draws: gone", "first serves draws again"]


def test_first_is_preferred() -> None:
    """While the first broker serves, the second is not used."""
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
    """If a broker fails, the next is tried; each is tried once."""
    pair = Pair()
    pair.first.error = error

    assert pair.draw() == "second"
    assert pair.asked == (1, 1)
    assert asyncio.run(pair.failover.call("status", {})) == {"from": "second", "devices": []}


@pytest.mark.parametrize(
    "error",
    [QuotaExceeded("spent", retry_after_s=3.0), PermissionRefused("no"), DrawRefused("too large")],
    ids=lambda error: type(error).__name__,
)
def test_what_concerns_us_is_not_asked_elsewhere(error: DrawwellError) -> None:
    """A draw refused by one broker is not repeated at the next one."""
    pair = Pair()
    pair.first.error = error

    with pytest.raises(type(error)):
        pair.draw()
    assert pair.asked == (1, 0)
    pair.first.error = None
    assert pair.draw() == "first"


def test_broker_that_failed_is_left_alone_for_its_backoff_and_then_preferred_again() -> None:
    """A jitter of one half on a base of one second gives half a second."""
    pair = Pair()
    pair.first.error = LinkUnavailable("gone")
    pair.draw()
    pair.first.error = None

    pair.now = 100.49
    assert pair.draw() == "second"
    pair.now = 100.51
    assert pair.draw() == "first"


def test_backoff_doubles_up_to_its_cap_and_restarts_after_a_success() -> None:
    """Half of 1, 2, 4, 8, 10, 10 seconds; after a success, half of 1 again."""
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
    """A starved broker is retried at the time that it gave, without jitter."""
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
    """If none serves, the error is that of the starved one, with its hint."""
    pair = Pair()
    pair.first.error = LinkUnavailable("gone")
    pair.second.error = NoHealthySource("0 of 1 sources", hint="See drawwell doctor.")

    with pytest.raises(NoHealthySource, match="0 of 1 sources") as caught:
        pair.draw()
    assert caught.value.hint == "See drawwell doctor."
    assert caught.value.retry_after_s == 0.5


def test_no_broker_is_tried_while_all_are_skipped() -> None:
    """Draws during the backoff fail at once without reaching a broker."""
    pair = Pair()
    pair.first.error = pair.second.error = LinkUnavailable("gone", hint="Look.")
    for _ in range(5):
        with pytest.raises(LinkUnavailable) as caught:
            pair.draw()

    assert pair.asked == (1, 1)
    assert caught.value.hint == "Look."


def test_names_and_closing_are_of_all() -> None:
    """The name lists all brokers; closing closes all links."""
    pair = Pair()
    assert pair.failover.name == "first, second"
    assert pair.failover.wait_s() == 0.0

    asyncio.run(pair.failover.aclose())
    assert pair.first.closed
    assert pair.second.closed


class Mixing(Pair):
    """Two mixed brokers that grant their eight-byte names."""

    def __init__(self) -> None:
        super().__init__()
        self.first.name, self.second.name = "honest!!", "hostile!"
        self.failover = Failover(
            [self.first, self.second], jitter=lambda: 1.0, mix=2, now=lambda: self.now, base_s=1.0
        )


def test_mixed_bytes_are_the_xor_of_all() -> None:
    """A single broker does not know the result."""
    pair = Mixing()
    grant = asyncio.run(pair.failover.draw(8, DrawClass.FULL))

    assert grant.data == bytes(a ^ b for a, b in zip(b"honest!!", b"hostile!", strict=True))


def test_a_mixed_draw_needs_every_broker() -> None:
    """If one of two brokers is down, no bytes are drawn from the other."""
    pair = Mixing()
    pair.second.error = LinkUnavailable("gone")
    for _ in range(3):
        with pytest.raises(LinkUnavailable):
            pair.draw()
        pair.now += 0.1

    assert pair.failover.wait_s() == pytest.approx(0.7)
    assert pair.asked == (1, 1)


def test_a_broker_that_cheats_is_left_alone() -> None:
    """If the first broker repeats bytes, the next one serves."""
    pair = Pair()
    pair.first.error = RemoteProtocolError("the broker sent the same bytes twice")

    assert pair.draw() == "second"


def test_a_receipt_of_mixed_bytes_has_one_of_each_part() -> None:
    """Each line is one broker's receipt, and its key gives that broker's part."""
    pair = Mixing()
    grant = asyncio.run(pair.failover.draw(8, DrawClass.FULL, receipt=True))

    assert grant.receipt.split(b"\n") == [b"receipt of honest!!", b"receipt of hostile!"]
    assert parts(grant.data, grant.receipt_key, 2) == [
        (b"honest!!", b"honest!!" * 4),
        (b"hostile!", b"hostile!" * 4),
    ]


@pytest.mark.parametrize("length", [0, 32, 71, 73, 200])
def test_a_key_of_another_length_is_none_of_mixed_bytes(length: int) -> None:
    """Two keys of 32 bytes and one part of eight bytes make 72 bytes."""
    with pytest.raises(ValueError, match="from 2 brokers"):
        parts(bytes(8), bytes(length), 2)


class Three(Pair):
    """Three brokers, two of which are mixed; each grants its name."""

    def __init__(self, *devices: object) -> None:
        super().__init__()
        self.brokers = [ScriptedUpstream(name * 8) for name in "abc"]
        for broker, theirs in zip(self.brokers, devices, strict=True):
            broker.devices = theirs
        self.failover = Failover(self.brokers, jitter=lambda: 1.0, mix=2, now=lambda: self.now, base_s=1.0)

    def mixed(self) -> str:
        grant = asyncio.run(self.failover.draw(8, DrawClass.FULL, receipt=True))
        return "".join(line[-1:].decode() for line in grant.receipt.split(b"\n"))


@pytest.mark.parametrize(
    ("devices", "mixed"),
    [
        ((["1"], ["2"], ["3"]), "ab"),
        ((["1"], ["1"], ["3"]), "ac"),
        ((["1", "2"], ["1"], ["2"]), "bc"),
        (([], ["1"], ["1"]), "ab"),
        (([], [], []), "ab"),
    ],
    ids=["three devices", "one of them twice", "the first has both", "an old broker", "old brokers"],
)
def test_brokers_of_different_devices_are_mixed(devices: tuple[object, ...], mixed: str) -> None:
    """Brokers with a common device count once; the first possible pair wins."""
    assert Three(*devices).mixed() == mixed


def test_one_device_behind_all_brokers_is_no_mixture() -> None:
    """No bytes are drawn, and the error names the brokers."""
    three = Three(["1"], ["1"], ["1"])
    with pytest.raises(LinkUnavailable, match="have different devices: aaaaaaaa, bbbbbbbb"):
        three.mixed()
    assert [broker.asked for broker in three.brokers] == [1, 1, 1]


def test_a_device_that_moves_is_noticed() -> None:
    """Devices are queried again later, and a failing broker is replaced."""
    three = Three(["1"], ["2"], ["3"])
    assert three.mixed() == "ab"
    three.brokers[1].devices = ["1"]
    assert three.mixed() == "ab"
    three.now += 10.0
    assert three.mixed() == "ac"
    three.brokers[0].error = LinkUnavailable("gone")
    assert three.mixed() == "bc"


@pytest.mark.parametrize("devices", ["1", [1], {"a": 1}])
def test_devices_that_are_no_texts_are_a_broken_broker(devices: object) -> None:
    """A broker with a malformed device list is skipped."""
    assert Three(devices, ["2"], ["3"]).mixed() == "bc"
