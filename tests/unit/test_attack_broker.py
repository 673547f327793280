"""Attacks on the broker's one call: consumers that go while they draw, and what that does to the others."""

import asyncio
from typing import Any

import pytest

from drawwell.entropy.blocks import DrawClass
from drawwell.errors import PermissionRefused, SourceError
from drawwell.roles.broker import Rules
from drawwell.testing import sick
from drawwell.testing.scripted import ScriptedSource
from drawwell.testing.virtual_time import run_virtually
from drawwell.testing.workbench import UNLIMITED, Workbench

FULL = DrawClass.FULL
BYTES = sick.good(1).read(4096)


def sourceless(*names: str) -> Workbench:
    return Workbench(
        rules=Rules("bench", min_sources=0), terms=dict.fromkeys(names, UNLIMITED), capacity_bytes=4096
    )


def test_a_consumer_that_is_revoked_while_it_waits_in_line_harms_nobody() -> None:
    """Its draw is refused at once, and the others go on drawing."""

    async def refused(bench: Workbench) -> None:
        with pytest.raises(PermissionRefused):
            await bench.broker.draw("web01", 64, FULL, patience_s=60.0)

    async def scenario() -> None:
        bench = sourceless("web01", "db01")
        async with bench.run():
            async with asyncio.TaskGroup() as draws:
                draws.create_task(refused(bench))
                await asyncio.sleep(0)
                bench.broker.set_terms({"db01": UNLIMITED}, {})
                bench.put(BYTES)
            assert len((await bench.broker.draw("db01", 64, FULL)).data) == 64
            assert asyncio.get_running_loop().time() == 0

    run_virtually(scenario())


class FaultyDriver(ScriptedSource):
    """A source whose driver has a bug in a verb."""

    async def command(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        raise ZeroDivisionError("a bug")


def test_a_fault_in_an_operators_verb_costs_the_verb_alone() -> None:
    """The operator is told, and the source goes on as it was."""

    async def scenario() -> None:
        bench = Workbench(FaultyDriver("stick", seed=1), capacity_bytes=4096)
        async with bench.run():
            await bench.until_filled()
            with pytest.raises(SourceError, match="fault in drawwell"):
                await bench.sources[0].command("info", {})
            assert bench.sources[0].healthy
            await bench.broker.draw("web01", 4000, FULL)
            await bench.until_filled()

    run_virtually(scenario())
