"""An operator's verbs for a source: test, capture, sample, pause, reset."""

import asyncio
import base64

import pytest

from drawwell.errors import (
    DrawwellError,
    PermanentHealthFailure,
    SourceUnavailable,
    UsageError,
)
from drawwell.reports import SourceState
from drawwell.roles.source_commands import MAX_HANDOUT_BYTES
from drawwell.testing import sick
from drawwell.testing.virtual_time import run_virtually
from drawwell.testing.waiting import until
from support.workbench import conditioned
from unit.roles.scripted_stick import SMALL, Stick


def test_a_paused_source_is_shown_paused_and_not_failed() -> None:
    """A paused source does not read, fail or change state; it is not healthy."""

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
    """Verbs that read are refused with a hint; the source does not fail."""

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
    """A paused source runs after a replug, and reports the device's state."""

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
    """A command during a long opening waits until the source is open."""

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
    """A command to an absent source gets an error with a hint, and a retry."""

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
    """Any verb for a failed source is refused with the cause and `reset`."""

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
    """If the stick is unplugged during the first command, all are refused."""

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
    """A cancelled verb has no effect, and later ones are answered."""

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
    """The source keeps running if the caller disconnects."""

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
    """An unknown verb is refused and the source keeps running."""

    async def run() -> None:
        stick = Stick()
        async with stick.bench.run():
            await stick.bench.until_filled()
            with pytest.raises(UsageError):
                await stick.role.command("dance", {})
            assert (stick.role.healthy, stick.role.report().last_error) == (True, "")

    run_virtually(run())


def test_on_demand_tests_run_the_start_up_tests_again() -> None:
    """`test` starts a new health epoch with fresh samples, and serves none."""

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
                "distant repeat",
            }
            before = stick.everything()
            after = await stick.drain_until(1)
            assert conditioned(stick.driver.gave[blocks + 1 :]).startswith(after)
            assert after not in before

    run_virtually(run())


def test_on_demand_tests_of_a_stuck_source_report_it() -> None:
    """`test` fails with the name of the health test and latches the failure."""

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
    """Captured samples are not used for output and count as discarded."""

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


def test_sampled_conditioned_bytes_are_served_to_no_consumer() -> None:
    """Sampled bytes are in no draw; the ledger counts them and balances."""

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
    """A size outside 1 to MAX_HANDOUT_BYTES is refused; the source continues."""

    async def run() -> None:
        stick = Stick()
        async with stick.bench.run():
            await stick.bench.until_filled()
            for verb in ("capture", "sample"):
                with pytest.raises(UsageError, match="bytes must be"):
                    await stick.role.command(verb, {"bytes": wanted})
            assert stick.role.healthy

    run_virtually(run())
