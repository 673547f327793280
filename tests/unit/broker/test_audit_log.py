"""The audit log: its counts, its file, and data it must not contain."""

import json
import logging
import os
from pathlib import Path

import pytest

from drawwell.broker import audit_log
from drawwell.broker.audit_log import AuditLog, AuditTally, files_of, is_rotated
from drawwell.crypto.audit_chain import ChainCheck
from drawwell.entropy.blocks import DrawClass, DrawRequest
from drawwell.errors import DrawRefused, NoHealthySource, PermissionRefused
from drawwell.testing.scripted import ScriptedSource
from drawwell.testing.virtual_time import run_virtually
from support.principals import consumer
from support.workbench import Workbench

FULL, DRBG = DrawClass.FULL, DrawClass.DRBG


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def without_chain(lines: list[dict]) -> list[dict]:
    return [{name: value for name, value in line.items() if name not in {"n", "prev"}} for line in lines]


def test_grants_are_added_up_per_consumer_and_class() -> None:
    """A line has draws, bytes, receipts, first and last serial number."""
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
        "receipts": 1,
        "sources": {"stick": 2},
    }
    assert (drbg["class"], drbg["receipts"], drbg["last_serial"]) == ("drbg", 1, 16)
    assert refused == {"event": "refused", "consumer": "web01", "cause": "Starved", "times": 2}
    assert tally.take() == []


def test_a_change_of_sources_closes_the_sums() -> None:
    """A line names the sources of all its grants, and no source that failed."""
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


def test_a_consumer_causes_a_bounded_number_of_lines() -> None:
    """A minute has one line per kind of event, for any number of events."""
    tally = AuditTally()
    sizes = []
    for times in (1, 10_000):
        for serial in range(times):
            tally.granted("web01", FULL, 1, serial, receipt=True)
            tally.refused("web01", "Starved")
            tally.asked("web01", "renew", "PermissionRefused")
            tally.asked("web01", "renew", "")
        sizes.append(len(json.dumps(lines := tally.take())))
        assert [line["event"] for line in lines] == ["granted", "refused", "asked", "asked"]
    assert sizes[1] < sizes[0] + 50


def test_a_source_causes_a_bounded_number_of_lines() -> None:
    """After any number of failures, the last line names the healthy sources."""
    tally = AuditTally()
    for life in range(1, 5_000):
        tally.sources_are({"steady": 1, "flapping": life})
        tally.granted("web01", FULL, 1, 2 * life, receipt=False)
        tally.sources_are({"steady": 1})
        tally.granted("web01", FULL, 1, 2 * life + 1, receipt=False)
    lines = tally.take()
    assert len(lines) == audit_log.SOURCE_CHANGES_PER_MINUTE + 1
    assert sum(line["draws"] for line in lines) == 2 * 4_999
    assert lines[-1]["sources"] == {"steady": 1, "flapping": 4_999}

    tally.granted("web01", FULL, 1, 20_000, receipt=False)
    assert [line["sources"] for line in tally.take()] == [{"steady": 1}]


def test_only_a_log_with_all_its_older_files_is_rotated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All older files must be full; a removed or cut file prevents rotation."""
    monkeypatch.setattr(audit_log, "ROTATE_BYTES", 300)
    path, now = str(tmp_path / "audit"), iter(range(1000))
    log = AuditLog(path, lambda: next(now))
    while len(files_of(path)) <= audit_log.KEPT:
        assert not is_rotated(path)
        log.write([{"event": "x"}])
    log.close()
    assert is_rotated(path)
    oldest = Path(files_of(path)[0])
    oldest.write_bytes(oldest.read_bytes()[200:])
    assert not is_rotated(path)


def test_a_brokers_grants_and_refusals_are_counted_as_they_were() -> None:
    """The lines add up to the grants and refusals, with causes and sources."""

    async def run() -> None:
        bench = Workbench(ScriptedSource("stick", seed=1), capacity_bytes=4096)
        broker = bench.broker
        with pytest.raises(NoHealthySource):
            await broker.draw(consumer("web01"), DrawRequest(32, FULL))
        async with bench.run():
            await bench.until_filled()
            grants = [
                await broker.sign(await broker.draw(consumer("web01"), DrawRequest(n, FULL, receipt=n == 3)))
                for n in (1, 2, 3)
            ]
            with pytest.raises(DrawRefused):
                await broker.draw(consumer("web01"), DrawRequest(0, FULL))
            with pytest.raises(PermissionRefused):
                await broker.draw(consumer("stranger"), DrawRequest(1, FULL))
            lines = broker.tally.take()
        granted = [line for line in lines if line["event"] == "granted"]
        assert [(line["draws"], line["bytes"], line["sources"]) for line in granted] == [(3, 6, {"stick": 1})]
        assert granted[0]["receipts"] == 1
        assert granted[0]["last_serial"] == grants[2].serial
        causes = {(line["consumer"], line["cause"]): line["times"] for line in lines if line not in granted}
        assert causes == {
            ("web01", "NoHealthySource"): 1,
            ("web01", "DrawRefused"): 1,
            ("stranger", "PermissionRefused"): 1,
        }

    run_virtually(run())


def test_the_file_is_private_and_added_to(tmp_path: Path) -> None:
    """The mode is 0600 with any umask; each line is JSON; a restart appends."""
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
    assert without_chain(lines_of(path)) == [
        {"time": 1.5, "event": "x"},
        {"since": 1.0, "time": 1.5, "event": "y"},
        {"time": 2.5, "event": "x"},
        {"since": 1.0, "time": 2.5, "event": "y"},
    ]


def test_a_link_is_not_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A symbolic link is not written through; the lines go to the log."""
    (tmp_path / "audit.jsonl").symlink_to(tmp_path / "elsewhere")
    with caplog.at_level(logging.INFO):
        AuditLog(str(tmp_path / "audit.jsonl"), lambda: 0.0).write([{"event": "x"}])
    assert not (tmp_path / "elsewhere").exists()
    assert '"time":0.0,"event":"x"}' in caplog.text


