"""The audit log of one broker: counts by the minute, acts at once."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from drawwell.broker.audit import Auditor
from support.workbench import Workbench


@dataclass
class Counts:
    unauthenticated: int = 0
    protocol_errors: int = 0
    crowded_out: int = 0
    overdue: int = 0
    open: int = 5


class CountingDoor:
    def __init__(self) -> None:
        self.counts = Counts()


class Bench(Workbench):
    """A workbench on which no time passes."""

    def clock(self) -> float:
        return 0.0


@pytest.fixture
def bench() -> Bench:
    return Bench(capacity_bytes=4096)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit"


@pytest.fixture
def auditor(bench: Bench, path: Path) -> Auditor:
    return Auditor(bench.broker, str(path), lambda: 0.0)


def events(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_operators_act_follows_what_came_before(bench: Bench, auditor: Auditor, path: Path) -> None:
    """Counts are closed before an act is written, so that the order is kept."""
    auditor.started(7)
    bench.broker.tally.refused("web01", "Starved")
    auditor.asked("consumer.revoke", {"name": "web01", "secret": "x"}, "")
    auditor.joined("db01", "")
    auditor.joined("", "PermissionRefused")
    auditor.close()

    written = [event["event"] for event in events(path)]
    assert written == ["started", "refused", "consumer.revoke", "join", "join", "stopped"]
    first, _, revoked, joined, refused, _ = events(path)
    assert first["first_serial"] == 7
    assert (revoked["name"], "secret" in revoked) == ("web01", False)
    assert (joined["name"], refused["refused"]) == ("db01", "PermissionRefused")


def test_each_peer_turned_away_is_counted_once(auditor: Auditor, path: Path) -> None:
    """A line has what a door counted since the last one, or there is none."""
    door = CountingDoor()
    auditor.watch("tls", door)
    door.counts.overdue = 2
    auditor.minute()
    auditor.minute()
    door.counts.overdue = 3
    asyncio.run(auditor.settle())

    counted = [event for event in events(path) if event["event"] == "turned away"]
    assert [(event["door"], event["overdue"]) for event in counted] == [("tls", 2), ("tls", 1)]
    assert "open" not in counted[0]


def test_a_log_that_cannot_be_written_is_reported(bench: Bench, tmp_path: Path) -> None:
    """The broker's report has a note until the log can be written again."""
    auditor = Auditor(bench.broker, str(tmp_path / "missing" / "audit"), lambda: 0.0)
    auditor.started(1)
    assert [note for note in bench.broker.report().notes if "audit log cannot be written" in note]

    (tmp_path / "missing").mkdir()
    auditor.minute()
    auditor.note("later")
    assert bench.broker.report().notes == ()
