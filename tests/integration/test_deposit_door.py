"""The sources' door: permissions, and sources that lie."""

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
    """A second name for a device in use is refused, at once or when opened."""

    async def run() -> None:
        one, two = ScriptedSource("one"), ScriptedSource("two", seed=2)
        two.identity = replace(two.identity, path="/dev/one")
        async with Well(folder / "s", min_sources=2).open() as well, depositing(folder / "s", one):
            await well.here("one")
            async with depositing(folder / "s", two) as (second,):
                await until(
                    lambda: "source one already reads /dev/one" in second.link.waiting_because,
                    "it is refused",
                )
                assert not well.broker.sources["two"].healthy
                assert well.broker.sources["one"].healthy

    asyncio.run(run())


def test_a_name_that_is_taken_is_refused(folder) -> None:
    """A second source with the same name waits and gets the reason."""

    async def run() -> None:
        async with Well(folder / "s").open() as well, depositing(folder / "s", ScriptedSource("stick")):
            remote = await well.here()
            async with depositing(folder / "s", ScriptedSource("stick", seed=1)) as (second,):
                await until(lambda: "is already connected" in second.link.waiting_because, "it is refused")
                assert remote.healthy
        bench = Workbench(ScriptedSource("own"))
        reception = RemoteSources(bench.broker, bench.supply)
        with pytest.raises(UsageError, match="itself runs a source named own"):
            reception.arrive(None, replace(HEALTHY, identity=SourceIdentity("own", "onerng", "/dev/x")))

    asyncio.run(run())


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        (b"\xff\x00\x00\x00", "unexpected frame"),
        (Deposit(575, 0, bytes(64)).encode(), "more bits than it assessed"),
        (Deposit(576, 0, bytes(64)).encode() * 2 + Deposit(575, 64, b"").encode(), "more bits than it assessed"),
        (bytes.fromhex("31000011") + bytes(17), "an output is incomplete"),
        (SourceStatus(replace(HEALTHY, state=SourceState.STARTING)).encode() + Deposit(9999, 0, bytes(64)).encode(),
         "was not healthy"),
        (SourceStatus(replace(HEALTHY, identity=SourceIdentity("other", "x", "y"))).encode(), "changed its name"),
        (Bye("enough").encode(), "ended: enough"),
    ],
)  # fmt: skip
def test_a_source_that_lies_is_dropped_and_the_picture_shows_why(folder, lie: bytes, why: str) -> None:
    """A source that violates the protocol or its counts is disconnected."""

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
    """If a source reports a tiny rate, others still have a finite wait."""

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


def test_a_source_that_sends_nothing_is_gone(folder) -> None:
    """A silent process is disconnected at the door's deadline."""

    async def run() -> None:
        # short: the time is the fact
        async with Well(folder / "s", limits=replace(LIMITS, idle_deadline_s=0.5)).open() as well:
            liar = await Liar.at(folder / "s")
            remote = await well.here("liar")
            await until(lambda: not remote.present, "it is gone")
            assert "sent nothing" in remote.report().last_error
            liar.writer.close()

    asyncio.run(run())


def test_one_that_was_no_real_noise_earns_no_credit_afterwards(folder) -> None:
    """Simulated bytes earn no credit even after their source is gone."""

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
            assert any("limits the kernel's credit" in note for note in well.broker.report().notes)
            liar.writer.close()

    asyncio.run(run())


def test_there_is_room_for_as_many_as_a_receipt_can_name(folder) -> None:
    """The oldest sources are forgotten first, but never a connected one."""

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
    """`min_sources` and the status count sources in both processes."""
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
                assert f"deposits {remote}: from root and the broker's own user" in status["doors"]
                assert status["ledger"]["balanced"]
                assert (await site.command("outside", "info"))["done"] == "info"
            assert "min_sources is 2" in (await site.ask("status"))["not_ready_because"]

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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_stranger_may_not_deposit(folder) -> None:
    """Only root, the broker's user and the configured account may deposit."""
    folder.chmod(0o755)
    greeting = Depositor().offer("x", HEALTHY).hex()

    async def knock(uid: int) -> str:
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", _KNOCK, str(folder / "s"), str(uid), greeting],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stdout.strip() or done.stderr.strip()

    async def run() -> None:
        async with Well(folder / "s", uid=ACCOUNT).open() as well:
            refused = bytes.fromhex(await knock(STRANGER))
            assert refused[0] == Refusal.TYPE
            assert b"user ID 65531 may not deposit bytes" in refused
            assert well.broker.sources == {}
            assert well.door.counts.unauthenticated == 1
            assert bytes.fromhex(await knock(ACCOUNT))[0] == Want.TYPE
            assert "liar" in well.broker.sources
        async with Well(folder / "s").open() as well:
            assert await knock(STRANGER) == "no entry"
            assert well.door.counts.accepted == 0

    asyncio.run(run())
