"""Metrics and the status page: names, hosts, events and their bounds."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from drawwell.doors import http
from drawwell.doors.door import Limits
from drawwell.doors.http import HttpDoor
from drawwell.reports import as_json
from drawwell.testing.waiting import DEADLINE_S, until
from support.fake_broker import FakeBroker
from support.reports import broker_report
from support.serving import serving

LIMITS = Limits(write_deadline_s=0.5, max_half_open=64)  # short: what is tried is that it ends
REPORT = as_json(broker_report())
Story = Callable[[HttpDoor, FakeBroker, str], Awaitable[None]]


def run(folder: Path, story: Story, *, known: bool = False) -> None:
    """Serve a broker whose report can be changed; `known` peers are consumers."""
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
    """Metrics and page name a consumer only if the broker allows it."""

    async def story(_door: HttpDoor, _broker: FakeBroker, path: str) -> None:
        for target in ("/metrics", "/ui"):
            status, text = await asked(path, target)
            assert status == 200
            assert ("web01" in text) is known
        assert ("consumer.invite" in text) is known

    run(tmp_path, story, known=known)


def test_a_page_of_consumers_is_searched_and_turned(tmp_path: Path) -> None:
    """A search shows the names that match, and a link leads to the next page."""

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
    """A name of a consumer or device is text in the page and its title."""
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
    """Under a name that is not this machine's the page is refused."""

    async def story(_door: HttpDoor, _broker: FakeBroker, path: str) -> None:
        assert (await asked(path, "/ui", host))[0] == 403
        assert (await asked(path, "/ui/events", host))[0] == 403

    run(tmp_path, story)


def test_an_event_is_sent_if_something_changed(tmp_path: Path, monkeypatch: Any) -> None:
    """The first event comes at once, the next with the next change."""
    monkeypatch.setattr(http, "EVENT_EVERY_S", 0.01)

    async def story(_door: HttpDoor, broker: FakeBroker, path: str) -> None:
        reader, writer = await events(path)
        assert b"text/event-stream" in await reader.readuntil(b"\r\n\r\n")
        first = await reader.readuntil(b"\n\n")
        assert b"0 of 1 noise sources healthy" in first
        broker.results["observe"]["report"]["not_ready_because"] = "unplugged"
        second = await reader.readuntil(b"\n\n")
        assert b"unplugged" in second
        writer.close()

    run(tmp_path, story)


def test_open_pages_are_bounded(tmp_path: Path) -> None:
    """One page too many is refused, and one that closes makes room."""

    async def story(door: HttpDoor, _broker: FakeBroker, path: str) -> None:
        pages = [await events(path) for _ in range(http.MOST_PAGES)]
        for reader, _ in pages:
            await reader.readuntil(b"\n\n")
        assert door.pages.full
        assert (await asked(path, "/ui/events"))[0] == 503
        pages.pop()[1].close()
        await until(lambda: not door.pages.full, "a page has closed")
        for _, writer in pages:
            writer.close()

    run(tmp_path, story)


def test_pages_that_open_at_once_are_bounded(tmp_path: Path) -> None:
    """Of sixty requests in one moment, those beyond the bound are refused."""

    async def story(door: HttpDoor, _broker: FakeBroker, path: str) -> None:
        pages = [await asyncio.open_unix_connection(path) for _ in range(60)]
        for _, writer in pages:
            writer.write(b"GET /ui/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        heads = [await reader.readuntil(b"\r\n") for reader, _ in pages]
        assert sum(b" 200 " in head for head in heads) == http.MOST_PAGES == door.pages.count
        assert sum(b" 503 " in head for head in heads) == 60 - http.MOST_PAGES
        for _, writer in pages:
            writer.close()

    run(tmp_path, story)


def test_a_page_that_is_not_read_is_closed(tmp_path: Path, monkeypatch: Any) -> None:
    """A browser that reads nothing is left, and its place is free again."""
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
