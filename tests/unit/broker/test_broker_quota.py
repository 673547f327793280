"""A consumer's quota and rate, and their state on disk."""

import asyncio
import random

import pytest

from drawwell.broker.broker import SEED_BYTES
from drawwell.entropy.blocks import DrawClass, DrawRequest
from drawwell.errors import (
    QuotaExceeded,
    Refused,
    StateUnavailable,
)
from drawwell.testing.virtual_time import run_virtually
from drawwell.testing.waiting import until
from drawwell.units import Allowance
from support.principals import consumer
from support.workbench import Disk, Workbench
from unit.broker.known_bench import DRBG, FULL, KNOWN, limited, on_bench, refusal, sourceless


def test_a_quota_is_exact_to_the_byte_and_to_the_second() -> None:
    """The last byte is served; one more byte waits for the next period."""

    async def scenario(bench: Workbench) -> None:
        await bench.broker.draw(consumer("web01"), DrawRequest(600, FULL))
        await bench.broker.draw(consumer("web01"), DrawRequest(400, DRBG))
        with pytest.raises(QuotaExceeded) as refused:
            await bench.broker.draw(consumer("web01"), DrawRequest(1, FULL))
        wait = refused.value.retry_after_s
        assert not refused.value.estimate
        await asyncio.sleep(wait - 0.001)
        assert await refusal(bench.broker.draw(consumer("web01"), DrawRequest(1, FULL))) == "QuotaExceeded"
        await asyncio.sleep(0.001)
        await bench.broker.draw(consumer("web01"), DrawRequest(1, FULL))

    on_bench(scenario, terms={"web01": limited(total=Allowance(1000, 86_400))})


def test_waiting_for_retry_after_is_always_enough() -> None:
    """A draw after exactly `retry_after` is served, for any earlier draws."""

    async def scenario(bench: Workbench) -> None:
        draw = random.Random(4)
        for _ in range(200):
            size = draw.randint(1, 300)
            try:
                await bench.broker.draw(consumer("web01"), DrawRequest(size, DRBG))
            except QuotaExceeded as refused:
                await asyncio.sleep(refused.retry_after_s + 2e-6)  # the loop's timers may be 1e-6 early
                await bench.broker.draw(consumer("web01"), DrawRequest(size, DRBG))

    on_bench(scenario, terms={"web01": limited("100")})


def test_a_reservation_is_on_disk_before_the_first_byte_is_served() -> None:
    """Nothing leaves the reservoir before the write has ended."""

    async def run() -> None:
        bench = sourceless(terms={"web01": limited("1000", Allowance(5000, 86_400))})
        bench.put(KNOWN)
        async with asyncio.TaskGroup() as group:
            drawing = group.create_task(bench.broker.draw(consumer("web01"), DrawRequest(8, FULL)))
            await asyncio.sleep(60)
            assert len(bench.supply.reservoir) == len(KNOWN)
            assert not drawing.done()
            writing = group.create_task(bench.write_ahead.run())
            assert len(await drawing) == 8
            assert bench.disk.states["web01"].reserved_bytes >= 8
            writing.cancel()

    run_virtually(run())


def test_many_consumers_reservations_are_one_write() -> None:
    """Simultaneous reservations are written to disk together."""

    async def run() -> None:
        names = [f"c{n}" for n in range(40)]
        bench = sourceless(terms={name: limited("1000", Allowance(5000, 86_400)) for name in names})
        bench.put(KNOWN)
        async with asyncio.TaskGroup() as group:
            drawing = [
                group.create_task(bench.broker.draw(consumer(name), DrawRequest(8, FULL))) for name in names
            ]
            await asyncio.sleep(1)
            writing = group.create_task(bench.write_ahead.run())
            for draw in drawing:
                await draw
            writing.cancel()
        assert [set(write) for write in bench.disk.writes] == [set(names)]

    run_virtually(run())


def test_a_crash_counts_what_was_reserved_and_empties_the_bucket() -> None:
    """After a restart, reserved bytes count as spent; the rate is empty."""
    disk, terms = Disk(), {"web01": limited("100", Allowance(1000, 86_400))}

    async def first(bench: Workbench) -> None:
        await bench.broker.draw(consumer("web01"), DrawRequest(100, FULL))

    async def second(bench: Workbench) -> None:
        assert bench.broker.book.busiest(1)[0].quota_left_bytes == 1000 - disk.states["web01"].reserved_bytes
        with pytest.raises(QuotaExceeded) as refused:
            await bench.broker.draw(consumer("web01"), DrawRequest(50, FULL))
        assert refused.value.retry_after_s == pytest.approx(0.5)

    on_bench(first, disk=disk, terms=terms)
    assert 100 <= disk.states["web01"].reserved_bytes <= 200
    on_bench(second, disk=disk, terms=terms)


