"""Sources that deposit over a real socket, with restarts on both sides."""

import asyncio
import socket

import pytest

from drawwell.crypto.receipts import read_receipt
from drawwell.entropy.blocks import DrawClass, DrawRequest
from drawwell.entropy.credit import evidence_of
from drawwell.errors import NoHealthySource, SourceUnavailable, UsageError
from drawwell.reports import Evidence, SourceState
from drawwell.roles.source_process import LoneSource
from drawwell.service.systemd import Manager
from drawwell.testing.scripted import ScriptedSource
from drawwell.testing.waiting import DEADLINE_S, until
from drawwell.wire.deposit_frames import Want
from support.deposits import SMALL, Well, depositing, pieces
from support.principals import consumer
from support.workbench import CLAIM, conditioned


def test_what_a_source_conditions_is_what_its_broker_serves(folder) -> None:
    """Every byte arrives once and in order; both sides count the same."""

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
            await until(lambda: remote.report() == source.role.report(), "the counters arrived")
            ledger = well.bench.supply.report()
            assert ledger.balanced
            assert ledger.conditioned_bits == source.role.report().conditioned_bits
            assert remote.supply_bytes_per_s == pytest.approx(source.role.supply_bytes_per_s)
            assert evidence_of(remote.origin.identity) is Evidence.NO_NOISE
            grant = await well.broker.draw(
                consumer("web01"), DrawRequest(32, DrawClass.DRBG, receipt=True, patience_s=DEADLINE_S)
            )
            grant = await well.broker.sign(grant)
            assert [(s.name, s.kind, s.state) for s in read_receipt(grant.receipt).sources] == [
                ("stick", "scripted", "healthy")
            ]

    asyncio.run(run())


def test_a_source_outlives_its_broker_and_sends_nothing_of_before(folder) -> None:
    """A restarted broker gets new bytes, without new start-up tests."""

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
    """If a process ends, the broker reports the reason and refuses draws."""

    async def run() -> None:
        async with Well(folder / "s").open() as well:
            stick = ScriptedSource("stick")
            async with depositing(folder / "s", stick):
                remote = await well.here()
                stick.unplugged = True
                await until(lambda: not remote.present, "it is gone")
            report = remote.report()
            assert (report.state, report.last_error) == (
                SourceState.OFF, "the source's process ended: /dev/stick was unplugged",
            )  # fmt: skip
            with pytest.raises(NoHealthySource, match="0 of 1"):
                await well.broker.draw(consumer("web01"), DrawRequest(1, DrawClass.DRBG))
            with pytest.raises(SourceUnavailable, match="unplugged") as refused:
                await remote.command("info", {})
            assert "drawwell source run stick" in str(refused.value.hint)
            async with depositing(folder / "s", ScriptedSource("stick", seed=1)):
                assert await well.here() is remote

    asyncio.run(run())


def test_two_sources_deposit_and_each_is_counted(folder) -> None:
    """min_sources counts connected sources; losing one makes it not ready."""

    async def run() -> None:
        async with Well(folder / "s", min_sources=2).open() as well:
            one, two = ScriptedSource("one"), ScriptedSource("two", seed=2)
            async with depositing(folder / "s", one, two):
                await well.here("one")
                await well.here("two")
                assert well.broker.not_ready_because() == ""
                two.unplugged = True
                await until(lambda: well.broker.healthy_sources() == 1, "one is gone")
                assert (
                    well.broker.not_ready_because()
                    == "1 of 2 noise sources are healthy, but min_sources is 2"
                )

    asyncio.run(run())


def test_sources_that_deposit_are_combined(folder) -> None:
    """With two needed, each 64 bytes are the XOR of one output from each."""

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
    """Both sources stay failed across restarts until the operator resets them."""

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
                assert "both are the same source" in one.report().last_error
                await one.command("reset", {})
                await until(lambda: one.healthy, "it may be used again")

    asyncio.run(run())


def test_an_operators_verbs_reach_the_source_and_its_answers_come_back(folder) -> None:
    """Results and errors are relayed; callers are notified if the source ends."""

    async def run() -> None:
        async with Well(folder / "s").open() as well:
            stick = ScriptedSource("stick")
            async with depositing(folder / "s", stick), asyncio.TaskGroup() as group:
                remote = await well.here()
                assert await remote.command("info", {}) == {"done": "info"}
                with pytest.raises(UsageError, match="unknown verb 'nonsense'"):
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


def test_a_copied_machine_restarts_its_sources(folder) -> None:
    """Bytes in transit are dropped, and the start-up tests run again."""

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
    """The source pauses while the broker does not read, within its buffers."""

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


def test_the_service_manager_gets_the_state_of_the_source(folder) -> None:
    """READY has the health, STATUS the state; STOPPING comes at the end."""

    async def run() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(folder / "notify"))
            notify.setblocking(False)
            received: list[str] = []
            asyncio.get_running_loop().add_reader(notify, lambda: received.append(notify.recv(4096).decode()))
            manager = Manager({"NOTIFY_SOCKET": str(folder / "notify")})
            source = LoneSource(ScriptedSource("stick"), CLAIM, str(folder / "s"), manager)
            stop = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                group.create_task(source.run(stop))
                ready = await until(lambda: [each for each in received if "READY=1" in each], "it is ready")
                assert "STATUS=healthy" in ready[0]
                assert "waiting: no broker accepts deposits" in ready[0]
                async with Well(folder / "s").open() as well:
                    await well.here()
                    await until(
                        lambda: [each for each in received if "healthy" in each and "waiting" not in each],
                        "it reports that it deposits",
                    )
                stop.set()
            await until(
                lambda: [each for each in received if "STOPPING=1" in each], "it reports that it stops"
            )
            asyncio.get_running_loop().remove_reader(notify)

    asyncio.run(run())
