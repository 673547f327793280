"""A broker's audit log: counts each minute, actions at once."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from drawwell.authorisation import Principal, Role
from drawwell.broker.audit import Auditor
from drawwell.config.broker_side import AuditSection
from drawwell.crypto.audit_chain import SignedHead
from drawwell.crypto.receipts import ReceiptSigner, receipt_key_from_seed

SIGNER = ReceiptSigner(receipt_key_from_seed(bytes(32)))


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


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit"


@pytest.fixture
def auditor(path: Path) -> Auditor:
    return made(path)


def made(path: Path) -> Auditor:
    return Auditor("bench", AuditSection(path=str(path)), lambda: 0.0, SIGNER)


def events(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_operators_acts_have_a_file_of_their_own(auditor: Auditor, path: Path) -> None:
    """The other file counts requests of consumers and unknown peers."""
    web01 = Principal(Role.CONSUMER, "web01")
    auditor.started(7)
    auditor.asked(Principal(Role.OWNER, ""), "consumer.revoke", {"name": "web01", "secret": "x"}, "")
    auditor.joined("db01", "192.0.2.1", "")
    for verb in ("renew", "renew", "no such verb", "nor this"):
        auditor.asked(web01, verb, {"name": "db01"}, "UsageError")
    for _ in range(3):
        auditor.joined("", "192.0.2.1", "PermissionRefused")
    auditor.close()

    first, revoked, joined, _ = acts = events(path.with_name("audit-operators"))
    assert [event["event"] for event in acts] == ["started", "consumer.revoke", "join", "stopped"]
    assert first["first_serial"] == 7
    assert (revoked["name"], "secret" in revoked, joined["name"]) == ("web01", False, "db01")
    asked = [event for event in events(path) if event["event"] == "asked"]
    assert [(event["consumer"], event["verb"], event["times"]) for event in asked] == [
        ("web01", "renew", 2),
        ("web01", "unknown", 2),
        ("", "join", 3),
    ]


def test_the_head_is_signed_after_new_lines(auditor: Auditor, path: Path) -> None:
    """Each minute with new lines in either file signs one head, for receipts."""
    auditor.started(7)
    auditor.minute()
    auditor.note("machine copied")
    auditor.minute()
    auditor.minute()
    heads = [event for event in events(path) if event["event"] == "head"]
    assert [(head["count"], head["operators_count"]) for head in heads] == [(0, 1), (1, 2)]
    for head in heads:
        SignedHead.read(head).check(SIGNER.public_key)
    assert auditor.tally.head.count == 2


def test_each_rejected_peer_is_counted_once(auditor: Auditor, path: Path) -> None:
    """A line has a door's new rejections; without any, there is no line."""
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


def test_a_log_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    """The auditor reports the fault until the log is writable again."""
    auditor = made(tmp_path / "missing" / "audit")
    auditor.started(1)
    assert "cannot write the audit log" in auditor.trouble()

    (tmp_path / "missing").mkdir()
    auditor.minute()
    auditor.note("later")
    assert auditor.trouble() == ""
