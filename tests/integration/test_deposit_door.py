"""Sources that deposit over a real socket: honest, dead, slow, lying, and strangers."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from drawwell.broker.broker import Rules
from drawwell.broker.remote_sources import RemoteSources
from drawwell.crypto.receipts import read_receipt
from drawwell.doors.deposit import LIMITS, DepositDoor
from drawwell.doors.door import Limits
from drawwell.entropy.blocks import DrawClass, DrawRequest
from drawwell.entropy.credit import evidence_of
from drawwell.errors import NoHealthySource, SourceRejected, SourceUnavailable, Starved, UsageError
from drawwell.reports import Evidence, SourceIdentity, SourceReport, SourceState
from drawwell.roles.source_process import LoneSource
from drawwell.service.systemd import Manager
from drawwell.simulator.pty import PtyDevice
from drawwell.testing.scripted import ScriptedSource
from drawwell.testing.waiting import DEADLINE_S, until
from drawwell.wire.deposit import Depositor
from drawwell.wire.deposit_frames import Deposit, SourceStatus, Want
from drawwell.wire.frames import Bye, Refusal
from drawwell.wire.refusals import to_refusal
from support.serving import serving
from support.station import Site, running
from support.workbench import CLAIM, Workbench, conditioned

SMALL = 16_384
STRANGER, ACCOUNT = 65_531, 65_532
HEALTHY = SourceReport(
    SourceIdentity("liar", "onerng", "/dev/liar"), SourceState.HEALTHY, False, 1, 0, 0, 0, 0, 0, 0.0, 0, 0, "",
)  # fmt: skip


class Well:
    """One life of a broker that runs no source, with its door for them."""

    def __init__(
        self, path: Path, *, uid: int | None = None, limits: Limits = LIMITS, min_sources: int = 1
    ) -> None:
        self.bench = Workbench(capacity_bytes=SMALL, rules=Rules("well", min_sources))
        self.broker = self.bench.broker
        self.reception = RemoteSources(self.broker, self.bench.supply)
        self.door = DepositDoor(str(path), self.reception, uid, limits=limits)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Well"]:
        async with self.bench.run(), serving(self.door):
            yield self

    def everything(self) -> bytes:
        """Take all that the reservoir holds."""
        return bytes(self.bench.supply.take(len(self.bench.supply.reservoir)).data)

    async def filled(self) -> None:
        await until(lambda: not self.bench.supply.wanted, "the reservoir was filled")

    async def here(self, name: str = "stick"):
        return await until(
            lambda: (s := self.broker.sources.get(name)) and s.healthy and s, f"{name} is here and healthy"
        )


@contextlib.asynccontextmanager
async def depositing(path: Path, *drivers: ScriptedSource) -> AsyncIterator[list[LoneSource]]:
    """Run each as a process of its own would, until the block ends or it ends by itself."""
    stop = asyncio.Event()
    sources = [LoneSource(driver, CLAIM, str(path), Manager({})) for driver in drivers]

    async def run(source: LoneSource) -> None:
        with contextlib.suppress(SourceUnavailable, SourceRejected):
            await source.run(stop)

    async with asyncio.TaskGroup() as group:
        for source in sources:
            group.create_task(run(source))
        try:
            yield sources
        finally:
            stop.set()


def pieces(data: bytes) -> list[bytes]:
    return [data[at : at + 64] for at in range(0, len(data), 64)]


def test_what_a_source_conditions_is_what_its_broker_serves(folder) -> None:
    """Every byte in the reservoir is the source's, in order and once; both give the same account."""

    async def run() -> None:
        stick = ScriptedSource("stick")
        async with Well(folder / "s").open() as well, depositing(folder / "s", stick) as (source,):
            remote = await well.here()
            await well.filled()
            taken = well.everything()
            await well.filled()
            taken += well.everything()
            assert conditioned(stick.gave[1:]).startswith(taken)
            assert len(taken) == 2 * SMALL
            await until(lambda: remote.report() == source.role.report(), "the counters were told")
            ledger = well.bench.supply.report()
            assert ledger.balanced
            assert ledger.conditioned_bits == source.role.report().conditioned_bits
            assert remote.supply_bytes_per_s == pytest.approx(source.role.supply_bytes_per_s)
            assert evidence_of(remote.origin.identity) is Evidence.NO_NOISE
            grant = await well.broker.draw(
                "web01", DrawRequest(32, DrawClass.DRBG, receipt=True, patience_s=DEADLINE_S)
            )
            assert [(s.name, s.kind, s.state) for s in read_receipt(grant.receipt).sources] == [
                ("stick", "scripted", "healthy")
            ]

    asyncio.run(run())


