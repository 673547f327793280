"""A complete broker with simulated sticks: pulled, failing, paused."""

import asyncio
import base64

import pytest

from drawwell.entropy.blocks import DrawClass
from drawwell.errors import DrawwellError, NoHealthySource, SourceUnavailable
from drawwell.links.unix import UnixLink
from drawwell.simulator.pty import PtyDevice
from drawwell.testing.waiting import until
from support.station import Site, running

pytestmark = pytest.mark.slow


def source_of(process, name: str = "stick"):
    return process.station.broker.sources[name]


async def outcome(asked) -> str:
    try:
        await asked
    except DrawwellError as error:
        return type(error).__name__
    return "done"


def test_a_stick_pulled_in_the_middle_of_a_read_is_named_and_comes_back(folder) -> None:
    """Unplugging is a named error; a replug runs the start-up tests."""
    site = Site(folder)

    async def run() -> None:
        async with PtyDevice(folder / "stick", seed=1, rate=0) as stick, running(site) as process:
            await site.until_healthy()
            link = UnixLink(site.draw_socket)
            await drain(link)
            assert process.station.broker.sources["stick"]._depot.wanted
            stick.unplug()
            await until(lambda: not source_of(process).healthy, "it is found out")
            report = source_of(process).report()
            assert "unplugged" in report.last_error or "not there" in report.last_error
            with pytest.raises(NoHealthySource):
                await link.draw(32, DrawClass.DRBG)
            stick.replug()
            await site.until_healthy()
            assert source_of(process).report().health_epoch == 2
            assert len(await link.draw(32, DrawClass.DRBG)) == 32
            await link.aclose()

    asyncio.run(run())


def test_draws_in_flight_when_the_stick_is_pulled_are_served_or_refused(folder) -> None:
    """With many consumers, unplugging refuses new draws and hangs none."""
    site = Site(folder)

    async def run() -> None:
        async with PtyDevice(folder / "stick", seed=2, rate=0) as stick, running(site):
            await site.until_healthy()
            link = UnixLink(site.draw_socket)
            kinds: set[str] = set()

            async def crowd() -> None:
                while "NoHealthySource" not in kinds:
                    kinds.add(await outcome(link.draw(2000, DrawClass.FULL)))

            async with asyncio.TaskGroup() as group:
                for _ in range(16):
                    group.create_task(crowd())
                await until(lambda: "done" in kinds, "a draw was served")
                stick.unplug()
            assert kinds <= {"done", "Starved", "NoHealthySource"}
            stick.replug()
            await site.until_healthy()
            assert {await outcome(link.draw(2000, DrawClass.FULL)) for _ in range(16)} == {"done"}
            await link.aclose()

    asyncio.run(run())


def test_a_stick_pulled_in_the_middle_of_a_dump_refuses_it_and_comes_back(folder) -> None:
    """Unplugging during a capture fails the call; a replug recovers."""
    site = Site(folder)

    async def run() -> None:
        async with (
            PtyDevice(folder / "stick", seed=3, rate=20_000) as stick,
            running(site),
            asyncio.TaskGroup() as group,
        ):
            await site.until_healthy(share=0)
            sent = stick.sent_bytes
            asked = group.create_task(outcome(site.command("stick", "dump", path=str(folder / "image"))))
            await until(lambda: stick.sent_bytes > sent + 16_384, "a part of the image was sent")
            stick.unplug()
            assert await asked == "SourceUnavailable"
            assert not (folder / "image").exists()
            stick.replug()
            await site.until_healthy(share=0)

    asyncio.run(run())


@pytest.mark.parametrize("fault", ["silent", "zeros"])
def test_a_silent_stick_is_a_stall_and_not_a_hang(folder, fault) -> None:
    """A silent device is reported after the set time, and recovers.

    So does one whose diode is stuck at 0: its firmware drops the zeros.
    """
    site = Site(folder)

    async def run() -> None:
        async with PtyDevice(folder / "stick", seed=4, rate=0) as stick, running(site) as process:
            await site.until_healthy()
            stick.set_fault(fault)
            link = UnixLink(site.draw_socket)
            await drain(link)
            await until(lambda: not source_of(process).healthy, "it is found out")
            assert source_of(process).report().last_error
            stick.set_fault("none")
            await site.until_healthy()
            await link.aclose()

    asyncio.run(run())


async def drain(link: UnixLink) -> None:
    """Draw until the sources are wanted again."""
    for _ in range(6):
        await outcome(link.draw(65_000, DrawClass.FULL))


