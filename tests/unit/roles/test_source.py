"""The source role with a scripted driver, in virtual time."""

import asyncio

import pytest

from drawwell.entropy.blocks import RawBlock
from drawwell.errors import (
    SourceRejected,
    SourceUnavailable,
)
from drawwell.reports import SourceState
from drawwell.roles.source import IDLE_PROBE_S, LAST_RETRY_S
from drawwell.testing import sick
from drawwell.testing.scripted import ScriptedSource
from drawwell.testing.virtual_time import run_virtually
from drawwell.testing.waiting import until
from support.workbench import Workbench, conditioned
from unit.roles.scripted_stick import SMALL, Stick

GONE = SourceUnavailable("it was unplugged", hint="Plug it in again.")


def test_start_up_samples_never_reach_the_reservoir() -> None:
    """What is served is made of the samples after the start-up tests, and of nothing else."""

    async def run() -> None:
        stick = Stick()
        async with stick.bench.run():
            taken = await stick.drain_until(3 * SMALL)
            assert conditioned(stick.driver.gave[1:]).startswith(taken)
            report = stick.role.report()
            assert report.health_epoch == 1
            assert report.discarded_bytes == len(stick.driver.gave[0])
            assert report.raw_bytes == report.discarded_bytes + report.tested_bytes

    run_virtually(run())


def test_a_source_rests_when_the_reservoir_is_full_and_goes_on_when_it_sinks() -> None:
    """At the high mark reading stops, but for a probe now and then; below the low mark it goes on."""

    async def run() -> None:
        stick = Stick()
        async with stick.bench.run():
            await stick.bench.until_filled()
            blocks = len(stick.driver.gave)
            await asyncio.sleep(10 * IDLE_PROBE_S)
            assert blocks + 9 <= len(stick.driver.gave) <= blocks + 11
            stick.everything()
            await stick.bench.until_filled()

    run_virtually(run())


def test_an_idle_source_that_went_away_is_not_called_healthy() -> None:
    """A stick that is unplugged while nobody draws is found out by the next probe."""

    async def run() -> None:
        stick = Stick()
        async with stick.bench.run():
            await stick.bench.until_filled()
            stick.driver.unplugged = True
            await asyncio.sleep(IDLE_PROBE_S + 1)
            assert not stick.role.healthy

    run_virtually(run())


def test_a_paused_source_that_went_away_is_let_go_of_and_goes_on_when_it_is_back() -> None:
    """A guest takes the stick of a paused source: its node is closed, and a replug needs no `resume`."""

    async def run() -> None:
        stick = Stick()
        async with stick.bench.run():
            await stick.bench.until_filled()
            await stick.role.command("pause", {})
            await asyncio.sleep(3 * IDLE_PROBE_S)
            assert (stick.role.report().paused, stick.driver.closed) == (True, 0)
            stick.driver.unplugged = True
            await asyncio.sleep(IDLE_PROBE_S + 1)
            assert stick.driver.closed > 0
            report = stick.role.report()
            assert (report.paused, report.state, report.last_error) == (
                False,
                SourceState.OFF,
                "/dev/stick was unplugged",
            )
            stick.driver.unplugged = False
            await stick.until_state(SourceState.HEALTHY)
            assert stick.role.healthy

    run_virtually(run())


def test_unplugged_in_the_middle_of_a_read_nothing_from_before_is_used_after() -> None:
    """After a replug the start-up tests run again, and no sample from before is in what comes after."""

    async def run() -> None:
        stick = Stick(capacity_bytes=65_536)
        stick.driver.at_read += [None, None, None, GONE]  # one start-up block, two tested
        async with stick.bench.run():
            await until(lambda: stick.driver.opened == 2, "opened again")
            before = stick.everything()
            await stick.bench.until_filled()
        gave = stick.driver.gave
        after = stick.everything()
        assert before == conditioned(gave[1:3])
        assert len(before) * 8 < 2 * 4096 * 6 * 512 // 576, "something was pending, and was dropped"
        assert conditioned(gave[4:]).startswith(after)
        assert stick.role.report().health_epoch == 2
        assert stick.role.report().reconnects == 1

    run_virtually(run())


def test_a_source_that_is_not_there_is_tried_again_and_again_with_longer_waits() -> None:
    """Opening is tried again within seconds for ever, at most every LAST_RETRY_S, and the state says why."""

    async def run() -> None:
        stick = Stick()
        stick.driver.unplugged = True
        async with stick.bench.run():
            await asyncio.sleep(600)
            tries = stick.driver.opened
            assert 600 / LAST_RETRY_S - 2 <= tries <= 600 / LAST_RETRY_S + 10
            assert stick.role.report().last_error == "/dev/stick was unplugged"
            assert stick.role.report().reconnects == 0
            stick.driver.unplugged = False
            await stick.until_state(SourceState.HEALTHY)
            assert stick.role.report().last_error == ""

    run_virtually(run())


