"""The blocking link to a Unix door, and failing brokers."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drawwell.doors.unix import UnixDoor
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import LinkUnavailable, QuotaExceeded, UsageError
from drawwell.links.blocking import BlockingLink
from drawwell.testing.waiting import DEADLINE_S
from support.fake_broker import FakeBroker
from support.serving import serving
from support.unix_sessions import named

SHORT_S = 0.05  # short: the test waits for it to pass


def served(door: UnixDoor, visit: Callable[[], Any]) -> Any:
    """Run `visit` in a thread while the door is open; return its result."""

    async def run() -> Any:
        async with serving(door), asyncio.timeout(DEADLINE_S):
            return await asyncio.to_thread(visit)

    return asyncio.run(run())


def test_it_draws_and_calls_in_one_session(folder: Path) -> None:
    """Draws, one with a receipt, and a verb are answered in the same session."""
    broker = FakeBroker()
    door = UnixDoor(str(folder / "draw"), broker, named)

    def visit() -> tuple[Any, ...]:
        link = BlockingLink(door.path)
        one = link.draw(32, DrawClass.FULL)
        other = link.draw(65_536, DrawClass.DRBG, receipt=True)
        status = link.call("status", {})
        link.close()
        return one, other, status

    one, other, status = served(door, visit)
    assert (len(one), one.serial, len(other), other.serial) == (32, 1, 65_536, 2)
    assert other.receipt == b"a receipt of nothing"
    assert status["args"] == {}
    assert door.counts.accepted == 1


def test_a_refusal_is_the_brokers_own_error_and_leaves_the_session_open(folder: Path) -> None:
    """QuotaExceeded arrives with its time; the session stays usable."""
    refusals = [QuotaExceeded("enough", retry_after_s=7.0)]
    broker = FakeBroker(refuse=lambda *_: refusals.pop() if refusals else None)
    door = UnixDoor(str(folder / "draw"), broker, named)

    def visit() -> None:
        link = BlockingLink(door.path)
        with pytest.raises(QuotaExceeded) as caught:
            link.draw(32, DrawClass.FULL)
        assert caught.value.retry_after_s == 7
        with pytest.raises(UsageError, match="unknown control verb"):
            link.call("nothing", {})
        assert len(link.draw(32, DrawClass.FULL)) == 32
        link.close()

    served(door, visit)
    assert door.counts.accepted == 1


def test_it_opens_again_after_a_pause(folder: Path) -> None:
    """The session is closed during a pause; the next draw opens another."""
    door = UnixDoor(str(folder / "draw"), FakeBroker(), named)

    def visit() -> None:
        link = BlockingLink(door.path)
        link.draw(1, DrawClass.FULL)
        link.pause(0)
        link.draw(1, DrawClass.FULL)
        link.close()

    served(door, visit)
    assert door.counts.accepted == 2


def test_an_answer_that_does_not_come_is_lost(folder: Path) -> None:
    """After its deadline the draw raises LinkUnavailable and is not repeated."""

    def visit() -> None:
        link = BlockingLink(door.path, answer_deadline_s=SHORT_S)
        with pytest.raises(LinkUnavailable, match="no answer within"):
            link.draw(32, DrawClass.FULL)

    async def run() -> None:
        nonlocal door
        door = UnixDoor(str(folder / "draw"), FakeBroker(gate=asyncio.Event()), named)
        async with serving(door), asyncio.timeout(DEADLINE_S):
            await asyncio.to_thread(visit)

    door: UnixDoor
    asyncio.run(run())
    assert door.counts.accepted == 1


@pytest.mark.parametrize("backlog", [0, 16], ids=["full", "accepted and silent"])
def test_a_broker_that_does_not_welcome_is_unavailable(folder: Path, backlog: int) -> None:
    """A silent listener, or a full backlog, causes an error and not a hang."""
    path = str(folder / "mute")
    with socket.socket(socket.AF_UNIX) as mute, socket.socket(socket.AF_UNIX) as waiting:
        mute.bind(path)
        mute.listen(backlog)
        if not backlog:
            waiting.connect(path)
        with pytest.raises(LinkUnavailable, match="no welcome within") as caught:
            BlockingLink(path, open_deadline_s=SHORT_S).draw(32, DrawClass.FULL)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("answer", "error"),
    [(b"", "was lost"), (b"\xff\xff\xff\xff", "violated the protocol")],
    ids=["EOF", "garbage"],
)
def test_a_broker_that_breaks_off_is_unavailable(folder: Path, answer: bytes, error: str) -> None:
    """EOF and garbage before the welcome raise LinkUnavailable with a hint."""
    path = str(folder / "liar")

    def lie(listener: socket.socket) -> None:
        with listener.accept()[0] as peer:
            peer.recv(1024)
            peer.sendall(answer)

    async def run() -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
                group.create_task(asyncio.to_thread(lie, listener))
                with pytest.raises(LinkUnavailable, match=error) as caught:
                    await asyncio.to_thread(BlockingLink(path).draw, 32, DrawClass.FULL)
                assert caught.value.hint

    asyncio.run(run())


def test_a_broker_that_is_not_there_is_unavailable_with_a_hint(folder: Path) -> None:
    """The error names the missing socket."""
    with pytest.raises(LinkUnavailable, match="nothing") as caught:
        BlockingLink(str(folder / "nothing")).draw(32, DrawClass.FULL)
    assert caught.value.hint


def test_drawing_here_imports_neither_asyncio_nor_ssl(folder: Path) -> None:
    """`drawwell draw` on the broker's machine needs no event loop."""
    door = UnixDoor(str(folder / "draw"), FakeBroker(), named)
    configuration = folder / "drawwell.toml"
    configuration.write_text(f'[unix]\npath = "{door.path}"\n')
    script = (
        "import sys; from drawwell.cli import main\n"
        f"assert main(['draw', '8', '--hex', '-c', {str(configuration)!r}]) == 0\n"
        "print(*sorted({'asyncio', 'ssl', 'drawwell.reports'} & set(sys.modules)))\n"
    )
    done = served(
        door,
        lambda: subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True),
    )
    assert done.stdout == f"{1:016x}\n\n"
