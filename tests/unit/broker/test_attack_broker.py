"""Attacks on draws: consumers that disconnect or are removed."""

import asyncio
import contextlib
from typing import Any

import pytest

from drawwell.broker.account import Terms
from drawwell.broker.broker import Rules
from drawwell.entropy.blocks import DrawClass, DrawRequest
from drawwell.entropy.quota import QuotaState
from drawwell.errors import PermissionRefused, Refused, SourceError
from drawwell.testing import sick
from drawwell.testing.scripted import ScriptedSource
from drawwell.testing.virtual_time import run_virtually
from drawwell.units import Allowance
from support.principals import consumer
from support.workbench import UNLIMITED, Workbench

FULL = DrawClass.FULL
DAY_S = 86_400.0
BYTES = sick.good(1).read(4096)


def sourceless(*names: str) -> Workbench:
    return Workbench(
        rules=Rules("bench", min_sources=0), terms=dict.fromkeys(names, UNLIMITED), capacity_bytes=4096
    )


def test_revoking_a_queued_consumer_does_not_affect_the_others() -> None:
    """The revoked consumer's draw is refused at once; others continue."""

    async def refused(bench: Workbench) -> None:
        with pytest.raises(PermissionRefused):
            await bench.broker.draw(consumer("web01"), DrawRequest(64, FULL, patience_s=60.0))

    async def scenario() -> None:
        bench = sourceless("web01", "db01")
        async with bench.run():
            async with asyncio.TaskGroup() as draws:
                draws.create_task(refused(bench))
                await asyncio.sleep(0)
                bench.broker.book.set_terms({"db01": UNLIMITED})
                bench.put(BYTES)
            assert len((await bench.broker.draw(consumer("db01"), DrawRequest(64, FULL))).data) == 64
            assert asyncio.get_running_loop().time() == 0

    run_virtually(scenario())


class FaultyDriver(ScriptedSource):
    """A source with a bug in a command of its driver."""

    async def command(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        raise ZeroDivisionError("a bug")


def test_a_fault_in_an_operators_verb_costs_the_verb_alone() -> None:
    """The operator gets an error, and the source keeps running."""

    async def scenario() -> None:
        bench = Workbench(FaultyDriver("stick", seed=1), capacity_bytes=4096)
        async with bench.run():
            await bench.until_filled()
            with pytest.raises(SourceError, match="bug in drawwell"):
                await bench.sources[0].command("info", {})
            assert bench.sources[0].healthy
            await bench.broker.draw(consumer("web01"), DrawRequest(4000, FULL))
            await bench.until_filled()

    run_virtually(scenario())


def test_draws_of_a_consumer_that_was_removed_do_not_overwrite_its_account() -> None:
    """Late reservations of a consumer invited again are not written."""

    async def draw(bench: Workbench, n_bytes: int) -> None:
        with contextlib.suppress(Refused):
            await bench.broker.draw(consumer("web01"), DrawRequest(n_bytes, DrawClass.DRBG))

    async def scenario() -> None:
        terms = {"web01": Terms(frozenset(DrawClass), None, Allowance(10_000, DAY_S))}
        bench = Workbench(rules=Rules("bench", min_sources=0), terms=terms, capacity_bytes=4096)
        bench.put(BYTES)
        async with asyncio.TaskGroup() as draws:
            for n_bytes in (100, 3000, 5000):  # the second and third wait for the first's reservation
                draws.create_task(draw(bench, n_bytes))
            await asyncio.sleep(1)
            bench.broker.book.set_terms({})
            bench.disk.states["web01"] = QuotaState(int(bench.clock() // DAY_S), DAY_S, 9999)
            bench.broker.book.set_terms(terms, bench.disk.states.get)
            async with bench.run():
                await asyncio.sleep(1)
        assert max(write["web01"].reserved_bytes for write in bench.disk.writes) < 200
        assert len(bench.disk.writes) == 1

    run_virtually(scenario())
