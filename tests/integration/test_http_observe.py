"""Metrics and the status page: names, hosts, events and limits."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from drawwell.doors import http
from drawwell.doors.door import Limits
from drawwell.doors.http import HttpDoor, OpenPages
from drawwell.doors.sockets import loopback_user
from drawwell.reports import as_json
from drawwell.testing.waiting import DEADLINE_S, until
from support.fake_broker import FakeBroker
from support.reports import broker_report
from support.serving import serving

LIMITS = Limits(write_deadline_s=0.5, max_half_open=64)  # short: the test waits for it to pass
REPORT = as_json(broker_report())
Story = Callable[[HttpDoor, FakeBroker, str], Awaitable[None]]


def run(folder: Path, story: Story, *, known: bool = False) -> None:
    """Serve a broker with a changeable report; `known` peers are consumers."""
    broker = FakeBroker()
    broker.results["observe"] = {"names": known, "report": dict(REPORT)}
    path = str(folder / "http.sock")
    door = HttpDoor(path, broker, (lambda _uid, _gid, _pid: "web01") if known else None, limits=LIMITS)

    async def live() -> None:
        async with serving(door), asyncio.timeout(DEADLINE_S):
            await story(door, broker, path)

    asyncio.run(live())


async def asked(path: str, target: str, host: str = "localhost") -> tuple[int, str]:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    return int(answer.split()[1]), answer


async def events(path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"GET /ui/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return reader, writer


@pytest.mark.parametrize("known", [True, False])
def test_names_follow_the_verb(tmp_path: Path, known: bool) -> None:
    """Metrics and page show names only if the broker permits it."""

    async def story(_door: HttpDoor, _broker: FakeBroker, path: str) -> None:
        for target in ("/metrics", "/ui"):
            status, text = await asked(path, target)
            assert status == 200
            assert ("web01" in text) is known
        assert ("consumer.invite" in text) is known

    run(tmp_path, story, known=known)


def test_a_page_of_consumers_is_searched_and_turned(tmp_path: Path) -> None:
    """A search shows matching names, and a link leads to the next page."""

    async def story(_door: HttpDoor, broker: FakeBroker, path: str) -> None:
        one = REPORT["consumers"][0]
        report = REPORT | {"consumers": [{**one, "name": f"web{n:02}"} for n in range(50)]}
        broker.results["observe"] = {"names": True, "report": report}
        first = (await asked(path, "/ui"))[1]
        assert "web19" in first
        assert "web20" not in first.replace("after=web19", "")
        assert "web20" in (await asked(path, "/ui?after=web19"))[1]
        found = (await asked(path, "/ui?search=web4"))[1]
        assert "web49" in found
        assert "web39" not in found

    run(tmp_path, story, known=True)


def test_no_name_becomes_markup(tmp_path: Path) -> None:
    """A consumer's or device's name is shown as text in page and title."""
    odd = "<script>alert(1)</script>\"'&"

    async def story(_door: HttpDoor, broker: FakeBroker, path: str) -> None:
        source = REPORT["sources"][0]
        report = REPORT | {
            "name": odd,
            "not_ready_because": odd,
            "consumers": [{**REPORT["consumers"][0], "name": odd, "guest": odd, "quota": ""}],
            "sources": [{**source, "identity": {**source["identity"], "name": odd}, "last_error": odd}],
            "doors": [odd],
            "notes": [odd],
            "draws": {**REPORT["draws"], "refused": {odd: 1}},
        }
        broker.results["observe"] = {"names": True, "report": report}
        text = (await asked(path, "/ui?search=%3Cscript"))[1]
        assert text.count("&lt;script&gt;alert(1)") > 6
        assert text.count("<script>") == 1

    run(tmp_path, story, known=True)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil", ""])
def test_a_foreign_name_gets_no_page(tmp_path: Path, host: str) -> None:
    """If the host name is not this machine's, the page is refused."""

    async def story(_door: HttpDoor, _broker: FakeBroker, path: str) -> None:
        assert (await asked(path, "/ui", host))[0] == 403
        assert (await asked(path, "/ui/events", host))[0] == 403

    run(tmp_path, story)


