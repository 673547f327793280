"""``drawwell fleet status`` and doctor, with a real PostgreSQL."""

import asyncio
import json
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from drawwell.cli.doctor.fleet import fleet_findings
from drawwell.config.load import load
from drawwell.entropy.blocks import DrawClass
from drawwell.testing.waiting import DEADLINE_S, LOOK_EVERY_S
from support.fleet import FleetSites
from support.station import Site, running

pytestmark = pytest.mark.slow


def drawwell(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command with a site's configuration."""
    command = [sys.executable, "-m", "drawwell", "-c", str(site.path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def watched(site: Site) -> int:
    """Interrupt ``--watch`` when it has printed twice; return its exit code."""
    command = [sys.executable, "-m", "drawwell", "-c", str(site.path), "fleet", "status", "--watch", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        ends = (line for line in process.stdout if line == "}\n")
        assert len(list(islice(ends, 2))) == 2
        process.send_signal(signal.SIGINT)
    return process.returncode


async def seen(site: Site) -> dict[str, dict[str, Any]]:
    """Return the brokers that a site reports, by name."""
    fleet = (await site.ask("status"))["fleet"]
    return {each["name"]: each for each in fleet["brokers"]}


def test_each_broker_shows_the_fleet(folder: Path, fleet_database: Any) -> None:
    """Both brokers are listed with sticks, leases and addresses."""
    fleet = FleetSites(folder, fleet_database, ("a", "b"))
    a, b = fleet.sites

    async def scenario() -> None:
        async with fleet.running():
            identity = await fleet.enrol("web01", a, quota="64KiB/week")
            link = b.link(identity)
            await link.draw(8, DrawClass.DRBG)
            await link.aclose()
            await until_seen(a, lambda brokers: brokers["site-b"]["leased_bytes"] == 8192 - 8)
            done = await asyncio.to_thread(drawwell, a, "fleet", "status", "--json")
            check(done)
            text = (await asyncio.to_thread(drawwell, b, "fleet", "status")).stdout
            assert "fleet test: 2 brokers, store answers in" in text
            assert "1 of 1 healthy" in text
            assert await asyncio.to_thread(watched, a) == 130
            line = await asyncio.to_thread(drawwell, a, "check-health")
            assert line.stdout.startswith("DRAWWELL")
            (folder / "a/owner").unlink()
            refused = await asyncio.to_thread(drawwell, b, "consumer", "invite", "web02")
            assert "does not have the role of the fleet's owner" in refused.stderr

    def check(done: subprocess.CompletedProcess[str]) -> None:
        shown = json.loads(done.stdout)
        assert [each["name"] for each in shown["brokers"]] == ["site-a", "site-b"]
        assert all(each["ready"] and len(each["certificate"]) == 64 for each in shown["brokers"])
        assert shown["brokers"][1]["addresses"] == [b.tls]
        assert {source["name"] for each in shown["brokers"] for source in each["sources"]} == {"stick"}
        assert shown["replication"] == "single"
        assert done.returncode == (1 if shown["problems"] else 0)
        assert not any("store" in each["what"] for each in shown["problems"])

    asyncio.run(scenario())


async def until_seen(site: Site, holds: Any) -> None:
    """Wait until the brokers reported by a site are as wanted."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            brokers = await seen(site)
            if len(brokers) == 2 and holds(brokers):
                return
            await asyncio.sleep(LOOK_EVERY_S)


def test_a_broker_of_no_fleet_names_the_command(folder: Path) -> None:
    """The error contains the next command to type."""
    site = Site(folder, sticks=())

    async def scenario() -> None:
        site.write('[[source]]\ndriver = "chardev"\npath = "/dev/zero"\nmin_entropy = 1.0')
        async with running(site):
            done = await asyncio.to_thread(drawwell, site, "fleet", "status")
            assert (done.returncode, "drawwell fleet init" in done.stderr) == (64, True)

    asyncio.run(scenario())


def test_the_doctor_looks_at_the_store_of_a_broker_that_is_not_up(folder: Path, fleet_database: Any) -> None:
    """Without a broker, doctor queries the store; problems have hints."""
    site = FleetSites(folder, fleet_database, ("a",)).sites[0]
    assert fleet_findings_of(site) == [("good", "the store answers, single; its schema matches this version")]
    silent = {"unanswered": "no welcome within 10 s"}
    assert [each.level for each in fleet_findings(silent, load(str(site.path)))] == ["good"]
    text = site.path.read_text()
    site.path.write_text(text.replace("dbname=", "dbname=no"))
    ((level, what),) = fleet_findings_of(site)
    assert (level, "does not exist" in what) == ("problem", True)


def fleet_findings_of(site: Site) -> list[tuple[str, str]]:
    """Return level and text of doctor's findings about the fleet."""
    findings = json.loads(drawwell(site, "doctor", "--json").stdout)["findings"]
    found = [each for each in findings if each["subject"] == "fleet"]
    assert all(each["hint"] for each in found if each["level"] == "problem")
    return [(each["level"], each["words"]) for each in found]  # wording: a JSON key
