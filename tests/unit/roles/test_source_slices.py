"""Blocks are tested in slices, so that draws do not wait long."""

import asyncio

import pytest

from drawwell.entropy.blocks import RawBlock, TestedBlock
from drawwell.reports import SourceState
from drawwell.roles.source import READ_BYTES, SLICE_BYTES
from drawwell.testing.virtual_time import run_virtually
from drawwell.testing.waiting import until
from unit.roles.scripted_stick import Stick


def test_other_tasks_run_between_the_slices_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """One iteration of the loop never tests two slices of a block."""

    async def run() -> None:
        stick, turns, fed = Stick(), 0, []
        feed = stick.monitor.feed

        def turn() -> None:
            nonlocal turns
            turns += 1

        def watched(block: RawBlock, now: float) -> TestedBlock | None:
            fed.append((turns, len(block)))
            asyncio.get_running_loop().call_soon(turn)
            return feed(block, now)

        monkeypatch.setattr(stick.monitor, "feed", watched)
        async with stick.bench.run():
            await until(lambda: sum(size for _, size in fed) >= 2 * READ_BYTES, "two blocks were tested")
        assert {size for _, size in fed} == {SLICE_BYTES}
        assert len({turn for turn, _ in fed}) == len(fed)

    run_virtually(run())


def test_a_restart_in_the_middle_of_a_block_uses_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """No slice of that block counts for the restarted start-up tests."""

    async def run() -> None:
        stick, fed = Stick(), 0
        feed = stick.monitor.feed

        def restarting(block: RawBlock, now: float) -> TestedBlock | None:
            nonlocal fed
            fed += 1
            if fed == 3:
                asyncio.get_running_loop().call_soon(stick.role.restart)
            return feed(block, now)

        monkeypatch.setattr(stick.monitor, "feed", restarting)
        async with stick.bench.run():
            await until(lambda: stick.role.report().state is SourceState.HEALTHY, "it started again")
            assert (fed, stick.role.report().tested_bytes) == (3 + READ_BYTES // SLICE_BYTES, 0)

    run_virtually(run())
