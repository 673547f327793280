"""The audit log's sums, its file, and what never stands in it."""

import json
import logging
import os
from pathlib import Path

import pytest

from drawwell.broker import audit_log
from drawwell.broker.audit_log import AuditLog, AuditTally
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import DrawRefused, NoHealthySource, PermissionRefused
from drawwell.testing.scripted import ScriptedSource
from drawwell.testing.virtual_time import run_virtually
from support.workbench import Workbench

FULL, DRBG = DrawClass.FULL, DrawClass.DRBG


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_grants_are_added_up_per_consumer_and_class() -> None:
    """Draws, bytes, and the first and last serial number; receipts are named one by one."""
    tally = AuditTally()
    tally.sources_are({"stick": 2})
    for serial in range(7, 17):
        tally.granted("web01", FULL if serial % 2 else DRBG, 32, serial, receipt=serial in {9, 12})
    tally.refused("web01", "Starved")
    tally.refused("web01", "Starved")
    full, drbg, refused = tally.take()
    assert full == {
        "event": "granted",
        "consumer": "web01",
        "class": "full",
        "draws": 5,
        "bytes": 160,
        "first_serial": 7,
        "last_serial": 15,
        "receipts": [9],
        "sources": {"stick": 2},
    }
    assert (drbg["class"], drbg["receipts"], drbg["last_serial"]) == ("drbg", [12], 16)
    assert refused == {"event": "refused", "consumer": "web01", "cause": "Starved", "times": 2}
    assert tally.take() == []


def test_a_change_of_sources_closes_the_sums() -> None:
    """A line names the sources of all its grants, so that a source which failed stands in no later line."""
    tally = AuditTally()
    tally.sources_are({"a": 1, "b": 1})
    tally.granted("web01", FULL, 1, 1, receipt=False)
    tally.sources_are({"a": 1, "b": 1})
    tally.granted("web01", FULL, 1, 2, receipt=False)
    tally.sources_are({"a": 1})
    tally.granted("web01", FULL, 1, 3, receipt=False)
    assert [(line["last_serial"], line["sources"]) for line in tally.take()] == [
        (2, {"a": 1, "b": 1}),
        (3, {"a": 1}),
    ]


def test_a_line_names_a_bounded_number_of_receipts(monkeypatch: pytest.MonkeyPatch) -> None:
    """When there are many receipts the minute is closed early, and none is left out."""
    monkeypatch.setattr(audit_log, "RECEIPTS_AT_ONCE", 4)
    tally, taken = AuditTally(), []
    tally.full = lambda: taken.extend(tally.take())
    for serial in range(10):
        tally.granted("web01", FULL, 1, serial, receipt=True)
    taken += tally.take()
    assert [line["receipts"] for line in taken] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_brokers_grants_and_refusals_are_counted_as_they_were() -> None:
    """What the lines add up to is what was granted, of each refusal its cause, with the healthy source."""

    async def run() -> None:
        bench = Workbench(ScriptedSource("stick", seed=1), capacity_bytes=4096)
        broker = bench.broker
        with pytest.raises(NoHealthySource):
            await broker.draw("web01", 32, FULL)
        async with bench.run():
            await bench.until_filled()
            grants = [await broker.draw("web01", n, FULL, receipt=n == 3) for n in (1, 2, 3)]
            with pytest.raises(DrawRefused):
                await broker.draw("web01", 0, FULL)
            with pytest.raises(PermissionRefused):
                await broker.draw("nobody", 1, FULL)
            lines = broker.tally.take()
        granted = [line for line in lines if line["event"] == "granted"]
        assert [(line["draws"], line["bytes"], line["sources"]) for line in granted] == [(3, 6, {"stick": 1})]
        assert granted[0]["receipts"] == [grants[2].serial]
        causes = {(line["consumer"], line["cause"]): line["times"] for line in lines if line not in granted}
        assert causes == {
            ("web01", "NoHealthySource"): 1,
            ("web01", "DrawRefused"): 1,
            ("nobody", "PermissionRefused"): 1,
        }

    run_virtually(run())


