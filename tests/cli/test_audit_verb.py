"""``drawwell audit verify`` with the log of a real broker."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from drawwell.entropy.blocks import DrawClass
from drawwell.errors import DrawwellError
from drawwell.simulator.pty import PtyDevice
from support.daemon import command
from support.station import Site, running


def verify(site: Site, *options: str) -> tuple[int, dict]:
    done = command("audit", "verify", "--json", *options, config=site.path)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, Path]:
    """Run a broker that grants and refuses; return its site and a receipt."""
    folder = tmp_path_factory.mktemp("w")
    site, receipt = Site(folder), folder / "receipt"

    async def run() -> None:
        async with PtyDevice(folder / "stick", rate=0), running(site) as process:
            await site.until_healthy()
            link = site.link(await site.enrol("web01"))
            await link.draw(32, DrawClass.FULL)
            for _ in range(50):
                with suppress(DrawwellError):
                    await link.call("renew", {"csr": "none"})
            assert process.station
            await process.station._auditor.settle()
            receipt.write_bytes((await link.draw(32, DrawClass.FULL, receipt=True)).receipt)
            await link.aclose()

    asyncio.run(run())
    return site, receipt


@contextmanager
def changed(path: Path, lines: list[bytes]) -> Iterator[None]:
    before = path.read_bytes()
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    try:
        yield
    finally:
        path.write_bytes(before)


def test_an_unchanged_log_has_no_faults(lived: tuple[Site, Path]) -> None:
    """Each log is signed to its end, and the receipt matches a line."""
    site, receipt = lived
    status, found = verify(site, "--receipt", str(receipt))
    assert (status, found["good"], found["faults"], found["unsigned_lines"]) == (0, True, [], 0)
    assert [log["first"] for log in found["logs"]] == [1, 1]


def test_refused_verbs_of_a_consumer_are_one_line(lived: tuple[Site, Path]) -> None:
    """Fifty refusals in a minute are one line, and not in the operators' log."""
    site, _ = lived
    log, operators = (
        [json.loads(line) for line in (site.folder / "state" / name).read_text().splitlines()]
        for name in ("audit.jsonl", "audit-operators.jsonl")
    )
    assert [(each["consumer"], each["verb"], each["times"]) for each in log if each["event"] == "asked"] == [
        ("web01", "renew", 50)
    ]
    assert [each["event"] for each in operators] == ["started", "consumer.invite", "join", "stopped"]


@pytest.mark.parametrize("name", ["audit.jsonl", "audit-operators.jsonl"])
def test_any_removed_or_changed_line_is_found(lived: tuple[Site, Path], name: str) -> None:
    """The head at the end signs both logs up to their last lines."""
    site, _ = lived
    path = site.folder / "state" / name
    lines = path.read_bytes().splitlines()
    last = len(lines) - (name == "audit.jsonl")  # the last line of the log is the signed head itself
    for at in range(1, last):
        with changed(path, lines[:at] + lines[at + 1 :]):
            assert verify(site)[0] == 1
    with changed(path, [*lines[:1], lines[1].replace(b'"time":', b'"time":1'), *lines[2:]]):
        assert verify(site)[0] == 1


@pytest.mark.parametrize("name", ["audit.jsonl", "audit-operators.jsonl"])
def test_a_cut_front_and_an_empty_log_are_found(lived: tuple[Site, Path], name: str) -> None:
    """Without a rotation, both logs must start with line 1."""
    site, _ = lived
    path = site.folder / "state" / name
    with changed(path, path.read_bytes().splitlines()[1:]):
        assert any("lines 1 to 1 were removed" in each for each in verify(site)[1]["faults"])
    for log in (site.folder / "state").glob("audit*.jsonl"):
        with changed(log, []):
            status, found = verify(site)
            assert status == 1
            assert any("the log is empty" in each for each in found["faults"])


def test_a_cut_end_is_found_with_a_receipt_or_a_kept_head(lived: tuple[Site, Path]) -> None:
    """A receipt and a head refer to the missing line; a false head is refused."""
    site, receipt = lived
    path = site.folder / "state" / "audit.jsonl"
    lines = path.read_bytes().splitlines()
    kept = site.folder / "head"
    kept.write_bytes(lines[-1])
    assert verify(site, "--head", str(kept))[0] == 0
    with changed(path, lines[:1]):
        assert verify(site)[1]["unsigned_lines"] == 3, "those of the operators' log, as after a crash"
        status, found = verify(site, "--receipt", str(receipt))
        assert status == 1
        assert any("the end is missing" in each and "receipt" in each for each in found["faults"])
        assert any("the end is missing" in each for each in verify(site, "--head", str(kept))[1]["faults"])
    kept.write_bytes(lines[-1].replace(b'"time_s":1', b'"time_s":2'))
    assert command("audit", "verify", "--head", str(kept), config=site.path).returncode == 77


def test_a_file_without_a_key_is_refused(lived: tuple[Site, Path]) -> None:
    """A wrong --key is an error of the command, not a fault of the log."""
    site, receipt = lived
    for more in ([], ["--receipt", str(receipt)]):
        done = command("audit", "verify", "--key", str(receipt), *more, config=site.path)
        assert done.returncode == 64, done.stderr


def test_a_head_with_a_number_as_text_is_a_fault(lived: tuple[Site, Path]) -> None:
    """The line is refused even though its signature matches the number."""
    site, _receipt = lived
    path = site.folder / "state" / "audit.jsonl"
    *lines, last = path.read_bytes().splitlines()
    number = str(json.loads(last)["count"])
    with changed(path, [*lines, last.replace(f'"count":{number}'.encode(), f'"count":"{number}"'.encode())]):
        status, found = verify(site)
    assert status == 1
    assert any("is not a head" in each for each in found["faults"])
