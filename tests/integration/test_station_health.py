"""The health history of a complete broker with a simulated stick."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from drawwell.observe.page import page
from drawwell.roles import broker_process
from drawwell.simulator.pty import PtyDevice
from drawwell.testing.waiting import until
from support.station import Site, running


def test_history_outlives_a_restart(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recorded minute is reported, shown on the page, and kept."""
    monkeypatch.setattr(broker_process, "UPKEEP_S", 0.05)
    site = Site(folder)
    answers: list[dict[str, Any]] = []

    async def ask() -> None:
        answers.append(await site.ask("source.history", {"source": "stick"}))

    async def first_life() -> dict[str, Any]:
        async with PtyDevice(folder / "stick", seed=1, rate=0), running(site) as process:
            await site.until_healthy()
            record = process.station._health
            await until(lambda: record.of("stick")["minutes"], "a minute is noted")
            await ask()
            return await site.ask("observe")

    async def second_life() -> None:
        async with running(site):  # without its stick
            await ask()

    report = asyncio.run(first_life())["report"]
    first = answers[-1]
    for test in report["sources"][0]["tests"]:
        assert len(test["history"]) == 96
        assert test["history"][-1] is not None
    assert "in the last 24 hours" in page(report, names=True)
    assert first["simulated"]
    assert first["tests"][0] == "repetition count (byte)"
    assert 0 < first["minutes"][-1]["nearness"][0] < 1

    asyncio.run(second_life())
    assert answers[-1]["tests"] == first["tests"]
    assert answers[-1]["minutes"][0]["at"] == first["minutes"][0]["at"]
