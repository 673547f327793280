"""The Unix-socket door over real sockets, with good peers and bad ones."""

import asyncio
import os
import socket
import stat
import tempfile
from pathlib import Path

import pytest

from drawwell.authorisation import DoorKind
from drawwell.doors.door import Limits
from drawwell.doors.unix import UnixDoor
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import ConfigError, DrawRefused, LinkUnavailable, PermissionRefused, Starved, UsageError
from drawwell.links.unix import UnixLink
from drawwell.testing.waiting import DEADLINE_S
from drawwell.wire.frames import Bye, Call, Draw, Frame, Granted, Hello, Refusal, Result, Welcome
from drawwell.wire.limits import MAX_OPEN_REQUESTS
from drawwell.wire.parser import FrameParser
from support.fake_broker import FakeBroker
from support.serving import serving

ANY = {kind.TYPE: kind for kind in (Welcome, Granted, Refusal, Result, Bye)}
NOBODY = 65534


def named(uid: int, gid: int, pid: int) -> str:
    return f"uid{uid}"


async def greeted(door: UnixDoor) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a raw session."""
    reader, writer = await asyncio.open_unix_connection(door.path)
    writer.write(Hello((1,)).encode())
    assert isinstance(await heard(reader), Welcome)
    return reader, writer


async def heard(reader: asyncio.StreamReader) -> Frame:
    """Read one frame."""
    head = await reader.readexactly(4)
    parser = FrameParser()
    parser.feed(head + await reader.readexactly(int.from_bytes(head[1:], "big")))
    frame = parser.next_frame(ANY)
    assert frame is not None
    return frame


async def _send_for_ever(peer: socket.socket, data: bytes) -> None:
    while True:
        await asyncio.get_running_loop().sock_sendall(peer, data)


async def drained(reader: asyncio.StreamReader) -> bytes:
    """Read until the door has closed."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""


def test_peer_draws_under_the_name_that_the_kernel_vouches_for(tmp_path: Path) -> None:
    """The consumer is who SO_PEERCRED says; each draw gives other bytes."""
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
    """From one byte to the largest draw, in both classes, with a receipt and without."""

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


def test_peer_that_nobody_knows_is_told_so_and_closed(tmp_path: Path) -> None:
    """The client raises PermissionRefused with the broker's hint."""

    def nobody(uid: int, gid: int, pid: int) -> str:
        raise PermissionRefused("nobody knows uid 4711", hint="Name it in the configuration.")

    async def run() -> None:
        door = UnixDoor(str(tmp_path / "draw"), FakeBroker(), nobody)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            with pytest.raises(PermissionRefused, match="4711") as caught:
                await UnixLink(door.path).draw(32, DrawClass.FULL)
            assert caught.value.hint == "Name it in the configuration."
            assert door.counts.admitted == 0

    asyncio.run(run())


