"""Draws that wait in the broker's queue, in virtual time."""

import asyncio
import random
from collections import Counter

import pytest

from drawwell.entropy.blocks import DrawRequest
from drawwell.errors import (
    Refused,
    Starved,
)
from drawwell.testing.scripted import ScriptedSource
from drawwell.testing.virtual_time import run_virtually
from drawwell.units import Allowance
from support.principals import consumer
from support.workbench import UNLIMITED, Workbench
from unit.broker.known_bench import DRBG, FULL, KNOWN, limited, refusal, sourceless

# ---- waiting in the queue --------------------------------------------------------------


def test_a_patient_draw_is_served_as_soon_as_there_is_enough() -> None:
    """The draw waits for the missing bytes and takes them when they arrive."""

    async def run() -> None:
        bench = sourceless()
        async with bench.run(), asyncio.TaskGroup() as group:
            drawing = group.create_task(
                bench.broker.draw(consumer("web01"), DrawRequest(32, FULL, patience_s=100))
            )
            await asyncio.sleep(50)
            assert not drawing.done()
            bench.put(KNOWN[:128])
            assert len(await drawing) == 32
            assert asyncio.get_running_loop().time() == pytest.approx(50)

    run_virtually(run())


def test_patience_that_is_over_is_starved() -> None:
    """A draw that waited for its full patience is refused and takes no bytes."""

    async def run() -> None:
        bench = sourceless()
        bench.put(KNOWN[:64])
        async with bench.run():
            with pytest.raises(Starved):
                await bench.broker.draw(consumer("web01"), DrawRequest(32, FULL, patience_s=100))
            assert asyncio.get_running_loop().time() == pytest.approx(100)
            assert len(bench.supply.reservoir) == 64

    run_virtually(run())


def test_a_draw_that_waits_is_refused_when_the_source_fails() -> None:
    """The draw fails when the last source fails, not when its patience ends."""

    async def run() -> None:
        driver, gate = ScriptedSource(), asyncio.Event()
        bench = Workbench(driver, capacity_bytes=8192)
        async with bench.run(), asyncio.TaskGroup() as group:
            await bench.until_filled()
            driver.at_read.append(gate)
            bench.supply.take(len(bench.supply.reservoir))
            drawing = group.create_task(
                refusal(bench.broker.draw(consumer("web01"), DrawRequest(32, FULL, patience_s=1000)))
            )
            await asyncio.sleep(10)
            assert not drawing.done()
            driver.unplugged = True
            gate.set()
            assert await drawing == "NoHealthySource"
            assert asyncio.get_running_loop().time() < 20

    run_virtually(run())


def test_a_cancelled_wait_does_not_delay_the_others() -> None:
    """A cancelled draw gives its place in the queue to the next one."""

    async def run() -> None:
        bench = sourceless(terms={"one": UNLIMITED, "two": UNLIMITED})
        async with bench.run(), asyncio.TaskGroup() as group:
            gone = group.create_task(
                bench.broker.draw(consumer("one"), DrawRequest(1000, FULL, patience_s=100))
            )
            await asyncio.sleep(1)
            other = group.create_task(
                bench.broker.draw(consumer("two"), DrawRequest(32, FULL, patience_s=100))
            )
            await asyncio.sleep(1)
            bench.put(KNOWN[:128])
            await asyncio.sleep(1)
            assert not other.done()
            gone.cancel()
            assert len(await other) == 32

    run_virtually(run())


# ---- together --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_fifty_tasks_as_ten_consumers_share_fairly_and_twice_nothing(seed: int) -> None:
    """Each byte is drawn once; ledger and quotas are correct at every step."""
    draw = random.Random(seed)
    terms = {
        f"c{n}": limited(
            str(draw.choice([500, 2000])) if draw.random() < 0.7 else None,
            Allowance(draw.choice([3000, 30_000]), 3600.0),
        )
        for n in range(10)
    }
    granted: list[tuple[str, int, bytes]] = []
    served: Counter[str] = Counter()

    async def customer(bench: Workbench, name: str) -> None:
        for _ in range(20):
            size, draw_class = draw.randint(1, 400), draw.choice([FULL, FULL, DRBG])
            try:
                grant = await bench.broker.draw(
                    consumer(name), DrawRequest(size, draw_class, prediction_resistance=draw.random() < 0.1)
                )
            except Refused as refused:
                await asyncio.sleep(min(refused.retry_after_s or 0.1, 5.0))
                continue
            granted.append((name, grant.serial, grant.data))
            served[name] += size
            assert bench.supply.report().balanced
            assert served[name] <= terms[name].total.limit_bytes
            await asyncio.sleep(draw.random() * 0.05)

    async def run() -> Workbench:
        bench = Workbench(ScriptedSource(seed=seed), terms=terms)
        async with bench.run(), asyncio.TaskGroup() as group:
            await bench.until_filled()
            for n in range(50):
                group.create_task(customer(bench, f"c{n % 10}"))
        return bench

    bench = run_virtually(run())
    serials = [serial for _, serial, _ in granted]
    windows = [data[at : at + 8] for _, _, data in granted for at in range(len(data) - 7)]
    assert len(granted) > 200
    assert len(set(serials)) == len(serials)
    assert len(set(windows)) == len(windows)
    for name, account in bench.broker.accounts.items():
        assert account.full_bytes + account.drbg_bytes == served[name]
