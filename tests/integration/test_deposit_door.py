"""The door for sources: who may deposit, and lies at it."""

import asyncio
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from drawwell.broker.remote_sources import RemoteSources
from drawwell.doors.deposit import LIMITS
from drawwell.entropy.blocks import DrawClass, DrawRequest
from drawwell.entropy.credit import evidence_of
from drawwell.errors import Starved, UsageError
from drawwell.reports import Evidence, SourceIdentity, SourceState
from drawwell.simulator.pty import PtyDevice
from drawwell.testing.scripted import ScriptedSource
from drawwell.testing.waiting import until
from drawwell.wire.deposit import Depositor
from drawwell.wire.deposit_frames import Deposit, SourceStatus, Want
from drawwell.wire.frames import Bye, Refusal
from drawwell.wire.refusals import to_refusal
from support.deposits import HEALTHY, Liar, Well, depositing
from support.principals import consumer
from support.station import Site, running
from support.workbench import Workbench

STRANGER, ACCOUNT = 65_531, 65_532


def test_one_device_deposits_under_one_name(folder) -> None:
    """A second name of a device that is read already is refused, at once or when the device is opened."""

    async def run() -> None:
        one, two = ScriptedSource("one"), ScriptedSource("two", seed=2)
        two.identity = replace(two.identity, path="/dev/one")
        async with Well(folder / "s", min_sources=2).open() as well, depositing(folder / "s", one):
            await well.here("one")
            async with depositing(folder / "s", two) as (second,):
                await until(
                    lambda: "/dev/one is the device that source one reads" in second.link.waiting_because,
                    "it is refused",
                )
                assert not well.broker.sources["two"].healthy
                assert well.broker.sources["one"].healthy

    asyncio.run(run())


def test_a_name_that_is_taken_is_refused(folder) -> None:
    """The second source of a name waits and is told why; so is one of the name of the broker's own."""

    async def run() -> None:
        async with Well(folder / "s").open() as well, depositing(folder / "s", ScriptedSource("stick")):
            remote = await well.here()
            async with depositing(folder / "s", ScriptedSource("stick", seed=1)) as (second,):
                await until(lambda: "deposits here already" in second.link.waiting_because, "it is refused")
                assert remote.healthy
        bench = Workbench(ScriptedSource("own"))
        reception = RemoteSources(bench.broker, bench.supply)
        with pytest.raises(UsageError, match="runs a source named own itself"):
            reception.arrive(None, replace(HEALTHY, identity=SourceIdentity("own", "onerng", "/dev/x")))

    asyncio.run(run())


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        (b"\xff\x00\x00\x00", "not expected"),
        (Deposit(575, 0, bytes(64)).encode(), "more than was assessed"),
        (Deposit(576, 0, bytes(64)).encode() * 2 + Deposit(575, 64, b"").encode(), "more than was assessed"),
        (bytes.fromhex("31000011") + bytes(17), "whole outputs"),
        (SourceStatus(replace(HEALTHY, state=SourceState.STARTING)).encode() + Deposit(9999, 0, bytes(64)).encode(),
         "not call itself healthy"),
        (SourceStatus(replace(HEALTHY, identity=SourceIdentity("other", "x", "y"))).encode(), "changed its name"),
        (Bye("enough").encode(), "ended: enough"),
    ],
)  # fmt: skip
def test_a_source_that_lies_is_dropped_and_the_picture_says_why(folder, lie: bytes, why: str) -> None:
    """Garbage, more bytes than were assessed, bytes of an unhealthy source: it ends there, and law 4 holds."""

    async def run() -> None:
        async with Well(folder / "s").open() as well:
            liar = await Liar.at(folder / "s")
            await well.here("liar")
            await liar.send(lie)
            remote = well.broker.sources["liar"]
            await until(lambda: not remote.present, "it is gone")
            assert why in remote.report().last_error
            assert well.bench.supply.report().balanced
            assert well.broker.healthy_sources() == 0

    asyncio.run(run())


def test_a_source_that_calls_itself_next_to_nothing_does_no_harm(folder) -> None:
    """Whoever is starved by its rate is told a wait that can be said."""

    async def run() -> None:
        async with Well(folder / "s").open() as well:
            slow = replace(HEALTHY, tested_bytes=1, conditioned_bits=8, raw_rate_bytes_per_s=5e-324)
            liar = await Liar.at(folder / "s", slow)
            await well.here("liar")
            with pytest.raises(Starved) as refused:
                await well.broker.draw(consumer("web01"), DrawRequest(64, DrawClass.FULL))
            assert to_refusal(1, refused.value).encode()
            liar.writer.close()

    asyncio.run(run())