def test_a_source_outlives_its_broker_and_sends_nothing_of_before(folder) -> None:
    """A broker that dies and comes back gets bytes conditioned after that; no start-up tests run again."""

    async def run() -> None:
        stick = ScriptedSource("stick")
        lives: list[list[bytes]] = []
        async with depositing(folder / "s", stick) as (source,):
            for _ in range(3):
                before = len(stick.gave)
                async with Well(folder / "s").open() as well:
                    await well.filled()
                    got = well.everything()
                    await until(lambda: len(well.bench.supply.reservoir) > 640, "it goes on")
                    got += well.everything()
                lives.append(pieces(got))
                later = [
                    pieces(conditioned(stick.gave[start:]))
                    for start in range(max(1, before), len(stick.gave))
                ]
                assert any(lives[-1][:50] == each[:50] for each in later)
                await until(lambda: source.link.waiting_because, "the loss is noticed")
            assert source.role.report().health_epoch == 1
        everything = [piece for life in lives for piece in life]
        assert len(everything) == len(set(everything))

    asyncio.run(run())


def test_a_source_that_is_gone_is_said_to_be_and_may_come_back(folder) -> None:
    """When its process ends the broker says why and serves nothing; another process of that name is taken in."""

    async def run() -> None:
        async with Well(folder / "s").open() as well:
            stick = ScriptedSource("stick")
            async with depositing(folder / "s", stick):
                remote = await well.here()
                stick.unplugged = True
                await until(lambda: not remote.present, "it is gone")
            report = remote.report()
            assert (report.state, report.last_error) == (
                SourceState.OFF, "its process ended: /dev/stick was unplugged",
            )  # fmt: skip
            with pytest.raises(NoHealthySource, match="0 of 1"):
                await well.broker.draw("web01", DrawRequest(1, DrawClass.DRBG))
            with pytest.raises(SourceUnavailable, match="unplugged") as refused:
                await remote.command("info", {})
            assert "drawwell source run stick" in str(refused.value.hint)
            async with depositing(folder / "s", ScriptedSource("stick", seed=1)):
                assert await well.here() is remote

    asyncio.run(run())


def test_two_sources_deposit_and_each_is_counted(folder) -> None:
    """min_sources is over all that are here; one that goes makes the broker unready, and the other goes on."""

    async def run() -> None:
        async with Well(folder / "s", min_sources=2).open() as well:
            one, two = ScriptedSource("one"), ScriptedSource("two", seed=2)
            async with depositing(folder / "s", one, two):
                await well.here("one")
                await well.here("two")
                assert well.broker.not_ready_because() == ""
                two.unplugged = True
                await until(lambda: well.broker.healthy_sources() == 1, "one is gone")
                assert well.broker.not_ready_because() == "1 of 2 noise sources healthy, 2 needed"

    asyncio.run(run())


def test_sources_that_deposit_are_combined(folder) -> None:
    """With two needed, each 64 bytes are the XOR of an output of each process, and none is one of them."""

    async def run() -> None:
        one, two = ScriptedSource("one"), ScriptedSource("two", seed=2)
        async with (
            Well(folder / "s", min_sources=2).open() as well,
            depositing(folder / "s", one, two),
        ):
            await well.filled()
            taken = well.bench.supply.take(SMALL)
            assert well.bench.supply.report().balanced
        first, second = (
            {int.from_bytes(each) for each in pieces(conditioned(driver.gave[1:]))} for driver in (one, two)
        )
        served = [int.from_bytes(each) for each in pieces(bytes(taken.data))]
        assert all(any(each ^ other in second for other in first) for each in served)
        assert not set(served) & (first | second)
        assert {each.identity.name for each in taken.origins} == {"one", "two"}

    asyncio.run(run())


def test_two_processes_that_deposit_the_same_fail_for_good(folder) -> None:
    """Both are latched at the broker, over a restart of their processes too, until the operator's reset."""

    async def run() -> None:
        async with Well(folder / "s", min_sources=2).open() as well:
            async with depositing(folder / "s", ScriptedSource("one", seed=5), ScriptedSource("two", seed=5)):
                await until(
                    lambda: (
                        [each.report().state for each in well.broker.sources.values()]
                        == [SourceState.PERMANENT_FAILURE] * 2
                    ),
                    "both are latched",
                )
                assert len(well.bench.supply.reservoir) == 0
            async with depositing(folder / "s", ScriptedSource("one", seed=6)):
                one = well.broker.sources["one"]
                await until(lambda: one.present, "another process of it is here")
                assert not one.healthy
                assert "they are one source" in one.report().last_error
                await one.command("reset", {})
                await until(lambda: one.healthy, "it may be used again")

    asyncio.run(run())


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


