"""Local floods: retries for a full backlog, and users' shares."""

import asyncio
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from drawwell.doors.deposit import AdmittedSource, DepositConnection, DepositDoor
from drawwell.doors.local import LocalDoor
from drawwell.doors.ssh import SshDoor
from drawwell.doors.unix import UnixDoor
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import LinkUnavailable, PermissionRefused
from drawwell.links.connect_unix import connect_unix
from drawwell.links.unix import UnixLink
from drawwell.reports import SourceReport
from drawwell.testing.waiting import until
from support.fake_broker import FakeBroker
from support.serving import serving

OTHER_UID = 65534


class NoSources:
    """A broker that accepts no sources."""

    def arrive(self, _caller: DepositConnection, _report: SourceReport) -> AdmittedSource:
        raise PermissionRefused("no source is expected here")


LINKS = Path(__file__).parents[2] / "src" / "drawwell" / "links"


@contextmanager
def full(path: str) -> Iterator[socket.socket]:
    """Yield a listener whose backlog is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(0)
        with suppress(BlockingIOError):
            while True:
                sock = stack.enter_context(socket.socket(socket.AF_UNIX))
                sock.setblocking(False)
                sock.connect(path)
        yield listener


def test_a_full_backlog_is_waited_out(folder: Path) -> None:
    """After EAGAIN from connect(2), the link retries until there is room."""
    path = str(folder / "s")

    async def run() -> None:
        with full(path) as listener:
            async with asyncio.TaskGroup() as group:
                connecting = group.create_task(connect_unix(path))
                await asyncio.sleep(0)
                assert not connecting.done()
                listener.accept()[0].close()
            with connecting.result() as sock:
                assert sock.getpeername() == path

    asyncio.run(run())


def test_a_backlog_that_stays_full_is_a_timeout(folder: Path) -> None:
    """The link gives up at its deadline and reports a missing welcome."""
    path = str(folder / "s")

    async def run() -> None:
        with full(path), pytest.raises(LinkUnavailable, match="no welcome within"):
            # short: the deadline is the fact
            await UnixLink(path, open_deadline_s=0.2).draw(1, DrawClass.FULL)

    asyncio.run(run())


def test_every_link_of_this_machine_waits_for_a_full_backlog() -> None:
    """All links connect to Unix sockets through `connect_unix`."""
    calls = re.compile(r"create_unix_connection\((.*?)\n {8,12}\)", re.DOTALL)
    found = [each for path in LINKS.glob("*.py") for each in calls.findall(path.read_text())]
    assert len(found) >= 2
    assert all("sock=" in each for each in found)
    assert not [path for path in LINKS.glob("*.py") if "open_unix_connection" in path.read_text()]


def _flood(path: str) -> None:
    """Connect as another user, as fast as possible, forever."""
    os.setgid(OTHER_UID)
    os.setuid(OTHER_UID)
    while True:
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        with suppress(OSError):
            sock.connect(path)
        sock.close()


@contextmanager
def flooded(path: str) -> Iterator[None]:
    child = os.fork()
    if child == 0:
        try:
            _flood(path)
        finally:
            os._exit(0)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def root_only(uid: int, _gid: int, _pid: int) -> str:
    if uid:
        raise PermissionRefused("no consumer of this broker", hint="Ask its operator.")
    return "local"


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be two users")
def test_a_flood_of_another_user_stops_no_draw(folder: Path) -> None:
    """Most connections are closed after accept; every draw is served."""
    path = str(folder / "s")
    folder.chmod(0o755)

    async def run() -> UnixDoor:
        door = UnixDoor(path, FakeBroker(), root_only, mode=0o666)
        async with serving(door):
            with flooded(path):
                await until(lambda: door.counts.crowded_out, "the flood is there")
                for _ in range(8):
                    link = UnixLink(path)
                    assert len((await link.draw(16, DrawClass.FULL)).data) == 16
                    await link.aclose()
        return door

    counts = asyncio.run(run()).counts
    assert counts.crowded_out > counts.accepted


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be two users")
@pytest.mark.parametrize(
    "make",
    [
        lambda path: DepositDoor(path, NoSources(), source_uid=1),
        lambda path: SshDoor(path, FakeBroker(), lambda *_: "web01", speaks=lambda uid: uid == 0),
    ],
)
def test_a_user_without_rights_gets_no_session(folder: Path, make: Callable[[str], LocalDoor]) -> None:
    """The doors for sources and sshd close such connections after accept."""
    path = str(folder / "s")
    folder.chmod(0o755)

    async def run() -> LocalDoor:
        door = make(path)
        async with serving(door):
            with flooded(path):
                await until(lambda: door.counts.crowded_out > 1000, "the flood is there")
        return door

    counts = asyncio.run(run()).counts
    assert counts.accepted < 500  # a user with its own budget has 1,000 at once


def test_every_door_that_identifies_users_asks_at_accept() -> None:
    """EGD has no identity; a guest's door has `expects`."""
    doors = {each.__name__ for each in LocalDoor.__subclasses__() if "may_draw" not in vars(each)}
    assert doors <= {"EgdDoor", "GuestDoor", "UsbDoor"}


def test_half_open_connections_count_by_user(folder: Path) -> None:
    """The user ID takes the role that the address has in a network."""
    path = str(folder / "s")

    async def run() -> list[str]:
        door = UnixDoor(path, FakeBroker(), lambda *_: "local")
        async with serving(door):
            with socket.socket(socket.AF_UNIX) as silent:
                silent.connect(path)
                await until(lambda: door.half_open, "it is there")
                return [each.address for each in door._half_open]

    assert asyncio.run(run()) == [f"user {os.geteuid()}"]


def test_an_unknown_user_still_gets_the_reason(folder: Path) -> None:
    """Within the budget of unknown users, a refusal has its hint."""
    path = str(folder / "s")

    def refuse_all(_uid: int, _gid: int, _pid: int) -> str:
        raise PermissionRefused("no consumer of this broker", hint="Ask its operator.")

    async def run() -> None:
        async with serving(UnixDoor(path, FakeBroker(), refuse_all)):
            with pytest.raises(PermissionRefused, match="no consumer"):
                await UnixLink(path).draw(1, DrawClass.FULL)

    asyncio.run(run())
