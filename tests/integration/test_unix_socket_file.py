"""The Unix door's socket file: mode, leftovers, socket activation."""

import asyncio
import socket
import stat
from pathlib import Path

import pytest

from drawwell.doors.unix import UnixDoor
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import ConfigError
from drawwell.links.unix import UnixLink
from drawwell.testing.waiting import DEADLINE_S
from support.fake_broker import FakeBroker
from support.serving import serving
from support.unix_sessions import named


def test_socket_file_has_its_mode_and_goes_with_the_door(tmp_path: Path) -> None:
    """The file exists with its mode only while the door is open."""
    path = tmp_path / "draw"

    async def run() -> None:
        async with serving(UnixDoor(str(path), FakeBroker(), named, mode=0o620)):
            assert stat.S_IMODE(path.stat().st_mode) == 0o620

    asyncio.run(run())
    assert not path.exists()


def test_socket_file_of_a_dead_process_is_replaced(tmp_path: Path) -> None:
    """A socket left by a crash does not prevent listening."""
    path = tmp_path / "draw"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async def run() -> None:
        async with serving(UnixDoor(str(path), FakeBroker(), named)), asyncio.timeout(DEADLINE_S):
            link = UnixLink(str(path))
            await link.draw(1, DrawClass.FULL)
            await link.aclose()

    asyncio.run(run())


def test_socket_with_a_listener_is_left_alone(tmp_path: Path) -> None:
    """A second broker is refused with a hint, and the first continues."""
    path = str(tmp_path / "draw")

    async def run() -> None:
        async with serving(UnixDoor(path, FakeBroker(), named)), asyncio.timeout(DEADLINE_S):
            with pytest.raises(ConfigError, match="listens there") as caught:
                await UnixDoor(path, FakeBroker(), named).serve()
            assert caught.value.hint
            link = UnixLink(path)
            await link.draw(1, DrawClass.FULL)
            await link.aclose()

    asyncio.run(run())


def test_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    """A mistyped path destroys no file."""
    path = tmp_path / "notes.txt"
    path.write_text("mine")

    with pytest.raises(ConfigError, match="not a socket"):
        asyncio.run(UnixDoor(str(path), FakeBroker(), named).serve())
    assert path.read_text() == "mine"


def test_directory_that_is_not_there_is_a_configuration_error(tmp_path: Path) -> None:
    """The error names the path."""
    path = str(tmp_path / "nowhere" / "draw")

    with pytest.raises(ConfigError, match="nowhere"):
        asyncio.run(UnixDoor(path, FakeBroker(), named).serve())


def test_listener_that_was_handed_in_is_used_and_its_file_kept(tmp_path: Path) -> None:
    """With socket activation the file is another process's and is kept."""
    path = tmp_path / "activated"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    listener.setblocking(False)

    async def run() -> None:
        door = UnixDoor("unused", FakeBroker(), named)
        async with serving(door, handed=[listener]), asyncio.timeout(DEADLINE_S):
            assert door.address == str(path)
            link = UnixLink(str(path))
            await link.draw(1, DrawClass.FULL)
            await link.aclose()

    asyncio.run(run())
    assert path.exists()