def test_an_operators_verbs_reach_the_source_and_its_answers_come_back(folder) -> None:
    """Results, refusals and their hints are the source's own; when it goes, whoever waits is told."""

    async def run() -> None:
        async with Well(folder / "s").open() as well:
            stick = ScriptedSource("stick")
            async with depositing(folder / "s", stick), asyncio.TaskGroup() as group:
                remote = await well.here()
                assert await remote.command("info", {}) == {"done": "info"}
                with pytest.raises(UsageError, match="no verb 'nonsense'"):
                    await remote.command("nonsense", {})
                assert await remote.command("pause", {}) == {"done": "pause"}
                assert not remote.healthy
                await remote.command("resume", {})
                assert len((await remote.command("sample", {"bytes": 64}))["data"]) == 88
                stick.at_command.append(asyncio.Event())
                asked = group.create_task(_outcome(remote.command("info", {})))
                await until(lambda: not stick.at_command, "it is being carried out")
                well.door.drop_all()
                assert await asked == "SourceUnavailable"

    asyncio.run(run())


async def _outcome(asked) -> str:
    try:
        await asked
    except Exception as error:  # noqa: BLE001
        return type(error).__name__
    return "done"


def test_a_copied_machine_has_its_sources_begin_anew(folder) -> None:
    """Nothing that was on its way is used: the source runs its start-up tests, and what it sends then is new."""

    async def run() -> None:
        stick = ScriptedSource("stick")
        async with Well(folder / "s").open() as well, depositing(folder / "s", stick) as (source,):
            remote = await well.here()
            await until(lambda: len(well.bench.supply.reservoir) > 640, "it deposits")
            well.bench.supply.wipe()
            remote.restart()
            assert not remote.healthy
            read = len(stick.gave)
            await well.here()
            await until(lambda: len(well.bench.supply.reservoir) > 640, "it deposits again")
            taken = pieces(well.everything())
            assert any(
                pieces(conditioned(stick.gave[start:]))[: len(taken)] == taken
                for start in range(read, len(stick.gave))
            )
            assert source.role.report().health_epoch == 2
            assert well.bench.supply.report().balanced

    asyncio.run(run())


def test_a_source_that_is_not_read_stops(folder) -> None:
    """A broker that does not read gets no more than the buffers hold; the source rests, and goes on when it reads."""

    async def run() -> None:
        stick = ScriptedSource("stick")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            listener.bind(str(folder / "s"))
            listener.listen()
            listener.setblocking(False)
            loop = asyncio.get_running_loop()
            async with depositing(folder / "s", stick) as (source,):
                broker, _ = await loop.sock_accept(listener)
                with broker:
                    await loop.sock_sendall(broker, Want(True).encode())
                    await until(lambda: source.link.wanted, "it was taken")
                    await until(lambda: not source.link.wanted, "it is not read")
                    blocks = len(stick.gave)
                    lost = source.role.report().conditioned_bits
                    while not source.link.wanted:
                        await loop.sock_recv(broker, 65_536)
                    await until(lambda: len(stick.gave) > blocks, "it goes on")
                    assert source.role.report().conditioned_bits >= lost

    asyncio.run(run())


class Liar:
    """Whoever speaks the protocol by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def at(cls, path: Path, report: SourceReport = HEALTHY) -> "Liar":
        liar = cls(*await asyncio.open_unix_connection(str(path)))
        liar.writer.write(Depositor().offer("x", report))
        return liar

    async def says(self, data: bytes) -> bytes:
        """Say it, and hear everything up to the end."""
        self.writer.write(data)
        heard = await self.reader.read()
        self.writer.close()
        return heard


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
            await liar.says(lie)
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
                await well.broker.draw("web01", DrawRequest(64, DrawClass.FULL))
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


def test_whoever_started_the_source_is_told_how_it_does(folder) -> None:
    """READY comes with its health, the status line says what is so, and at the end that it is stopping."""

    async def run() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.bind(str(folder / "notify"))
            told.setblocking(False)
            heard: list[str] = []
            asyncio.get_running_loop().add_reader(told, lambda: heard.append(told.recv(4096).decode()))
            manager = Manager({"NOTIFY_SOCKET": str(folder / "notify")})
            source = LoneSource(ScriptedSource("stick"), CLAIM, str(folder / "s"), manager)
            stop = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                group.create_task(source.run(stop))
                ready = await until(lambda: [each for each in heard if "READY=1" in each], "it is ready")
                assert "STATUS=healthy" in ready[0]
                assert "waiting: no broker takes deposits" in ready[0]
                async with Well(folder / "s").open() as well:
                    await well.here()
                    await until(
                        lambda: [each for each in heard if "healthy" in each and "waiting" not in each],
                        "it says that it deposits",
                    )
                stop.set()
            await until(lambda: [each for each in heard if "STOPPING=1" in each], "it says that it stops")
            asyncio.get_running_loop().remove_reader(told)

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
