"""The source role with a scripted driver, in virtual time."""

import asyncio
import base64

import pytest

from drawwell.entropy.blocks import RawBlock
from drawwell.errors import (
    DrawwellError,
    PermanentHealthFailure,
    SourceRejected,
    SourceUnavailable,
    UsageError,
)
from drawwell.reports import SourceState
from drawwell.roles.source import IDLE_PROBE_S, LAST_RETRY_S
from drawwell.roles.source_commands import MAX_HANDOUT_BYTES
from drawwell.testing import sick
from drawwell.testing.scripted import ScriptedSource
from drawwell.testing.virtual_time import run_virtually
from drawwell.testing.waiting import until
from support.workbench import Workbench, conditioned

GONE = SourceUnavailable("it was unplugged", hint="Plug it in again.")
SMALL = 4096


class Stick:
    """A scripted driver on a small workbench."""

    def __init__(self, *, capacity_bytes: int = SMALL) -> None:
        self.driver = ScriptedSource("stick")
        self.bench = Workbench(self.driver, capacity_bytes=capacity_bytes)
        self.role = self.bench.sources[0]
        self.monitor = self.bench.monitors[0]

    def everything(self) -> bytes:
        """Take all that the reservoir holds."""
        return bytes(self.bench.supply.take(len(self.bench.supply.reservoir)).data)

    async def until_state(self, state: SourceState) -> None:
        await until(lambda: self.monitor.state is state, f"the source is {state}")

    async def drain_until(self, size: int) -> bytes:
        """Draw the reservoir empty until `size` bytes came out of it."""
        taken = b""
        while len(taken) < size:
            taken += self.everything()
            await asyncio.sleep(0.01)
        return taken


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


def test_a_paused_source_is_shown_paused_and_not_failed() -> None:
    """While paused nothing is read, the state is as before, no error is shown, and it does not count as healthy."""

    async def run() -> None:
        stick = Stick()
        async with stick.bench.run():
            await stick.bench.until_filled()
            await stick.role.command("pause", {})
            blocks = len(stick.driver.gave)
            stick.everything()
            await asyncio.sleep(3600)
            report = stick.role.report()
            assert (report.paused, report.state, report.last_error) == (True, SourceState.HEALTHY, "")
            assert len(stick.driver.gave) == blocks
            assert not stick.role.healthy
            await stick.role.command("resume", {})
            assert stick.role.healthy
            await stick.bench.until_filled()

    run_virtually(run())


@pytest.mark.parametrize("verb", ["test", "capture", "sample"])
def test_a_paused_source_refuses_what_needs_samples_and_stays_paused(verb: str) -> None:
    """Verbs that read are refused while paused, with the way out, and do not turn the pause into a failure."""

    async def run() -> None:
        stick = Stick()
        async with stick.bench.run():
            await stick.bench.until_filled()
            await stick.role.command("pause", {})
            with pytest.raises(DrawwellError, match="paused") as refused:
                await stick.role.command(verb, {"bytes": 64})
            assert "resume" in str(refused.value.hint)
            await asyncio.sleep(60)
            report = stick.role.report()
            assert (report.paused, report.reconnects, report.last_error) == (True, 0, "")

    run_virtually(run())


def test_a_replug_ends_a_pause() -> None:
    """A source that was paused and pulled comes back running: what is reported is what the device does."""

    async def run() -> None:
        stick = Stick()
        async with stick.bench.run():
            await stick.bench.until_filled()
            await stick.role.command("pause", {})
            stick.driver.unplugged = True
            with pytest.raises(SourceUnavailable):
                await stick.role.command("info", {})
            stick.driver.unplugged = False
            stick.everything()
            await stick.bench.until_filled()
            assert not stick.role.report().paused

    run_virtually(run())


