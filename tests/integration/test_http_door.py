"""The HTTP door on a socket file and loopback: rights and limits."""

import asyncio
import json
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from drawwell.doors.door import Limits
from drawwell.doors.http import HttpDoor
from drawwell.errors import ConfigError, PermissionRefused, QuotaExceeded
from drawwell.testing.waiting import DEADLINE_S, until
from drawwell.wire.http_session import MAX_HEAD_BYTES
from support.fake_broker import FakeBroker
from support.serving import serving

HOST = b" HTTP/1.1\r\nHost: x\r\n\r\n"


class House:
    """A door on a socket, its broker, and its peers' identities."""

    def __init__(self, folder: Path, broker: FakeBroker | None = None, limits: Limits = Limits()) -> None:  # noqa: B008
        self.broker = broker or FakeBroker()
        self.broker.results["status"] = {"ready": True, "not_ready_because": ""}
        self.consumer = "web01"
        self.path = folder / "http.sock"
        self.door = HttpDoor(str(self.path), self.broker, self.identify, limits=limits)

    def identify(self, _uid: int, _gid: int, _pid: int) -> str:
        if not self.consumer:
            raise PermissionRefused("not a consumer", hint="Become a consumer.")
        return self.consumer

    def run(self, story: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]) -> None:
        async def run() -> None:
            async with serving(self.door), asyncio.timeout(DEADLINE_S):
                reader, writer = await asyncio.open_unix_connection(self.path)
                await story(reader, writer)
                writer.close()

        asyncio.run(run())