def test_an_event_is_sent_if_something_changed(tmp_path: Path, monkeypatch: Any) -> None:
    """The first event is sent at once, the next after a change."""
    monkeypatch.setattr(http, "EVENT_EVERY_S", 0.01)

    async def story(_door: HttpDoor, broker: FakeBroker, path: str) -> None:
        reader, writer = await events(path)
        assert b"text/event-stream" in await reader.readuntil(b"\r\n\r\n")
        first = await reader.readuntil(b"\n\n")
        assert b"0 of 1 noise sources are healthy" in first
        broker.results["observe"]["report"]["not_ready_because"] = "unplugged"
        second = await reader.readuntil(b"\n\n")
        assert b"unplugged" in second
        writer.close()

    run(tmp_path, story)


def test_open_pages_are_bounded(tmp_path: Path) -> None:
    """A page beyond the limit is refused; closing one makes room."""

    async def story(door: HttpDoor, _broker: FakeBroker, path: str) -> None:
        pages = [await events(path) for _ in range(http.MOST_PAGES_OF_ONE)]
        for reader, _ in pages:
            await reader.readuntil(b"\n\n")
        assert door.pages.full(os.getuid())
        assert (await asked(path, "/ui/events"))[0] == 503
        pages.pop()[1].close()
        await until(lambda: not door.pages.full(os.getuid()), "a page has closed")
        for _, writer in pages:
            writer.close()

    run(tmp_path, story)


def test_pages_that_open_at_once_are_bounded(tmp_path: Path) -> None:
    """Of sixty concurrent requests, those beyond the limit are refused."""

    async def story(door: HttpDoor, _broker: FakeBroker, path: str) -> None:
        pages = [await asyncio.open_unix_connection(path) for _ in range(60)]
        for _, writer in pages:
            writer.write(b"GET /ui/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        heads = [await reader.readuntil(b"\r\n") for reader, _ in pages]
        assert sum(b" 200 " in head for head in heads) == http.MOST_PAGES_OF_ONE == door.pages.count
        assert sum(b" 503 " in head for head in heads) == 60 - http.MOST_PAGES_OF_ONE
        for _, writer in pages:
            writer.close()

    run(tmp_path, story)


def test_one_user_leaves_pages_to_others() -> None:
    """A user at its limit does not affect other users."""
    pages = OpenPages()
    with ExitStack() as stack:
        for user in range(http.MOST_PAGES // http.MOST_PAGES_OF_ONE):
            assert not pages.full(user)
            for _ in range(http.MOST_PAGES_OF_ONE):
                stack.enter_context(pages.of(user))
            assert pages.full(user)
        assert pages.full("another")
    assert not pages.full(0)
    assert pages.count == 0


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_user_behind_a_loopback_connection_is_known(host: str) -> None:
    """The peer counts as the user of the connecting process."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    program = (
        "import os, socket, sys\n"
        "os.setuid(65534)\n"
        f"peer = socket.socket({int(family)})\n"
        f"peer.connect(({host!r}, int(sys.argv[1])))\n"
        "peer.recv(1)\n"
    )
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server((host, 0), family=family))
        argv = [sys.executable, "-c", program, str(server.getsockname()[1])]
        stack.enter_context(subprocess.Popen(argv))
        server.settimeout(DEADLINE_S)
        accepted = stack.enter_context(server.accept()[0])
        assert loopback_user(accepted) == 65534


def test_a_page_that_is_not_read_is_closed(tmp_path: Path, monkeypatch: Any) -> None:
    """A browser that does not read is disconnected and frees its place."""
    monkeypatch.setattr(http, "EVENT_EVERY_S", 0.0)

    async def story(door: HttpDoor, broker: FakeBroker, path: str) -> None:
        report = broker.results["observe"]["report"]
        report["notes"] = ["x" * 60_000]
        _, writer = await events(path)
        await until(lambda: door.pages.count == 1, "the page is open")
        writer.transport.pause_reading()

        def changed() -> bool:
            report["notes"] = [str(len(report["notes"][0])) + "x" * 60_000 + report["notes"][0][:1]]
            report["uptime_s"] += 1
            return door.pages.count == 0

        await until(changed, "the page is closed")
        writer.close()

    run(tmp_path, story)