def test_refusal_by_the_broker_is_raised_at_the_client_and_the_session_goes_on(tmp_path: Path) -> None:
    """Starved comes through with its time; the next draw is served on the same session."""
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
    """A call by the broker's own uid is the owner's on the control socket, and a consumer's elsewhere."""
    broker = FakeBroker()

    async def run() -> None:
        door = UnixDoor(str(tmp_path / "draw"), broker, lambda *ids: "me", way=way)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            link = UnixLink(door.path)
            await link.call("status", {"a": [1]})
            with pytest.raises(UsageError, match="no control verb"):
                await link.call("nonsense", {})
            with pytest.raises(UsageError, match="larger than 1 MiB"):
                await link.call("receipt-key", {})
            with pytest.raises(UsageError, match="too long"):
                await link.call("status", {"a": "x" * 17000})
            await link.aclose()

    asyncio.run(run())
    assert broker.calls[0] == ("owner" if way is DoorKind.CONTROL else "consumer:me", "status", {"a": [1]})


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
@pytest.mark.parametrize(
    ("way", "verb", "answered"),
    [(DoorKind.CONTROL, "status", True), (DoorKind.LINK, "status", True), (DoorKind.UNIX, "status", False),
     (DoorKind.CONTROL, "source.command", False), (DoorKind.LINK, "draw", False)],
)  # fmt: skip
def test_whom_the_permissions_let_in_observes_and_no_more(way: DoorKind, verb: str, answered: bool) -> None:
    """Nobody's user gets the status of a socket that he may open, neither bytes nor the owner's verbs."""
    broker = FakeBroker()

    def nobody(*_ids: int) -> str:
        raise PermissionRefused("no consumer here is that")

    async def run(folder: str) -> Frame:
        os.chmod(folder, 0o755)
        door = UnixDoor(f"{folder}/draw", broker, nobody, mode=0o666, way=way)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            peer = socket.socket(socket.AF_UNIX)
            os.seteuid(NOBODY)
            try:
                peer.connect(door.path)
            finally:
                os.seteuid(0)
            reader, writer = await asyncio.open_unix_connection(sock=peer)
            writer.write(Hello((1,)).encode())
            first = await heard(reader)
            if isinstance(first, Welcome):
                request = Draw(1, DrawClass.FULL, request_id=1) if verb == "draw" else Call(1, verb, {})
                writer.write(request.encode())
                first = await heard(reader)
            writer.close()
            return first

    with tempfile.TemporaryDirectory(prefix="dw-") as folder:
        assert isinstance(asyncio.run(run(folder)), Result if answered else Refusal)
    assert broker.calls == ([("observer", verb, {})] if answered else [])


def test_socket_file_has_its_mode_and_goes_with_the_door(tmp_path: Path) -> None:
    """The file exists with the permissions asked for while the door is open, and not afterwards."""
    path = tmp_path / "draw"

    async def run() -> None:
        async with serving(UnixDoor(str(path), FakeBroker(), named, mode=0o620)):
            assert stat.S_IMODE(path.stat().st_mode) == 0o620

    asyncio.run(run())
    assert not path.exists()


def test_socket_file_of_a_dead_process_is_replaced(tmp_path: Path) -> None:
    """What a crash left behind does not keep the next start from listening."""
    path = tmp_path / "draw"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async def run() -> None:
        async with serving(UnixDoor(str(path), FakeBroker(), named)), asyncio.timeout(DEADLINE_S):
            link = UnixLink(str(path))
            await link.draw(1, DrawClass.FULL)
            await link.aclose()

    asyncio.run(run())


def test_socket_on_which_somebody_answers_is_left_alone(tmp_path: Path) -> None:
    """A second broker is refused with a hint, and the first goes on."""
    path = str(tmp_path / "draw")

    async def run() -> None:
        async with serving(UnixDoor(path, FakeBroker(), named)), asyncio.timeout(DEADLINE_S):
            with pytest.raises(ConfigError, match="answers") as caught:
                await UnixDoor(path, FakeBroker(), named).serve()
            assert caught.value.hint
            link = UnixLink(path)
            await link.draw(1, DrawClass.FULL)
            await link.aclose()

    asyncio.run(run())


def test_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    """A path that was mistyped destroys nothing."""
    path = tmp_path / "notes.txt"
    path.write_text("mine")

    with pytest.raises(ConfigError, match="no socket"):
        asyncio.run(UnixDoor(str(path), FakeBroker(), named).serve())
    assert path.read_text() == "mine"


def test_directory_that_is_not_there_is_a_configuration_error(tmp_path: Path) -> None:
    """The error names the path."""
    path = str(tmp_path / "nowhere" / "draw")

    with pytest.raises(ConfigError, match="nowhere"):
        asyncio.run(UnixDoor(path, FakeBroker(), named).serve())