def test_a_source_that_says_nothing_is_gone(folder) -> None:
    """A process that hangs is not counted on for longer than the door's deadline."""

    async def run() -> None:
        # short: the time is the fact
        async with Well(folder / "s", limits=replace(LIMITS, idle_deadline_s=0.5)).open() as well:
            liar = await Liar.at(folder / "s")
            remote = await well.here("liar")
            await until(lambda: not remote.present, "it is gone")
            assert "said nothing" in remote.report().last_error
            liar.writer.close()

    asyncio.run(run())


def test_one_that_was_no_real_noise_earns_no_credit_afterwards(folder) -> None:
    """What a simulated source left in the reservoir is never credited, though it is gone, or comes back as another."""

    async def run() -> None:
        async with Well(folder / "s").open() as well:
            async with depositing(folder / "s", ScriptedSource("liar")):
                await well.here("liar")
                assert well.broker.evidence is Evidence.NO_NOISE
            await until(lambda: not well.broker.sources["liar"].present, "it is gone")
            assert well.broker.evidence is Evidence.NO_NOISE
            liar = await Liar.at(folder / "s")
            await well.here("liar")
            assert evidence_of(well.broker.sources["liar"].origin.identity) is Evidence.DEVICE
            assert well.broker.evidence is Evidence.NO_NOISE
            assert any("decide a kernel's credit" in note for note in well.broker.report().notes)
            liar.writer.close()

    asyncio.run(run())


def test_there_is_room_for_as_many_as_a_receipt_can_name(folder) -> None:
    """Sources that are gone are forgotten for newcomers, the one that came first, but none that is here."""

    async def run() -> None:
        well = Well(folder / "s")

        def come(name: str, *, simulated: bool = False):
            identity = SourceIdentity(name, "onerng", f"/dev/{name}", simulated=simulated)
            return well.reception.arrive(well.door._connection(), replace(HEALTHY, identity=identity))

        here = [come(f"s{number}", simulated=number == 7) for number in range(32)]
        with pytest.raises(UsageError, match="room for 32"):
            come("one-more")
        here[9].leave("gone")
        here[7].leave("gone")
        well.bench.put(bytes(64))
        come("one-more")
        assert "s7" not in well.broker.sources
        assert len(well.bench.supply.reservoir) == 0, "no byte comes of a source that a receipt cannot name"
        assert "s9" in well.broker.sources
        assert well.broker.evidence is Evidence.NO_NOISE, "it was no real noise, and it is not forgotten"

    asyncio.run(run())


def test_a_broker_with_a_source_of_its_own_takes_in_another(folder) -> None:
    """One stick in the broker's process and one outside are counted alike, in `min_sources` and in the picture."""
    site = Site(folder, broker="deposits = true\nmin_sources = 2")

    async def run() -> None:
        remote = folder / "run" / "source.sock"
        async with PtyDevice(folder / "stick", rate=0), running(site) as process:
            await until(lambda: process.station.broker.healthy_sources() == 1, "its own is healthy")
            assert process.station.broker.not_ready_because()
            async with depositing(remote, ScriptedSource("outside")):
                status = await site.until_healthy(2)
                assert status["ready"]
                assert [each["identity"]["name"] for each in status["sources"]] == ["stick", "outside"]
                assert f"deposits {remote}: root and the broker's own user may" in status["doors"]
                assert status["ledger"]["balanced"]
                assert (await site.command("outside", "info"))["done"] == "info"
            assert "2 needed" in (await site.ask("status"))["not_ready_because"]

    asyncio.run(run())


_KNOCK = """
import os, socket, sys
os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
with socket.socket(socket.AF_UNIX) as s:
    try:
        s.connect(sys.argv[1])
    except PermissionError:
        sys.exit("no entry")
    s.sendall(bytes.fromhex(sys.argv[3]))
    s.settimeout(300)
    print(s.recv(4096).hex())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_stranger_may_not_deposit(folder) -> None:
    """The kernel says who comes: only root, the broker's own user and the account that was named are let in."""
    folder.chmod(0o755)
    words = Depositor().offer("x", HEALTHY).hex()

    async def knock(uid: int) -> str:
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", _KNOCK, str(folder / "s"), str(uid), words],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stdout.strip() or done.stderr.strip()

    async def run() -> None:
        async with Well(folder / "s", uid=ACCOUNT).open() as well:
            refused = bytes.fromhex(await knock(STRANGER))
            assert refused[0] == Refusal.TYPE
            assert b"user number 65531 may not deposit" in refused
            assert well.broker.sources == {}
            assert well.door.counts.unauthenticated == 1
            assert bytes.fromhex(await knock(ACCOUNT))[0] == Want.TYPE
            assert "liar" in well.broker.sources
        async with Well(folder / "s").open() as well:
            assert await knock(STRANGER) == "no entry"
            assert well.door.counts.accepted == 0

    asyncio.run(run())