async def answer(reader: asyncio.StreamReader, *, head: bool = False) -> tuple[int, dict[str, str], bytes]:
    """Return the next answer: status, header fields, body."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines[1:] if line)
    length = 0 if head else int(fields["Content-Length"])
    return int(lines[0].split()[1]), fields, await reader.readexactly(length)


def test_connection_is_kept_and_pipelined_requests_are_answered_in_order(tmp_path) -> None:
    """Pipelined requests are answered in order, and each draws once."""
    house = House(tmp_path)

    async def story(reader, writer) -> None:
        writer.write(b"".join(b"GET /v1/draw?bytes=8" + HOST for _ in range(200)))
        serials = [int((await answer(reader))[1]["Drawwell-Serial"]) for _ in range(200)]
        assert serials == list(range(1, 201))
        writer.write(b"GET /v1/draw?bytes=8" + HOST)
        assert (await answer(reader))[2] == (201).to_bytes(8, "big")

    house.run(story)
    assert house.broker.drawn_bytes == {"web01": 201 * 8}


def test_head_draws_nothing(tmp_path) -> None:
    """HEAD for a draw is refused, and no bytes are taken."""
    house = House(tmp_path)

    async def story(reader, writer) -> None:
        writer.write(b"HEAD /v1/draw" + HOST + b"GET /v1/draw?bytes=8" + HOST)
        assert (await answer(reader, head=True))[0] == 405
        assert (await answer(reader))[0] == 200

    house.run(story)
    assert house.broker.drawn_bytes == {"web01": 8}


def test_nothing_is_to_be_stored(tmp_path) -> None:
    """All answers forbid caching."""

    async def story(reader, writer) -> None:
        for target in (b"/v1/draw", b"/nowhere", b"/readyz", b"/healthz"):
            writer.write(b"GET " + target + HOST)
            assert (await answer(reader))[1]["Cache-Control"] == "no-store"

    House(tmp_path).run(story)


def test_revocation_holds_on_an_open_connection(tmp_path) -> None:
    """A peer that is no longer a consumer gets 403 and is disconnected."""
    house = House(tmp_path)

    async def story(reader, writer) -> None:
        writer.write(b"GET /v1/draw" + HOST)
        assert (await answer(reader))[0] == 200
        house.consumer = ""
        writer.write(b"GET /v1/draw" + HOST)
        status, _, body = await answer(reader)
        assert (status, json.loads(body)["hint"]) == (403, "Become a consumer.")
        assert await reader.read() == b""

    house.run(story)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"/v1/draw", 403),
        (b"/v1/status", 403),
        (b"/healthz", 200),
        (b"/readyz", 200),
        (b"/openapi.json", 200),
    ],
)
def test_stranger_may_ask_what_is_public_once(tmp_path, target: bytes, status: int) -> None:
    """Other peers can only read public paths, one per connection."""
    house = House(tmp_path)
    house.consumer = ""

    async def story(reader, writer) -> None:
        writer.write(b"GET " + target + HOST + b"GET " + target + HOST)
        assert (await answer(reader))[0] == status
        assert await reader.read() == b""

    house.run(story)
    assert house.broker.drawn_bytes == {}


def test_what_waits_does_not_hold_others_and_is_dropped_with_its_peer(tmp_path) -> None:
    """A waiting draw delays no other connection and ends with its peer."""
    gate = asyncio.Event()
    house = House(tmp_path, FakeBroker(gate=gate))

    async def story(reader, writer) -> None:
        writer.write(b"GET /v1/draw?wait=5" + HOST)
        await house.broker.until_waiting(1)
        other_reader, other_writer = await asyncio.open_unix_connection(house.path)
        other_writer.write(b"GET /healthz" + HOST)
        assert (await answer(other_reader))[0] == 200
        other_writer.close()
        writer.close()
        await house.broker.until_waiting(0)

    house.run(story)
    assert house.broker.drawn_bytes == {}


def test_answer_that_waited_comes_and_the_connection_goes_on(tmp_path) -> None:
    """Requests behind a waiting draw are answered after it."""
    gate = asyncio.Event()
    house = House(tmp_path, FakeBroker(gate=gate))

    async def story(reader, writer) -> None:
        writer.write(b"GET /v1/draw?bytes=8" + HOST + b"GET /healthz" + HOST)
        await house.broker.until_waiting(1)
        gate.set()
        assert [(await answer(reader))[2] for _ in range(2)] == [(1).to_bytes(8, "big"), b"running\n"]

    house.run(story)


def test_peer_is_not_read_beyond_a_bound_while_its_draw_waits(tmp_path) -> None:
    """Requests behind a waiting one stay in the peer's buffers."""
    gate = asyncio.Event()
    house = House(tmp_path, FakeBroker(gate=gate))

    async def story(reader, writer) -> None:
        writer.write(b"GET /v1/draw?bytes=8" + HOST)
        await house.broker.until_waiting(1)
        writer.transport.set_write_buffer_limits(high=0)
        writer.write((b"GET /healthz" + HOST) * 100_000)
        (connection,) = house.door._sessions or house.door._half_open
        await until(lambda: connection._conversation.stalled, "it stalls")
        assert connection._transport.is_reading() is False
        gate.set()
        for _ in range(1000):
            assert (await answer(reader))[0] == 200

    house.run(story)


def test_refused_draw_leaves_the_connection_open(tmp_path) -> None:
    """Beyond the quota: 429 with a time; the next request is answered."""
    house = House(
        tmp_path, FakeBroker(refuse=lambda *_: QuotaExceeded("spent", retry_after_s=2.5, hint="Wait."))
    )

    async def story(reader, writer) -> None:
        writer.write(b"GET /v1/draw" + HOST + b"GET /healthz" + HOST)
        status, fields, body = await answer(reader)
        assert (status, fields["Retry-After"], json.loads(body)["retry_after_s"]) == (429, "3", 2.5)
        assert (await answer(reader))[0] == 200

    house.run(story)


# ---- bounds