@pytest.mark.parametrize("fault", ["stuck", "counter", "loop", "biased"])
def test_a_sick_stick_is_latched_and_starts_again_after_reset(folder, fault) -> None:
    """A noise fault is permanent; after a fix and a reset it is healthy."""
    site = Site(folder)

    async def run() -> None:
        async with PtyDevice(folder / "stick", seed=5, rate=0) as stick, running(site) as process:
            await site.until_healthy()
            stick.set_fault(fault)
            link = UnixLink(site.draw_socket)
            await drain(link)
            await until(lambda: source_of(process).report().state == "permanent failure", "it is latched")
            assert "test" in source_of(process).report().last_error
            for draw_class in DrawClass:
                with pytest.raises(NoHealthySource):
                    await link.draw(32, draw_class)
            stick.set_fault("none")
            stick.replug()
            with pytest.raises(SourceUnavailable) as refused:
                await site.command("stick", "info")
            assert "reset" in str(refused.value.hint)
            await site.command("stick", "reset")
            await site.until_healthy()
            await link.aclose()

    asyncio.run(run())


def test_a_paused_stick_is_silent_shown_paused_and_goes_on(folder) -> None:
    """`pause` and `resume` reach the device; a pause is not an error."""
    site = Site(folder)

    async def run() -> None:
        async with PtyDevice(folder / "stick", seed=6, rate=0) as stick, running(site):
            await site.until_healthy()
            await site.command("stick", "pause")
            assert stick._device.paused
            report = (await site.ask("status"))["sources"][0]
            assert (report["paused"], report["last_error"]) == (True, "")
            await site.command("stick", "resume")
            await until(lambda: not stick._device.paused, "the device was resumed")
            await site.until_healthy()

    asyncio.run(run())


def test_on_demand_tests_and_captures_go_through_the_running_station(folder) -> None:
    """`test` restarts the tests; `capture` and `sample` bytes are not served."""
    site = Site(folder)

    async def run() -> None:
        async with PtyDevice(folder / "stick", seed=7, rate=0), running(site):
            await site.until_healthy()
            assert (await site.command("stick", "test"))["health_epoch"] == 2
            captured = await site.command("stick", "capture", bytes=3000)
            sample = await site.command("stick", "sample", bytes=3000)
            assert len(base64.b64decode(captured["data"])) == len(base64.b64decode(sample["data"])) == 3000
            assert (await site.ask("status"))["ledger"]["balanced"]

    asyncio.run(run())


def test_two_needed_and_one_pulled_in_mid_draw_is_starved_until_it_is_back(folder) -> None:
    """With min_sources = 2, unplugging one of two sticks stops all draws."""
    site = Site(folder, sticks=("a", "b"), broker="min_sources = 2")

    async def run() -> None:
        first, second = PtyDevice(folder / "a", seed=8, rate=0), PtyDevice(folder / "b", seed=9, rate=0)
        async with first, second, running(site) as process:
            await site.until_healthy()
            link = UnixLink(site.draw_socket)
            async with asyncio.TaskGroup() as group:
                drawing = [group.create_task(outcome(link.draw(60_000, DrawClass.FULL))) for _ in range(8)]
                second.unplug()
            assert {task.result() for task in drawing} <= {"done", "Starved", "NoHealthySource"}
            await until(lambda: not source_of(process, "b").healthy, "it is found out")
            assert source_of(process, "a").healthy
            for draw_class in DrawClass:
                with pytest.raises(NoHealthySource, match="1 of 2"):
                    await link.draw(32, draw_class)
            second.replug()
            await site.until_healthy()
            for draw_class in DrawClass:
                assert len(await link.draw(32, draw_class)) == 32
            await link.aclose()

    asyncio.run(run())


def test_one_needed_and_one_pulled_goes_on_with_accounts_apart(folder) -> None:
    """With min_sources = 1, unplugging one stick affects only that stick."""
    site = Site(folder, sticks=("a", "b"))

    async def run() -> None:
        first, second = PtyDevice(folder / "a", seed=10, rate=0), PtyDevice(folder / "b", seed=11, rate=0)
        async with first, second, running(site) as process:
            await site.until_healthy()
            first.unplug()
            await until(lambda: not source_of(process, "a").healthy, "it is found out")
            frozen = source_of(process, "a").report()
            link = UnixLink(site.draw_socket)
            await drain(link)
            await site.until_healthy(1)
            assert await outcome(link.draw(32, DrawClass.FULL)) == "done"
            reports = [source_of(process, name).report() for name in ("a", "b")]
            ledger = process.station.broker.report().ledger
            assert reports[0].conditioned_bits == frozen.conditioned_bits
            assert (reports[1].health_failures, reports[1].reconnects, reports[1].last_error) == (
                0,
                0,
                "",
            )
            assert sum(report.conditioned_bits for report in reports) == ledger.conditioned_bits
            assert ledger.balanced
            await link.aclose()

    asyncio.run(run())