def test_listener_that_was_handed_in_is_used_and_its_file_kept(tmp_path: Path) -> None:
    """Socket activation: somebody else made the socket, and keeps it."""
    path = tmp_path / "activated"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    listener.setblocking(False)

    async def run() -> None:
        door = UnixDoor("unused", FakeBroker(), named)
        door.listeners = [listener]
        async with serving(door), asyncio.timeout(DEADLINE_S):
            assert door.address == str(path)
            link = UnixLink(str(path))
            await link.draw(1, DrawClass.FULL)
            await link.aclose()

    asyncio.run(run())
    assert path.exists()


def test_garbage_ends_in_a_goodbye_with_the_reason(tmp_path: Path) -> None:
    """The door says what was wrong, closes, and counts it."""

    async def run() -> None:
        door = UnixDoor(str(tmp_path / "draw"), FakeBroker(), named)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            reader, writer = await greeted(door)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert await heard(reader) == Bye("frame type 0x47 is not expected here")
            assert await drained(reader) == b""
            assert door.counts.protocol_errors == 1
            writer.close()

    asyncio.run(run())


@pytest.mark.parametrize("first", [b"", b"\x01", b"\x01\x00\x00\x02\x01"], ids=["silent", "type", "half"])
def test_peer_that_does_not_greet_in_time_is_closed(tmp_path: Path, first: bytes) -> None:
    """Silence or half a hello ends at the handshake's deadline."""

    async def run() -> None:
        limits = Limits(handshake_deadline_s=0.05)  # short: the time is the fact
        door = UnixDoor(str(tmp_path / "draw"), FakeBroker(), named, limits=limits)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            reader, writer = await asyncio.open_unix_connection(door.path)
            writer.write(first)
            assert await drained(reader) == b""
            assert (door.counts.overdue, door.half_open) == (1, 0)
            writer.close()

    asyncio.run(run())


def test_half_a_frame_ends_at_the_frames_deadline_and_silence_does_not(tmp_path: Path) -> None:
    """A session may be idle; one that stops within a frame is closed."""

    async def run() -> None:
        limits = Limits(frame_deadline_s=0.05)  # short: the time is the fact
        door = UnixDoor(str(tmp_path / "draw"), FakeBroker(), named, limits=limits)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            idle = UnixLink(door.path)
            await idle.welcome()
            reader, writer = await greeted(door)
            writer.write(Draw(32, DrawClass.FULL, request_id=1).encode()[:9])
            assert await drained(reader) == b""
            assert (door.counts.overdue, door.sessions) == (1, 1)
            await idle.draw(32, DrawClass.FULL)
            await idle.aclose()
            writer.close()

    asyncio.run(run())


def test_idle_deadline_closes_a_peer_that_says_nothing(tmp_path: Path) -> None:
    """Where the operator sets one, silence ends the session."""

    async def run() -> None:
        # short: the time is the fact
        door = UnixDoor(str(tmp_path / "draw"), FakeBroker(), named, limits=Limits(idle_deadline_s=0.05))
        async with serving(door), asyncio.timeout(DEADLINE_S):
            reader, writer = await greeted(door)
            assert await drained(reader) == b""
            writer.close()

    asyncio.run(run())


def test_peer_that_asks_and_never_reads_is_bounded_and_closed(tmp_path: Path) -> None:
    """Ten thousand large draws unread: a few are taken, others are served meanwhile, then it is closed."""
    broker = FakeBroker()

    async def run() -> None:
        # short: the time is the fact
        door = UnixDoor(str(tmp_path / "draw"), broker, named, limits=Limits(write_deadline_s=0.2))
        async with serving(door), asyncio.timeout(DEADLINE_S):
            greedy = socket.socket(socket.AF_UNIX)
            greedy.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(greedy, door.path)
            await loop.sock_sendall(greedy, Hello((1,)).encode())
            asked = b"".join(Draw(65536, DrawClass.DRBG, request_id=n).encode() for n in range(1, 10_000))
            link = UnixLink(door.path)
            with pytest.raises(ConnectionError):
                await _send_for_ever(greedy, asked)
            await link.draw(32, DrawClass.FULL)
            assert door.counts.overdue == 1
            await link.aclose()
            greedy.close()

    asyncio.run(run())
    assert broker.serial < 200


