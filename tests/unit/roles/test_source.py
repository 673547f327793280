"""The source role with a scripted driver, in virtual time."""

import asyncio

import pytest

from drawwell.entropy.blocks import RawBlock
from drawwell.errors import (
    SourceRejected,
    SourceStalled,
    SourceUnavailable,
)
from drawwell.reports import SourceState
from drawwell.roles.source import FIRST_RETRY_S, IDLE_PROBE_S, LAST_RETRY_S, LONGEST_PROBE_S, READ_BYTES
from drawwell.testing import sick
from drawwell.testing.scripted import ScriptedSource
from drawwell.testing.virtual_time import run_virtually
from drawwell.testing.waiting import until
from support.workbench import Workbench, conditioned
from unit.roles.scripted_stick import SMALL, Stick

GONE = SourceUnavailable("it was unplugged", hint="Plug it in again.")


def test_start_up_samples_never_reach_the_reservoir() -> None:
    """Only samples after the start-up tests reach the reservoir."""

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
    """At the high mark it only probes the device; at the low mark it reads."""

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
    """An idle stick that is unplugged fails at the next probe."""

    async def run() -> None:
        stick = Stick()
        async with stick.bench.run():
            await stick.bench.until_filled()
            stick.driver.unplugged = True
            await asyncio.sleep(IDLE_PROBE_S + 1)
            assert not stick.role.healthy

    run_virtually(run())


def test_a_slow_source_is_probed_before_long() -> None:
    """However long a read takes, a source that went away is soon off."""
    read_s = 4.0

    async def run() -> None:
        stick = Stick(rate=READ_BYTES / read_s)
        async with stick.bench.run():
            await stick.bench.until_filled()
            stick.driver.unplugged = True
            await asyncio.sleep(LONGEST_PROBE_S + 2 * read_s)
            assert not stick.role.healthy

    run_virtually(run())


def test_a_paused_source_that_went_away_is_released_and_resumes_when_replugged() -> None:
    """If a guest takes a paused stick, the node closes; a replug resumes it."""

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
    """After a replug the start-up tests run again; older samples are dropped."""

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
    """Opening is retried forever, with waits of at most LAST_RETRY_S."""

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


def test_a_source_that_opens_and_stays_silent_is_opened_less_and_less_often() -> None:
    """Waits double while it is silent; received samples reset them."""

    async def run() -> None:
        stick = Stick()
        stick.driver.at_read.extend(SourceStalled("it is silent") for _ in range(1000))
        async with stick.bench.run():
            await asyncio.sleep(600)
            assert stick.driver.opened <= 600 / LAST_RETRY_S + 10
            stick.driver.at_read.clear()
            await stick.until_state(SourceState.HEALTHY)
            opened = stick.driver.opened
            stick.driver.at_read.extend([SourceStalled("it is silent")])
            stick.everything()
            await asyncio.sleep(2 * FIRST_RETRY_S + IDLE_PROBE_S)
            assert stick.driver.opened == opened + 1

    run_virtually(run())


def test_an_intermittent_failure_discards_the_block_and_what_was_pending() -> None:
    """The failed block and pending samples are dropped; start-up tests rerun."""

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
    """A stuck source stays failed, even with good samples, until `reset`."""

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
    """No bits are assessed from the first stuck block on."""

    async def run() -> None:
        stick = Stick(capacity_bytes=65_536)
        stick.driver.stream = sick.spliced(sick.good().read(3 * 4096 + 17), sick.stuck())
        async with stick.bench.run():
            await stick.until_state(SourceState.PERMANENT_FAILURE)
            assert stick.everything() == conditioned(stick.driver.gave[1:3])
            assert stick.role.report().assessed_bits == 2 * 4096 * 6

    run_virtually(run())


def test_a_rejected_source_is_not_opened_again_before_reset() -> None:
    """Unverified firmware is retried only after a `reset`, once."""

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
    """The third such failure latches, also across replugs (law 11)."""

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
    """The rate excludes start-up tests and idle time."""

    async def run() -> None:
        stick = Stick()
        async with stick.bench.run():
            await stick.bench.until_filled()
            assert stick.role.report().raw_rate_bytes_per_s == pytest.approx(100_000, rel=0.01)

    run_virtually(run())


class Eager(ScriptedSource):
    """A driver that always has bytes, like a file or a FIFO."""

    async def read(self, max_bytes: int) -> RawBlock:
        data = self.stream.read(max_bytes)
        self.gave.append(data)
        return RawBlock(data)


def test_a_driver_that_never_waits_leaves_the_others_their_turn() -> None:
    """Other tasks run between two blocks of such a source."""

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


def test_the_device_is_released_when_the_role_ends() -> None:
    """A cancelled role closes its driver in any state."""

    async def run() -> None:
        for at_open in ([], [GONE], [SourceRejected("no")], [asyncio.Event()]):
            stick = Stick()
            stick.driver.at_open.extend(at_open)
            closed = stick.driver.closed
            async with stick.bench.run():
                await asyncio.sleep(0.01)
            assert stick.driver.closed > closed

    run_virtually(run())