def test_an_intermittent_failure_discards_the_block_and_what_was_pending() -> None:
    """Of a failing block, and of samples that waited for it, nothing is ever served; start-up tests run again."""

    async def run() -> None:
        stick = Stick(capacity_bytes=65_536)
        head = sick.good(7).read(2 * 4096 + 1000) + bytes(8) + sick.good(8).read(3088)
        stick.driver.stream = sick.spliced(head, sick.good(9))
        async with stick.bench.run():
            await until(lambda: stick.monitor.epoch == 2, "start-up tests passed again")
            assert stick.role.report().health_failures == 1
            await stick.bench.until_filled()
        gave, served = stick.driver.gave, stick.everything()
        assert (conditioned(gave[1:2]) + conditioned(gave[4:])).startswith(served)
        assert len(served) > len(conditioned(gave[1:2]))

    run_virtually(run())


def test_a_permanent_failure_is_latched_until_reset() -> None:
    """A stuck source is closed, stays failed when its samples are good again, and starts over on `reset`."""

    async def run() -> None:
        stick = Stick()
        async with stick.bench.run():
            await stick.bench.until_filled()
            good, stick.driver.stream = stick.driver.stream, sick.stuck()
            stick.everything()
            await stick.until_state(SourceState.PERMANENT_FAILURE)
            stick.driver.stream = good
            closed, opened = stick.driver.closed, stick.driver.opened
            await asyncio.sleep(3600)
            assert (closed, opened) == (1, 1) == (stick.driver.closed, stick.driver.opened)
            assert not stick.role.healthy
            assert await stick.role.command("reset", {}) == {"reset": "stick"}
            await stick.until_state(SourceState.HEALTHY)

    run_virtually(run())


def test_nothing_of_a_stuck_source_is_credited() -> None:
    """When a source gets stuck, not one bit is assessed or conditioned after the block in which it did."""

    async def run() -> None:
        stick = Stick(capacity_bytes=65_536)
        stick.driver.stream = sick.spliced(sick.good().read(3 * 4096 + 17), sick.stuck())
        async with stick.bench.run():
            await stick.until_state(SourceState.PERMANENT_FAILURE)
            assert stick.everything() == conditioned(stick.driver.gave[1:3])
            assert stick.role.report().assessed_bits == 2 * 4096 * 6

    run_virtually(run())


def test_a_rejected_source_is_not_opened_again_before_reset() -> None:
    """A device whose firmware is not verified is not retried; `reset` tries it once more."""

    async def run() -> None:
        stick = Stick()
        stick.driver.at_open.append(SourceRejected("firmware not verified"))
        async with stick.bench.run():
            await asyncio.sleep(3600)
            assert stick.driver.opened == 1
            with pytest.raises(SourceUnavailable, match="firmware not verified") as refused:
                await stick.role.command("info", {})
            assert "drawwell source reset stick" in str(refused.value.hint)
            await stick.role.command("reset", {})
            await stick.until_state(SourceState.HEALTHY)

    run_virtually(run())


def test_three_intermittent_failures_in_ten_minutes_are_permanent() -> None:
    """The third intermittent failure within ten minutes latches, across replugs too (law 11)."""

    async def run() -> None:
        stick = Stick()
        async with stick.bench.run():
            for failure in range(3):
                await stick.bench.until_filled()
                stick.driver.stream = sick.spliced(bytes(8), sick.good(failure + 1))
                stick.everything()
                await until(lambda n=failure: stick.role.report().health_failures == n + 1, "it failed")
                if failure < 2:
                    stick.driver.at_read += [None] * 3 + [GONE]
            assert stick.monitor.state is SourceState.PERMANENT_FAILURE

    run_virtually(run())


def test_the_raw_rate_is_what_the_device_gives_while_it_is_read() -> None:
    """The rate leaves out the start-up tests and the time that the source rests."""

    async def run() -> None:
        stick = Stick()
        async with stick.bench.run():
            await stick.bench.until_filled()
            assert stick.role.report().raw_rate_bytes_per_s == pytest.approx(100_000, rel=0.01)

    run_virtually(run())


class Eager(ScriptedSource):
    """A driver that always has bytes, as a file or a FIFO may."""

    async def read(self, max_bytes: int) -> RawBlock:
        data = self.stream.read(max_bytes)
        self.gave.append(data)
        return RawBlock(data)


def test_a_driver_that_never_waits_leaves_the_others_their_turn() -> None:
    """Between two blocks of a source that always has bytes everybody else runs."""

    async def run() -> None:
        driver = Eager()
        bench = Workbench(driver, capacity_bytes=65_536)
        turns: set[int] = set()
        async with bench.run():
            while bench.supply.wanted:
                await asyncio.sleep(0)
                turns.add(len(driver.gave))
        assert turns >= set(range(1, len(driver.gave)))

    run_virtually(run())


def test_the_device_is_let_go_when_the_role_ends() -> None:
    """Whatever it was doing, a cancelled role closes its driver."""

    async def run() -> None:
        for at_open in ([], [GONE], [SourceRejected("no")], [asyncio.Event()]):
            stick = Stick()
            stick.driver.at_open.extend(at_open)
            closed = stick.driver.closed
            async with stick.bench.run():
                await asyncio.sleep(0.01)
            assert stick.driver.closed > closed

    run_virtually(run())