def test_a_command_while_it_opens_is_answered_when_it_is_open() -> None:
    """Whoever asks during a long opening waits for its end and is answered."""

    async def run() -> None:
        stick = Stick()
        gate = asyncio.Event()
        stick.driver.at_open.append(gate)
        async with stick.bench.run(), asyncio.TaskGroup() as group:
            asked = group.create_task(stick.role.command("info", {}))
            await asyncio.sleep(3)
            assert not asked.done()
            gate.set()
            assert await asked == {"done": "info"}

    run_virtually(run())


def test_a_command_while_it_backs_off_is_answered_at_once() -> None:
    """Whoever asks a source that is not there is told so, with the hint, and it is tried at once."""

    async def run() -> None:
        stick = Stick()
        stick.driver.unplugged = True
        async with stick.bench.run():
            await asyncio.sleep(60)
            opened, asked_at = stick.driver.opened, asyncio.get_running_loop().time()
            with pytest.raises(SourceUnavailable, match="unplugged") as refused:
                await stick.role.command("info", {})
            assert stick.driver.opened == opened + 1
            assert asyncio.get_running_loop().time() == asked_at
            assert refused.value.hint == "Plug it in again."

    run_virtually(run())


def test_commands_in_permanent_failure_are_refused_with_the_way_out() -> None:
    """Whatever is asked of a failed source is refused with the cause, and the hint names `reset`."""

    async def run() -> None:
        stick = Stick()
        stick.driver.stream = sick.stuck()
        async with stick.bench.run():
            await stick.until_state(SourceState.PERMANENT_FAILURE)
            for verb in ("info", "pause", "test", "nonsense"):
                with pytest.raises(SourceUnavailable, match="repetition") as refused:
                    await stick.role.command(verb, {})
                assert "drawwell source reset stick" in str(refused.value.hint)

    run_virtually(run())


def test_every_waiting_command_is_answered_when_the_source_goes_away() -> None:
    """All who wait are refused when the stick is pulled while the first one is carried out."""

    async def run() -> None:
        stick = Stick()
        gate = asyncio.Event()
        stick.driver.at_command.append(gate)
        async with stick.bench.run(), asyncio.TaskGroup() as group:
            await stick.bench.until_filled()
            asked = [group.create_task(_outcome(stick.role.command("info", {}))) for _ in range(5)]
            await asyncio.sleep(1)
            stick.driver.unplugged = True
            gate.set()
            assert [await task for task in asked] == ["SourceUnavailable"] * 5

    run_virtually(run())


async def _outcome(asked) -> str:
    try:
        await asked
    except DrawwellError as error:
        return type(error).__name__
    return "answered"


def test_a_command_whose_asker_has_gone_is_not_carried_out() -> None:
    """A verb that was cancelled while it waited does nothing, and those behind it are answered."""

    async def run() -> None:
        stick = Stick()
        gate = asyncio.Event()
        stick.driver.at_command.append(gate)
        async with stick.bench.run(), asyncio.TaskGroup() as group:
            await stick.bench.until_filled()
            first = group.create_task(stick.role.command("info", {"first": 1}))
            gone = group.create_task(stick.role.command("pause", {}))
            last = group.create_task(stick.role.command("info", {"last": 1}))
            await asyncio.sleep(1)
            gone.cancel()
            await asyncio.sleep(1)
            gate.set()
            await first
            await last
            assert stick.driver.commands == [("info", {"first": 1}), ("info", {"last": 1})]
            assert not stick.role.report().paused

    run_virtually(run())


def test_a_command_cancelled_while_it_runs_leaves_the_source_well() -> None:
    """The source goes on when whoever asked went away in the middle."""

    async def run() -> None:
        stick = Stick()
        gate = asyncio.Event()
        stick.driver.at_command.append(gate)
        async with stick.bench.run(), asyncio.TaskGroup() as group:
            await stick.bench.until_filled()
            gone = group.create_task(stick.role.command("info", {}))
            await asyncio.sleep(1)
            gone.cancel()
            gate.set()
            stick.everything()
            await stick.bench.until_filled()
            assert stick.role.healthy

    run_virtually(run())