def test_the_file_is_private_and_added_to(tmp_path: Path) -> None:
    """Mode 0600 whatever the umask, one JSON object a line with its time, and a second life adds to it."""
    path = tmp_path / "audit.jsonl"
    before = os.umask(0)
    try:
        for now in (1.5, 2.5):
            log = AuditLog(str(path), lambda now=now: now)
            log.write([{"event": "x"}])
            log.write([{"event": "y"}], since=1.0)
            log.close()
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert lines_of(path) == [
        {"time": 1.5, "event": "x"},
        {"since": 1.0, "time": 1.5, "event": "y"},
        {"time": 2.5, "event": "x"},
        {"since": 1.0, "time": 2.5, "event": "y"},
    ]


def test_a_link_is_not_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where somebody laid a link, nothing is written through it, and the lines go to the log."""
    (tmp_path / "audit.jsonl").symlink_to(tmp_path / "elsewhere")
    with caplog.at_level(logging.INFO):
        AuditLog(str(tmp_path / "audit.jsonl"), lambda: 0.0).write([{"event": "x"}])
    assert not (tmp_path / "elsewhere").exists()
    assert '{"time":0.0,"event":"x"}' in caplog.text


def test_a_large_file_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its size a file becomes .1, that .2 and so on; the oldest go, and no line is lost between."""
    monkeypatch.setattr(audit_log, "ROTATE_BYTES", 100)
    monkeypatch.setattr(audit_log, "KEPT", 3)
    path = tmp_path / "audit.jsonl"
    log = AuditLog(str(path), lambda: 0.0)
    for number in range(50):
        log.write([{"event": number}])
    log.close()
    names = [*(f"audit.jsonl.{number}" for number in (3, 2, 1)), "audit.jsonl"]
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(names)
    events = [line["event"] for name in names for line in lines_of(tmp_path / name)]
    assert events == list(range(50 - len(events), 50))
    assert 9 < len(events) < 50


def test_what_cannot_be_written_to_the_file_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """On a full disk every line stands in the log, and the fault is told once and in the status."""
    log = AuditLog("/dev/full", lambda: 0.0)
    with caplog.at_level(logging.INFO, "drawwell.audit"):
        for number in range(3):
            log.write([{"event": number}])
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO", "INFO", "INFO"]
    assert "no space left" in log.fault


def test_a_device_keeps_its_mode() -> None:
    """A log into a device leaves that device to everybody else as it was."""
    AuditLog("/dev/full", lambda: 0.0).write([{"event": 1}])
    assert os.stat("/dev/full").st_mode & 0o777 == 0o666


def test_without_a_file_the_lines_go_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """An empty path means the log "drawwell.audit", at level INFO."""
    with caplog.at_level(logging.INFO, "drawwell.audit"):
        AuditLog("", lambda: 1.0).write([{"event": "x"}])
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("drawwell.audit", '{"time":1.0,"event":"x"}')
    ]


def test_what_an_operator_says_is_written_without_secrets(tmp_path: Path) -> None:
    """Of a verb's arguments stands there what it changes; keys, signing requests and unknown words do not."""
    path = tmp_path / "audit.jsonl"
    log = AuditLog(str(path), lambda: 0.0)
    log.operator(
        "consumer.invite", {"name": "web01", "rate": "4KiB/s", "ssh_key": "ssh-ed25519 AAAA", "x": "y"}
    )
    log.operator("renew", {"name": "web01", "csr": "-----BEGIN"}, "PermissionRefused")
    assert lines_of(path) == [
        {"time": 0.0, "event": "consumer.invite", "name": "web01", "rate": "4KiB/s"},
        {"time": 0.0, "event": "renew", "name": "web01", "refused": "PermissionRefused"},
    ]