def test_lives_together_never_serve_more_than_the_quota() -> None:
    """All runs together stay within the total, after any number of crashes."""
    disk, terms = Disk(), {"web01": limited(None, Allowance(20_000, 86_400))}
    draw, served = random.Random(11), 0

    async def life(bench: Workbench) -> None:
        nonlocal served
        for _ in range(draw.randint(0, 12)):
            try:
                served += len(
                    await bench.broker.draw(consumer("web01"), DrawRequest(draw.randint(1, 300), DRBG))
                )
            except Refused:
                return

    for _ in range(60):
        on_bench(life, disk=disk, terms=terms)
    assert 10_000 < served <= 20_000


def test_a_full_disk_refuses_loses_nothing_and_heals() -> None:
    """While state cannot be written, no byte is taken; then draws continue."""

    async def scenario(bench: Workbench) -> None:
        bench.disk.full = True
        for draw_class in DrawClass:
            with pytest.raises(StateUnavailable, match="no space") as refused:
                await bench.broker.draw(consumer("web01"), DrawRequest(8, draw_class))
            assert refused.value.hint
        assert len(bench.supply.reservoir) == len(KNOWN)
        assert bench.broker.book.busiest(1)[0].quota_left_bytes == 5000
        bench.disk.full = False
        await bench.broker.draw(consumer("web01"), DrawRequest(8, FULL))

    on_bench(scenario, terms={"web01": limited("1000", Allowance(5000, 86_400))})


def test_a_full_disk_does_not_touch_consumers_without_a_limit() -> None:
    """A consumer without a quota needs no reservation and no disk."""

    async def scenario(bench: Workbench) -> None:
        bench.disk.full = True
        assert len(await bench.broker.draw(consumer("web01"), DrawRequest(8, FULL))) == 8

    on_bench(scenario)


def test_a_draw_cancelled_while_its_reservation_is_written_takes_nothing() -> None:
    """The cancelled draw is not charged, and the next draw succeeds."""

    async def run() -> None:
        bench = sourceless(terms={"web01": limited("1000", Allowance(5000, 86_400))})
        bench.put(KNOWN)
        async with asyncio.TaskGroup() as group:
            gone = group.create_task(bench.broker.draw(consumer("web01"), DrawRequest(900, FULL)))
            await asyncio.sleep(1)
            gone.cancel()
            await asyncio.sleep(1)
            writing = group.create_task(bench.write_ahead.run())
            await bench.broker.draw(consumer("web01"), DrawRequest(8, FULL))
            assert len(bench.supply.reservoir) == len(KNOWN) - SEED_BYTES - 8
            assert bench.broker.book.busiest(1)[0].quota_left_bytes == 4992
            writing.cancel()

    run_virtually(run())


def test_what_was_reserved_for_a_cancelled_draw_serves_the_next() -> None:
    """The reservation of a cancelled draw is used by the next one."""

    async def run() -> None:
        bench = sourceless(terms={"web01": limited("1000", Allowance(5000, 86_400))})
        bench.put(KNOWN)
        async with asyncio.TaskGroup() as group:
            gone = group.create_task(bench.broker.draw(consumer("web01"), DrawRequest(900, FULL)))
            await asyncio.sleep(1)
            gone.cancel()
            writing = group.create_task(bench.write_ahead.run())
            await until(lambda: bench.disk.writes, "it is written")
            await bench.broker.draw(consumer("web01"), DrawRequest(8, FULL))
            assert len(bench.disk.writes) == 1
            writing.cancel()

    run_virtually(run())


def test_changed_terms_keep_what_was_spent() -> None:
    """A new quota applies at once, and earlier draws count against it."""

    async def scenario(bench: Workbench) -> None:
        await bench.broker.draw(consumer("web01"), DrawRequest(800, FULL))
        for total, left in ((2000, 1200), (900, 100), (100, 0)):
            bench.broker.book.set_terms({"web01": limited(total=Allowance(total, 86_400))})
            assert bench.broker.book.busiest(1)[0].quota_left_bytes == left

    on_bench(scenario, terms={"web01": limited(total=Allowance(1000, 86_400))})
