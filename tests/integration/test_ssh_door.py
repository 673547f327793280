"""The SSH door's socket: right and wrong consumer lines."""

import asyncio
import os
from pathlib import Path

import pytest

from drawwell.doors.door import Limits
from drawwell.doors.ssh import MAX_LINE_BYTES, SshDoor
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import PermissionRefused
from drawwell.testing.waiting import DEADLINE_S
from drawwell.wire.frames import Bye, Draw, Frame, Granted, Hello, Refusal, Welcome
from drawwell.wire.parser import FrameParser
from support.fake_broker import FakeBroker
from support.serving import serving

SESSION = Hello((1,)).encode() + Draw(32, DrawClass.FULL, request_id=1).encode() + Bye().encode()


LONGEST = "x" * (MAX_LINE_BYTES - len(" SHA256:key"))


def identify(uid: int, name: str, key: str) -> str:
    if uid != os.geteuid() or name not in {"web01", "db01", LONGEST} or key != "SHA256:key":
        raise PermissionRefused(f"user ID {uid} does not speak for {name!r}")
    return name


def frames(data: bytes) -> list[Frame]:
    parser, found = FrameParser(), []
    parser.feed(data)
    while frame := parser.next_frame({kind.TYPE: kind for kind in (Welcome, Granted, Refusal, Bye)}):
        found.append(frame)
    return found


async def talk(door: SshDoor, *pieces: bytes) -> list[Frame]:
    """Send data in pieces; return all answers until the door closes."""
    reader, writer = await asyncio.open_unix_connection(door.path)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0)
    try:
        return frames(await reader.read())
    except ConnectionError:
        return []
    finally:
        writer.close()


@pytest.mark.parametrize("name", ["web01", "db01", LONGEST])
@pytest.mark.parametrize("whole", [True, False])
def test_first_line_names_the_consumer(folder: Path, name: str, *, whole: bool) -> None:
    """The session, and so the draw, is that consumer's."""
    said = name.encode() + b" SHA256:key\n" + SESSION

    async def run() -> None:
        broker = FakeBroker()
        door = SshDoor(str(folder / "ssh"), broker, identify)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            pieces = [said] if whole else [said[i : i + 1] for i in range(len(said))]
            welcome, grant, *_ = await talk(door, *pieces)
            assert isinstance(welcome, Welcome)
            assert welcome.consumer == name
            assert isinstance(grant, Granted)
            assert broker.drawn_bytes == {name: 32}

    asyncio.run(run())


@pytest.mark.parametrize("name", ["", "other", " web01", "web01\0", "\xff\xfe", "local"])
@pytest.mark.parametrize("key", ["", " ", " SHA256:other", " SHA256:key ", "  SHA256:key"])
def test_consumer_without_that_name_and_key_is_refused(folder: Path, name: str, key: str) -> None:
    """Only the exact name and key of an allowed consumer are accepted."""

    async def run() -> None:
        broker = FakeBroker()
        door = SshDoor(str(folder / "ssh"), broker, identify)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            answers = await talk(door, f"{name}{key}\n".encode("latin-1") + SESSION)
            assert [type(answer) for answer in answers] == [Refusal]
            assert broker.serial == 0

    asyncio.run(run())


@pytest.mark.parametrize(
    "said", [b"x" * (MAX_LINE_BYTES + 1), b"x" * (MAX_LINE_BYTES + 1) + b"\n" + SESSION, SESSION]
)
def test_what_is_no_line_ends_it(folder: Path, said: bytes) -> None:
    """A line that is too long, or frames instead of it, are refused at once."""

    async def run() -> None:
        # short: the time is the fact
        door = SshDoor(str(folder / "ssh"), FakeBroker(), identify, limits=Limits(handshake_deadline_s=0.1))
        async with serving(door), asyncio.timeout(DEADLINE_S):
            assert await talk(door, said) == []
            assert door.counts.admitted == 0

    asyncio.run(run())


def test_peer_that_names_no_consumer_is_dropped(folder: Path) -> None:
    """The line and the greeting must arrive within the handshake's deadline."""

    async def run() -> None:
        # short: the time is the fact
        door = SshDoor(str(folder / "ssh"), FakeBroker(), identify, limits=Limits(handshake_deadline_s=0.1))
        async with serving(door), asyncio.timeout(DEADLINE_S):
            assert await talk(door, b"web01\n") == []
            assert door.counts.overdue == 1

    asyncio.run(run())


def test_session_is_asked_for_its_right_at_each_request(folder: Path) -> None:
    """A consumer that is revoked meanwhile is refused at its next draw."""
    known = {"web01"}

    def identify_known(_uid: int, name: str, _key: str) -> str:
        if name not in known:
            raise PermissionRefused("revoked")
        return name

    async def run() -> None:
        broker = FakeBroker()
        door = SshDoor(str(folder / "ssh"), broker, identify_known)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            reader, writer = await asyncio.open_unix_connection(door.path)
            writer.write(b"web01\n" + Hello((1,)).encode())
            head = await reader.readexactly(4)
            await reader.readexactly(int.from_bytes(head[1:], "big"))
            known.clear()
            writer.write(Draw(32, DrawClass.FULL, request_id=1).encode())
            assert isinstance(frames(await reader.read())[0], Refusal)
            writer.close()
            assert broker.serial == 0

    asyncio.run(run())
