"""The virtual OneRNG's door over real sockets: bytes and refusals."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from drawwell.broker.broker import Rules
from drawwell.doors.usb import DRAW_BYTES, UsbDoor
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import DrawwellError, PermissionRefused, QuotaExceeded
from drawwell.onerng.replies import ReplyParser, VersionReply
from drawwell.onerng.usb import virtual_id
from drawwell.testing.waiting import DEADLINE_S, until
from drawwell.wire import usbredir as redir
from drawwell.wire.usb_device import BULK_IN, BULK_OUT
from support.fake_broker import FakeBroker
from support.serving import serving
from support.usb_guest import UsbGuest, bulk_packet, packet
from support.workbench import UNLIMITED, Workbench

FULL = DrawClass.FULL


class Pool(FakeBroker):
    """A broker that records the granted bytes of each consumer."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.granted: dict[str, bytes] = {}

    def _grant(self, consumer, request):
        grant = super()._grant(consumer, request)
        self.granted[consumer] = self.granted.get(consumer, b"") + grant.data
        return grant


@contextlib.asynccontextmanager
async def guest_at(door: UsbDoor) -> AsyncIterator[UsbGuest]:
    """Return a guest that has just seen the stick."""
    guest = await UsbGuest.at(door.address)
    try:
        async with asyncio.timeout(DEADLINE_S):
            await guest.until_plugged()
            yield guest
    finally:
        await guest.aclose()


def door_at(folder: Path, broker: object, name: str = "guest1", **options: object) -> UsbDoor:
    return UsbDoor(str(folder / f"{name}.sock"), broker, name, FULL, **options)


async def quiet(guest: UsbGuest) -> None:
    """Make a round trip, so that all earlier effects have arrived."""
    await guest.control(0x80, 0, length=2)
    for _ in range(10):
        await asyncio.sleep(0)
    await guest.control(0x80, 0, length=2)


def test_a_guest_sees_a_onerng(folder: Path) -> None:
    """The device has the OneRNG's IDs and release, full speed, and `virtual`."""

    async def story() -> None:
        door = door_at(folder, FakeBroker())
        async with serving(door), guest_at(door) as guest:
            assert guest.device == (1, 2, 0, 0, 0x1D50, 0x6086, 0x0009)
            texts = [
                (await guest.control(0x80, 6, value=0x300 | n, length=255))[1][2:].decode("utf-16-le")
                for n in (1, 2, 3)
            ]
            assert texts == ["drawwell", "drawwell virtual OneRNG", virtual_id("guest1")]

    asyncio.run(story())


def test_every_byte_is_one_that_was_granted(folder: Path) -> None:
    """All granted bytes arrive in order; only the last can be cancelled."""

    async def story() -> None:
        broker = Pool()
        door = door_at(folder, broker)
        async with serving(door), guest_at(door) as guest:
            await guest.open()
            await guest.write(b"cmdO")
            arrived = await guest.read(50_000)

        assert broker.granted["guest1"].startswith(arrived)
        assert len(broker.granted["guest1"]) - len(arrived) <= DRAW_BYTES

    asyncio.run(story())


def test_nothing_is_drawn_before_it_is_asked_for(folder: Path) -> None:
    """The door draws only for a running stick with an open terminal."""

    async def story() -> None:
        broker = FakeBroker()
        door = door_at(folder, broker)
        async with serving(door), guest_at(door) as guest:
            await guest.open()
            await guest.close_terminal()
            await guest.write(b"cmdO")
            number = guest.ask()
            await quiet(guest)
            assert not broker.drawn_bytes, "the terminal is closed"
            await guest.open()
            await guest.end_of(number)
            assert broker.drawn_bytes == {"guest1": 128}
            await quiet(guest)
            await guest.write(b"cmdo")
            number = guest.ask(64)
            await quiet(guest)
            assert broker.drawn_bytes == {"guest1": 128}, "it is paused"
            await guest.write(b"cmdO")
            await guest.end_of(number)
            assert broker.drawn_bytes == {"guest1": 192}
            await guest.close_terminal()
            guest.ask()
            await quiet(guest)
            assert broker.drawn_bytes == {"guest1": 192}, "the terminal is closed again"

    asyncio.run(story())


def test_modes_and_images_are_refused_by_silence_and_text(folder: Path) -> None:
    """Raw noise gets silence and cmdX gets text; both are counted."""

    async def story() -> None:
        broker = FakeBroker()
        door = door_at(folder, broker)
        async with serving(door), guest_at(door) as guest:
            await guest.open()
            await guest.write(b"cmd1cmdO")
            number = guest.ask()
            await quiet(guest)
            await guest.write(b"cmdX")
            _, answer = await guest.end_of(number)
            assert b"no firmware to verify" in answer
            number = guest.ask()
            await guest.write(b"cmdv")
            assert ReplyParser().feed((await guest.end_of(number))[1]) == [VersionReply(3)]

        assert not broker.drawn_bytes
        assert door.refusals == 2

    asyncio.run(story())


def test_who_waits_for_bytes_and_goes_is_drawn_nothing_for(folder: Path) -> None:
    """A waiting draw is dropped with its requests, and repeated later."""

    async def story() -> None:
        gate = asyncio.Event()
        broker = FakeBroker(gate=gate)
        door = door_at(folder, broker)
        async with serving(door), guest_at(door) as guest:
            await guest.open()
            await guest.write(b"cmdO")
            for end in (guest.cancel, lambda _: guest.close_terminal()):
                number = guest.ask()
                await broker.until_waiting(1)
                if waits := end(number):
                    await waits
                await broker.until_waiting(0)
            await guest.open()
            await broker.until_waiting(1)
            gate.set()
            status, data = await guest.end_of(number)

        assert (status, len(data)) == (0, 128)
        assert broker.drawn_bytes == {"guest1": 128}

    asyncio.run(story())


