"""The Unix door over real sockets: identities and draws."""

import asyncio
import os
import socket
import tempfile
from pathlib import Path

import pytest

from drawwell.authorisation import DoorKind
from drawwell.doors.unix import UnixDoor
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import DrawRefused, PermissionRefused, Starved, UsageError
from drawwell.links.unix import UnixLink
from drawwell.testing.waiting import DEADLINE_S
from drawwell.wire.frames import Bye, Call, Draw, Frame, Granted, Hello, Refusal, Result, Welcome
from support.fake_broker import FakeBroker
from support.serving import serving
from support.unix_sessions import drained, greeted, named, read_frame

OTHER_USER = 65534


def test_peer_draws_under_the_name_that_the_kernel_vouches_for(tmp_path: Path) -> None:
    """SO_PEERCRED identifies the consumer; each draw has new bytes."""
    broker = FakeBroker()
    seen = []

    def identify(uid: int, gid: int, pid: int) -> str:
        seen.append((uid, gid, pid))
        return "me"

    async def run() -> None:
        door = UnixDoor(str(tmp_path / "draw"), broker, identify, broker_name="attic")
        async with serving(door), asyncio.timeout(DEADLINE_S):
            link = UnixLink(door.address)
            assert (await link.welcome()).broker == "attic"
            grants = [await link.draw(32, DrawClass.FULL) for _ in range(10)]
            assert len({grant.data for grant in grants}) == 10
            await link.aclose()

    asyncio.run(run())
    assert broker.drawn_bytes == {"me": 320}
    assert set(seen) == {(os.getuid(), os.getgid(), os.getpid())}


def test_draws_of_every_size_arrive_whole(tmp_path: Path) -> None:
    """All sizes in both classes are complete, with and without a receipt."""

    async def run() -> None:
        door = UnixDoor(str(tmp_path / "draw"), FakeBroker(), named)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            link = UnixLink(door.path)
            for n_bytes in (1, 2, 31, 4096, 65535, 65536):
                for draw_class in DrawClass:
                    grant = await link.draw(n_bytes, draw_class, receipt=n_bytes % 2 == 0)
                    assert (len(grant.data), grant.draw_class) == (n_bytes, draw_class)
                    assert bool(grant.receipt) is bool(grant.receipt_key) is (n_bytes % 2 == 0)
            with pytest.raises(DrawRefused):
                await link.draw(65537, DrawClass.FULL)
            await link.aclose()

    asyncio.run(run())


def test_unknown_peer_is_refused_with_a_hint_and_closed(tmp_path: Path) -> None:
    """The client raises PermissionRefused with the broker's hint."""

    def unknown(uid: int, gid: int, pid: int) -> str:
        raise PermissionRefused("unknown uid 4711", hint="Name it in the configuration.")

    async def run() -> None:
        door = UnixDoor(str(tmp_path / "draw"), FakeBroker(), unknown)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            with pytest.raises(PermissionRefused, match="4711") as caught:
                await UnixLink(door.path).draw(32, DrawClass.FULL)
            assert caught.value.hint == "Name it in the configuration."
            assert door.counts.admitted == 0

    asyncio.run(run())


def test_refusal_by_the_broker_is_raised_at_the_client_and_the_session_goes_on(tmp_path: Path) -> None:
    """Starved arrives with its time, and the session serves the next draw."""
    answers = [Starved("empty", retry_after_s=2.5, estimate=True), None]

    async def run() -> None:
        broker = FakeBroker(refuse=lambda consumer, n_bytes: answers.pop(0))
        door = UnixDoor(str(tmp_path / "draw"), broker, named)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            link = UnixLink(door.path)
            with pytest.raises(Starved) as caught:
                await link.draw(32, DrawClass.FULL)
            assert (caught.value.retry_after_s, caught.value.estimate) == (2.5, True)
            await link.draw(32, DrawClass.FULL)
            assert door.counts.accepted == 1
            await link.aclose()

    asyncio.run(run())


@pytest.mark.parametrize("way", [DoorKind.UNIX, DoorKind.CONTROL])
def test_owner_is_owner_on_the_control_socket_only(tmp_path: Path, way: DoorKind) -> None:
    """The broker's own user is the owner only on the control socket."""
    broker = FakeBroker()

    async def run() -> None:
        door = UnixDoor(str(tmp_path / "draw"), broker, lambda *ids: "me", way=way)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            link = UnixLink(door.path)
            await link.call("status", {"a": [1]})
            with pytest.raises(UsageError, match="unknown control verb"):
                await link.call("nonsense", {})
            with pytest.raises(UsageError, match="larger than 1 MiB"):
                await link.call("receipt-key", {})
            with pytest.raises(UsageError, match="too long"):
                await link.call("status", {"a": "x" * 17000})
            await link.aclose()

    asyncio.run(run())
    assert broker.calls[0] == ("owner:me" if way is DoorKind.CONTROL else "consumer:me", "status", {"a": [1]})


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
@pytest.mark.parametrize(
    ("way", "verb", "answered"),
    [(DoorKind.CONTROL, "status", True), (DoorKind.LINK, "status", True), (DoorKind.UNIX, "status", False),
     (DoorKind.CONTROL, "source.command", False), (DoorKind.LINK, "draw", False)],
)  # fmt: skip
def test_whom_the_permissions_let_in_observes_and_no_more(way: DoorKind, verb: str, answered: bool) -> None:
    """A user without a role can only read the status."""
    broker = FakeBroker()

    def unknown(*_ids: int) -> str:
        raise PermissionRefused("no consumer here is that")

    async def run(folder: str) -> Frame:
        os.chmod(folder, 0o755)
        door = UnixDoor(f"{folder}/draw", broker, unknown, mode=0o666, way=way)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            peer = socket.socket(socket.AF_UNIX)
            os.seteuid(OTHER_USER)
            try:
                peer.connect(door.path)
            finally:
                os.seteuid(0)
            reader, writer = await asyncio.open_unix_connection(sock=peer)
            writer.write(Hello((1,)).encode())
            first = await read_frame(reader)
            if isinstance(first, Welcome):
                request = Draw(1, DrawClass.FULL, request_id=1) if verb == "draw" else Call(1, verb, {})
                writer.write(request.encode())
                first = await read_frame(reader)
            writer.close()
            return first

    with tempfile.TemporaryDirectory(prefix="dw-") as folder:
        assert isinstance(asyncio.run(run(folder)), Result if answered else Refusal)
    assert broker.calls == ([(f"observer:user-{OTHER_USER}", verb, {})] if answered else [])


def test_garbage_ends_in_a_goodbye_with_the_reason(tmp_path: Path) -> None:
    """The door sends the reason, closes, and counts it."""

    async def run() -> None:
        door = UnixDoor(str(tmp_path / "draw"), FakeBroker(), named)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            reader, writer = await greeted(door)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert await read_frame(reader) == Bye("unexpected frame type 0x47")
            assert await drained(reader) == b""
            assert door.counts.protocol_errors == 1
            writer.close()

    asyncio.run(run())


def test_requests_before_eof_are_answered(tmp_path: Path) -> None:
    """A peer that half-closes after requests (printf … | socat) is answered."""

    async def run() -> None:
        door = UnixDoor(str(tmp_path / "draw"), FakeBroker(), named)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            reader, writer = await asyncio.open_unix_connection(door.path)
            writer.write(Hello((1,)).encode() + Draw(32, DrawClass.FULL, request_id=1).encode())
            writer.write_eof()
            assert isinstance(await read_frame(reader), Welcome)
            assert isinstance(await read_frame(reader), Granted)
            writer.close()

    asyncio.run(run())