def test_an_unknown_verb_is_a_usage_error_and_no_fault_of_the_source() -> None:
    """A wrong verb is refused and the source goes on."""

    async def run() -> None:
        stick = Stick()
        async with stick.bench.run():
            await stick.bench.until_filled()
            with pytest.raises(UsageError):
                await stick.role.command("dance", {})
            assert (stick.role.healthy, stick.role.report().last_error) == (True, "")

    run_virtually(run())


def test_on_demand_tests_run_the_start_up_tests_again() -> None:
    """`test` makes a new health epoch out of fresh samples, none of which is served, and reports every test."""

    async def run() -> None:
        stick = Stick()
        async with stick.bench.run():
            await stick.bench.until_filled()
            blocks = len(stick.driver.gave)
            report = await stick.role.command("test", {})
            assert (report["state"], report["health_epoch"]) == ("healthy", 2)
            assert {test["name"] for test in report["tests"]} == {
                "repetition count",
                "adaptive proportion",
                "repeat",
            }
            before = stick.everything()
            after = await stick.drain_until(1)
            assert conditioned(stick.driver.gave[blocks + 1 :]).startswith(after)
            assert after not in before

    run_virtually(run())


def test_on_demand_tests_of_a_sick_source_say_so() -> None:
    """`test` of a source that got stuck is refused with the test that fired, and the source is latched."""

    async def run() -> None:
        stick = Stick()
        async with stick.bench.run():
            await stick.bench.until_filled()
            stick.driver.stream = sick.stuck()
            with pytest.raises(PermanentHealthFailure, match="repetition"):
                await stick.role.command("test", {})
            await until(lambda: stick.driver.closed, "it was closed")
            assert not stick.role.healthy

    run_virtually(run())


def test_captured_samples_are_used_nowhere_else() -> None:
    """What `capture` hands out is in no output of the conditioner, and counts as discarded."""

    async def run() -> None:
        stick = Stick(capacity_bytes=65_536)
        async with stick.bench.run():
            await stick.bench.until_filled()
            blocks, discarded = len(stick.driver.gave), stick.role.report().discarded_bytes
            captured = base64.b64decode((await stick.role.command("capture", {"bytes": 5000}))["data"])
            assert captured == b"".join(stick.driver.gave[blocks:])
            assert stick.role.report().discarded_bytes == discarded + 5000
            before = stick.driver.gave[1:blocks]
            stick.everything()
            count = len(stick.driver.gave)
            await stick.bench.until_filled()
        pending = conditioned(before + stick.driver.gave[count:])[len(conditioned(before)) :]
        assert pending.startswith(stick.everything())

    run_virtually(run())


def test_a_sample_of_conditioned_bytes_goes_to_nobody_else() -> None:
    """What `sample` hands out is in no draw, and the ledger counts it as discarded and still balances."""

    async def run() -> None:
        stick = Stick()
        async with stick.bench.run():
            await stick.bench.until_filled()
            served = stick.everything()
            sample = base64.b64decode((await stick.role.command("sample", {"bytes": 1000}))["data"])
            served += await stick.drain_until(2 * SMALL)
            assert len(sample) == 1000
            assert all(sample[at : at + 8] not in served for at in range(0, 1000, 8))
            ledger = stick.bench.supply.report()
            assert ledger.balanced
            assert ledger.discarded_bits >= 8000
            assert ledger.conditioned_bits == stick.role.report().conditioned_bits

    run_virtually(run())


@pytest.mark.parametrize("wanted", [None, 0, -1, "7", 1.5, MAX_HANDOUT_BYTES + 1, [], True])
def test_what_is_handed_out_is_bounded(wanted: object) -> None:
    """A size that is no number from 1 to MAX_HANDOUT_BYTES is refused, and the source goes on."""

    async def run() -> None:
        stick = Stick()
        async with stick.bench.run():
            await stick.bench.until_filled()
            for verb in ("capture", "sample"):
                with pytest.raises(UsageError, match="bytes must be"):
                    await stick.role.command(verb, {"bytes": wanted})
            assert stick.role.healthy

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