def test_a_guest_above_its_quota_waits_and_the_other_does_not(folder: Path) -> None:
    """A guest over its quota waits silently, then resumes; another streams."""

    async def story() -> None:
        allowed = False

        def refuse(consumer: str, _: int) -> DrawwellError | None:
            return (
                QuotaExceeded("enough", retry_after_s=0.01) if consumer == "guest1" and not allowed else None
            )

        broker = Pool(refuse=refuse)
        doors = door_at(folder, broker), door_at(folder, broker, "guest2")
        async with serving(*doors), guest_at(doors[0]) as first, guest_at(doors[1]) as second:
            for guest in (first, second):
                await guest.open()
                await guest.write(b"cmdO")
            number = first.ask()
            data = await second.read(10_000)
            assert broker.granted.keys() == {"guest2"}
            allowed = True
            status, late = await first.end_of(number)

        assert (status, late) == (0, broker.granted["guest1"])
        assert late not in data

    asyncio.run(story())


def test_two_guests_get_bytes_of_their_own(folder: Path) -> None:
    """Every byte goes to one guest, and the ledger has the sums."""

    async def story() -> None:
        bench = Workbench(
            rules=Rules("bench", min_sources=0), terms={"guest1": UNLIMITED, "guest2": UNLIMITED}
        )
        bench.put(os.urandom(8192))
        doors = door_at(folder, bench.broker), door_at(folder, bench.broker, "guest2")
        got = []
        async with bench.run(), serving(*doors), guest_at(doors[0]) as first, guest_at(doors[1]) as second:
            for guest in (first, second):
                await guest.open()
                await guest.write(b"cmdO")
                numbers = [guest.ask(64) for _ in range(16)]
                got.append(b"".join([(await guest.end_of(number))[1] for number in numbers]))

            reports = [await bench.broker.consumer_report(name) for name in ("guest1", "guest2")]

        pieces = [each[at : at + 64] for each in got for at in range(0, 1024, 64)]
        assert len(set(pieces)) == 32
        assert [report and report.full_bytes for report in reports] == [1024, 1024]

    asyncio.run(story())


def test_a_consumer_that_is_refused_has_a_silent_stick(folder: Path) -> None:
    """A guest without permission to draw stays connected but gets no bytes."""

    async def story() -> None:
        refused = asyncio.Event()

        def refuse(_: str, __: int) -> DrawwellError:
            refused.set()
            return PermissionRefused("revoked")

        door = door_at(folder, FakeBroker(refuse=refuse))
        async with serving(door), guest_at(door) as guest:
            await guest.open()
            await guest.write(b"cmdO")
            guest.ask()
            await refused.wait()
            await quiet(guest)
            assert (guest.plugged, door.sessions) == (True, 1)

    asyncio.run(story())


def test_unplug_and_replug(folder: Path) -> None:
    """After unplug and replug it is paused as at power-on, still connected."""

    async def story() -> None:
        broker = FakeBroker()
        door = door_at(folder, broker)
        async with serving(door), guest_at(door) as guest:
            await guest.open()
            await guest.write(b"cmdO")
            await guest.end_of(guest.ask())
            door.unplug()
            await guest.until_plugged(plugged=False)
            door.replug()
            await guest.until_plugged()
            await guest.open()
            drawn = dict(broker.drawn_bytes)
            number = guest.ask()
            await quiet(guest)
            assert broker.drawn_bytes == drawn, "it is paused"
            await guest.write(b"cmdO")
            assert (await guest.end_of(number))[0] == 0
            assert door.counts.accepted == 1

    asyncio.run(story())


def test_a_guest_that_comes_while_it_is_out_sees_nothing(folder: Path) -> None:
    """A guest does not see an unplugged stick before it is plugged in."""

    async def story() -> None:
        door = door_at(folder, FakeBroker())
        async with serving(door):
            door.unplug()
            guest = await UsbGuest.at(door.address)
            await until(lambda: door.sessions, "it came")
            door.replug()
            async with asyncio.timeout(DEADLINE_S):
                await guest.until_plugged()
            await guest.aclose()

    asyncio.run(story())


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        redir.hello() + packet(12, 1, b"12345"),
        redir.hello() + bulk_packet(1, BULK_OUT, 10**6),
        redir.hello() + b"".join(bulk_packet(n, BULK_IN, 64) for n in range(1000)),
    ],
)
def test_a_peer_with_another_protocol_is_disconnected(folder: Path, data: bytes) -> None:
    """The peer is counted and disconnected; the door continues."""

    async def story() -> None:
        door = door_at(folder, FakeBroker())
        async with serving(door), guest_at(door) as good:
            reader, writer = await asyncio.open_unix_connection(door.address)
            writer.write(data)
            async with asyncio.timeout(DEADLINE_S):
                with contextlib.suppress(ConnectionError):
                    await reader.read()
            writer.close()
            await until(lambda: door.counts.protocol_errors == 1, "it was counted")
            await good.open()

    asyncio.run(story())


def test_the_socket_has_its_configured_mode(folder: Path) -> None:
    """The socket has the configured mode, and is removed with the door."""

    async def story() -> None:
        async with serving(door):
            assert os.stat(door.address).st_mode & 0o777 == 0o600

    door = door_at(folder, FakeBroker(), mode=0o600)
    asyncio.run(story())
    assert not os.path.exists(door.address)