def test_draws_that_wait_are_answered_as_they_come(tmp_path: Path) -> None:
    """Many draws wait at the broker at once, on one session, and all are answered."""

    async def run() -> None:
        gate = asyncio.Event()
        broker = FakeBroker(gate=gate)
        door = UnixDoor(str(tmp_path / "draw"), broker, named)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            link = UnixLink(door.path)
            async with asyncio.TaskGroup() as tasks:
                waiting = [tasks.create_task(link.draw(32, DrawClass.FULL)) for _ in range(200)]
                await broker.until_waiting(MAX_OPEN_REQUESTS)
                gate.set()
            assert len({task.result().data for task in waiting}) == 200
            await link.aclose()

    asyncio.run(run())


def test_large_draws_that_wait_are_begun_four_at_a_time(tmp_path: Path) -> None:
    """What one peer can have in the making is bounded by bytes, not only by requests."""

    async def run() -> None:
        gate = asyncio.Event()
        broker = FakeBroker(gate=gate)
        door = UnixDoor(str(tmp_path / "draw"), broker, named)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            reader, writer = await greeted(door)
            writer.write(b"".join(Draw(65536, DrawClass.DRBG, request_id=n).encode() for n in range(1, 9)))
            other = UnixLink(door.path)
            await broker.until_waiting(4)
            await other.welcome()
            assert broker.waiting == 4
            gate.set()
            ids = {(await heard(reader)).request_id for _ in range(8)}  # type: ignore[attr-defined]
            assert ids == set(range(1, 9))
            await other.aclose()
            writer.close()

    asyncio.run(run())


def test_what_waits_for_a_peer_that_left_is_dropped(tmp_path: Path) -> None:
    """A draw whose consumer has gone does not go on waiting."""

    async def run() -> None:
        broker = FakeBroker(gate=asyncio.Event())
        door = UnixDoor(str(tmp_path / "draw"), broker, named)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            _, writer = await greeted(door)
            writer.write(Draw(32, DrawClass.FULL, request_id=1).encode())
            await broker.until_waiting(1)
            writer.close()
            await broker.until_waiting(0)
            assert (broker.serial, door.sessions) == (0, 0)

    asyncio.run(run())


def test_nothing_more_is_drawn_for_a_peer_that_has_gone(tmp_path: Path) -> None:
    """Of the draws that a peer asked for before it left, only those are made that come before its absence shows."""
    broker = FakeBroker()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        door = UnixDoor(str(tmp_path / "draw"), broker, named)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(door.path)
                peer.setblocking(False)
                await loop.sock_sendall(peer, Hello((1,)).encode())
                await loop.sock_recv(peer, 100)
                peer.send(b"".join(Draw(65536, DrawClass.FULL, request_id=n).encode() for n in range(1, 65)))
            link = UnixLink(door.path)
            await link.draw(1, DrawClass.FULL)
            await link.aclose()

    asyncio.run(run())
    assert broker.serial <= 1 + 3


def test_one_open_request_too_many_ends_the_session(tmp_path: Path) -> None:
    """The sixty-fifth request that waits is a breach of the protocol; the waiting ones are dropped."""

    async def run() -> None:
        broker = FakeBroker(gate=asyncio.Event())
        door = UnixDoor(str(tmp_path / "draw"), broker, named)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            reader, writer = await greeted(door)
            writer.write(b"".join(Draw(1, DrawClass.FULL, request_id=n).encode() for n in range(1, 66)))
            assert await heard(reader) == Bye("more than 64 open requests")
            assert await drained(reader) == b""
            await broker.until_waiting(0)
            writer.close()

    asyncio.run(run())