def test_a_large_file_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full file is renamed to .1, and .1 to .2, without losing lines."""
    monkeypatch.setattr(audit_log, "ROTATE_BYTES", 400)
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
    """On a full disk every line goes to the log, and the error once."""
    log = AuditLog("/dev/full", lambda: 0.0)
    with caplog.at_level(logging.INFO, "drawwell.audit"):
        for number in range(3):
            log.write([{"event": number}])
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO", "INFO", "INFO"]
    assert "no space left" in log.fault


def test_a_device_keeps_its_mode() -> None:
    """Logging to a device does not change its permissions."""
    AuditLog("/dev/full", lambda: 0.0).write([{"event": 1}])
    assert os.stat("/dev/full").st_mode & 0o777 == 0o666


def test_without_a_file_the_lines_go_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """An empty path means the log "drawwell.audit", at level INFO."""
    with caplog.at_level(logging.INFO, "drawwell.audit"):
        AuditLog("", lambda: 1.0).write([{"event": "x"}])
    ((name, message),) = [(record.name, record.getMessage()) for record in caplog.records]
    assert (name, without_chain([json.loads(message)])) == ("drawwell.audit", [{"time": 1.0, "event": "x"}])


def test_a_restart_continues_the_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chain survives rotation, restart, a partial line and a full disk."""
    monkeypatch.setattr(audit_log, "ROTATE_BYTES", 500)
    path = tmp_path / "audit.jsonl"
    path.write_text('{"event":"of release 0.1"}\n')
    for life in range(6):
        log = AuditLog(str(path), lambda: 0.0)
        for number in range(5):
            log.write([{"event": number}])
        if life == 3:
            log._path, log._file = "/dev/full", -1
            log.write([{"event": "lost"}])
            log._path, log._file = str(path), -1
            log.write([{"event": "kept"}])
        log.close()
        with path.open("a") as file:
            file.write('{"n":')
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 5)
    check = ChainCheck("log")
    texts = [line for name in audit_log.files_of(str(path)) for line in Path(name).read_bytes().splitlines()]
    lines = [fields for fields, _ in check.read(texts)]
    check.finish(rotated=is_rotated(str(path)))
    assert check.faults == []
    assert (check.first, check.head, check.unchained) == (1, log.head, 1)
    assert [line["lines"] for line in lines if line["event"] == "written to the log"] == [1]


def test_operators_verbs_are_logged_without_secrets(tmp_path: Path) -> None:
    """Only changes are logged: no keys, signing requests or unknown arguments."""
    path = tmp_path / "audit.jsonl"
    log = AuditLog(str(path), lambda: 0.0)
    log.operator(
        "consumer.invite", {"name": "web01", "rate": "4KiB/s", "ssh_key": "ssh-ed25519 AAAA", "x": "y"}
    )
    log.operator("renew", {"name": "web01", "csr": "-----BEGIN"}, "PermissionRefused")
    assert without_chain(lines_of(path)) == [
        {"time": 0.0, "event": "consumer.invite", "name": "web01", "rate": "4KiB/s"},
        {"time": 0.0, "event": "renew", "name": "web01", "refused": "PermissionRefused"},
    ]