@pytest.mark.parametrize("piece", [b"", b"GET /hea", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_peer_that_never_asks_is_dropped(tmp_path, piece: bytes) -> None:
    """The first request has the handshake deadline, even byte by byte."""
    house = House(tmp_path, limits=Limits(handshake_deadline_s=0.05))  # short: the time is the fact

    async def story(reader, writer) -> None:
        writer.write(piece)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await answer(reader)

    house.run(story)
    assert house.door.counts.overdue == 1


@pytest.mark.parametrize(
    "piece", [b"GET /hea", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nchal"]
)
def test_consumer_that_drips_is_dropped(tmp_path, piece: bytes) -> None:
    """A consumer with an incomplete request is disconnected, too."""
    house = House(tmp_path, limits=Limits(frame_deadline_s=0.05))  # short: the time is the fact

    async def story(reader, writer) -> None:
        writer.write(b"GET /v1/draw" + HOST)
        assert (await answer(reader))[0] == 200
        writer.write(piece)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await answer(reader)

    house.run(story)
    assert house.door.counts.overdue == 1


def test_reader_that_does_not_read_is_dropped(tmp_path) -> None:
    """A peer that does not read is disconnected, and draws no more."""
    house = House(tmp_path, limits=Limits(write_deadline_s=0.2))  # short: the time is the fact

    async def story(_reader, writer) -> None:
        _reader._transport.pause_reading()
        writer.write((b"GET /v1/draw?bytes=65536" + HOST) * 1000)
        await until(lambda: house.door.counts.overdue == 1, "it is dropped")

    house.run(story)
    assert house.broker.serial < 100


def test_endless_head_is_answered_and_cut_off(tmp_path) -> None:
    """An oversized head gets 431 and a close, and counts as a violation."""
    house = House(tmp_path)

    async def story(reader, writer) -> None:
        writer.write(b"GET /healthz HTTP/1.1\r\nX: " + b"x" * MAX_HEAD_BYTES)
        assert (await answer(reader))[0] == 431
        assert await reader.read() == b""

    house.run(story)
    assert house.door.counts.protocol_errors == 1


# ---- probes


@pytest.mark.parametrize(("ready", "status"), [(True, 200), (False, 503)])
def test_probe_on_loopback_needs_no_name(ready: bool, status: int) -> None:
    """On loopback every user can read readiness, but cannot draw."""
    broker = FakeBroker()
    broker.results["status"] = {
        "ready": ready,
        "not_ready_because": "" if ready else "0 of 1 sources healthy",
    }

    async def run() -> None:
        door = HttpDoor("127.0.0.1:0", broker)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            for target, expected in ((b"/readyz", status), (b"/healthz", 200), (b"/v1/draw", 403)):
                reader, writer = await asyncio.open_connection("127.0.0.1", int(door.address.split(":")[1]))
                writer.write(b"GET " + target + HOST)
                assert (await answer(reader))[0] == expected
                writer.close()

    asyncio.run(run())
    assert broker.drawn_bytes == {}
    assert {peer for peer, _, _ in broker.calls} == {"consumer:"}


@pytest.mark.skipif(shutil.which("socat") is None, reason="socat is not installed")
def test_socket_file_serves_socat_and_goes_with_the_door(tmp_path: Path) -> None:
    """A probe without an HTTP client works on the socket file."""
    house = House(tmp_path)
    command = ["socat", "-", f"UNIX-CONNECT:{house.path}"]

    async def run() -> bytes:
        async with serving(house.door), asyncio.timeout(DEADLINE_S):
            assert stat.S_IMODE(house.path.stat().st_mode) == 0o666
            done = await asyncio.to_thread(
                subprocess.run,
                command,
                input=b"GET /readyz HTTP/1.0\r\n\r\n",
                capture_output=True,
                check=True,
            )
            return done.stdout

    assert asyncio.run(run()).startswith(b"HTTP/1.1 200 ")
    assert not house.path.exists()


@pytest.mark.parametrize(
    "where",
    [
        "0.0.0.0:80", "*:80", ":80", "192.0.2.1:80", "[::]:80", "example.org:80", "127.0.0.1", "127.0.0.1:x",
        "[::1]:70000",
    ],
)  # fmt: skip
def test_address_beyond_loopback_is_a_configuration_error(where: str) -> None:
    """A door without client certificates listens only on loopback."""
    with pytest.raises(ConfigError) as caught:
        HttpDoor(where, FakeBroker())
    assert caught.value.hint


@pytest.mark.parametrize("where", ["127.0.0.1:0", "localhost:0"])
def test_loopback_is_listened_on(where: str) -> None:
    """Both spellings of loopback mean 127.0.0.1."""

    async def run() -> None:
        door = HttpDoor(where, FakeBroker())
        async with serving(door):
            assert door.address.startswith("127.0.0.1:")

    asyncio.run(run())