def test_requests_before_the_end_of_the_peers_words_are_answered(tmp_path: Path) -> None:
    """A peer that sends everything and then half-closes gets its answers (printf … | socat)."""

    async def run() -> None:
        door = UnixDoor(str(tmp_path / "draw"), FakeBroker(), named)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            reader, writer = await asyncio.open_unix_connection(door.path)
            writer.write(Hello((1,)).encode() + Draw(32, DrawClass.FULL, request_id=1).encode())
            writer.write_eof()
            assert isinstance(await heard(reader), Welcome)
            assert isinstance(await heard(reader), Granted)
            writer.close()

    asyncio.run(run())


def test_door_that_closes_says_goodbye(tmp_path: Path) -> None:
    """An idle client learns the reason, and its next draw raises LinkUnavailable."""

    async def run() -> None:
        door = UnixDoor(str(tmp_path / "draw"), FakeBroker(), named)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            reader, writer = await greeted(door)
            link = UnixLink(door.path)
            await link.draw(1, DrawClass.FULL)
        assert await heard(reader) == Bye("the broker is closing")
        with pytest.raises(LinkUnavailable) as caught:
            await link.draw(1, DrawClass.FULL)
        assert caught.value.hint
        writer.close()

    asyncio.run(run())


def test_link_opens_itself_again_after_a_loss(tmp_path: Path) -> None:
    """A broker that was restarted serves the same link; no draw is sent twice."""
    broker = FakeBroker()

    async def run() -> None:
        link = UnixLink(str(tmp_path / "draw"))
        for _ in range(2):
            async with serving(UnixDoor(link.name, broker, named)), asyncio.timeout(DEADLINE_S):
                await link.draw(32, DrawClass.FULL)
        await link.aclose()

    asyncio.run(run())
    assert broker.serial == 2


def test_answer_that_does_not_come_is_lost_and_the_link_given_up(tmp_path: Path) -> None:
    """After its deadline the draw raises LinkUnavailable; it was asked once."""

    async def run() -> None:
        broker = FakeBroker(gate=asyncio.Event())
        door = UnixDoor(str(tmp_path / "draw"), broker, named)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            link = UnixLink(door.path, answer_deadline_s=0.05)  # short: the time is the fact
            with pytest.raises(LinkUnavailable, match="no answer"):
                await link.draw(32, DrawClass.FULL)
            assert door.counts.accepted == 1
            await link.aclose()

    asyncio.run(run())


def test_broker_that_never_welcomes_is_given_up(tmp_path: Path) -> None:
    """A listener that accepts and says nothing is an unavailable broker, not a hang."""
    path = str(tmp_path / "mute")

    async def run() -> None:
        with socket.socket(socket.AF_UNIX) as mute:
            mute.bind(path)
            mute.listen()
            async with asyncio.timeout(DEADLINE_S):
                with pytest.raises(LinkUnavailable, match="no welcome"):
                    # short: the time is the fact
                    await UnixLink(path, open_deadline_s=0.05).draw(32, DrawClass.FULL)

    asyncio.run(run())


def test_broker_that_is_not_there_is_unavailable_with_a_hint(tmp_path: Path) -> None:
    """No socket file: the error names it."""
    with pytest.raises(LinkUnavailable, match="nothing") as caught:
        asyncio.run(UnixLink(str(tmp_path / "nothing")).draw(32, DrawClass.FULL))
    assert caught.value.hint


def test_bytes_of_a_draw_that_was_given_up_go_to_nobody(tmp_path: Path) -> None:
    """A cancelled draw's answer is dropped; the next draw gets its own bytes on the same session."""

    async def run() -> None:
        gate = asyncio.Event()
        broker = FakeBroker(gate=gate)
        door = UnixDoor(str(tmp_path / "draw"), broker, named)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            link = UnixLink(door.path)
            async with asyncio.TaskGroup() as tasks:
                given_up = tasks.create_task(link.draw(32, DrawClass.FULL))
                await broker.until_waiting(1)
                given_up.cancel()
            gate.set()
            grant = await link.draw(32, DrawClass.FULL)
            assert (grant.serial, door.counts.accepted) == (2, 1)
            await link.aclose()

    asyncio.run(run())
