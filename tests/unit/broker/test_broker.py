"""The broker's draws, from known reservoir bytes, in virtual time."""

import asyncio

import pytest

from drawwell.broker.broker import SEED_BYTES, Rules
from drawwell.crypto.drbg import Drbg
from drawwell.crypto.receipts import verify_receipt
from drawwell.entropy.blocks import DrawClass, DrawRequest, FullEntropy
from drawwell.errors import (
    DrawRefused,
    NoHealthySource,
    PermissionRefused,
    QuotaExceeded,
    Starved,
)
from drawwell.testing.scripted import ScriptedSource
from drawwell.testing.virtual_time import run_virtually
from drawwell.testing.waiting import until
from drawwell.units import Allowance
from support.principals import consumer
from support.workbench import UNLIMITED, Workbench
from unit.broker.known_bench import DRBG, FULL, KNOWN, limited, on_bench, refusal, sourceless

FRESH = bytes(32)  # stands for the operating system's generator


# ---- the bytes of a grant --------------------------------------------------------------


def test_full_is_reservoir_bytes_xored_with_the_consumers_own_drbg() -> None:
    """A grant is the next reservoir bytes XOR a DRBG with an earlier seed."""

    async def scenario(bench: Workbench) -> None:
        drbg = Drbg(KNOWN[:SEED_BYTES], b"web01")
        at = SEED_BYTES
        for size in (1, 32, 1000):
            grant = await bench.broker.draw(consumer("web01"), DrawRequest(size, FULL))
            mask = drbg.generate(size, FRESH)
            assert grant.data == bytes(a ^ b for a, b in zip(KNOWN[at : at + size], mask, strict=True))
            at += size

    on_bench(scenario)


def test_class_drbg_is_the_consumers_own_drbg_and_takes_nothing_but_its_seed() -> None:
    """The generator gets one seed of 48 reservoir bytes, counted separately."""

    async def scenario(bench: Workbench) -> None:
        drbg = Drbg(KNOWN[:SEED_BYTES], b"web01")
        for size in (1, 65_536, 32):
            assert (
                await bench.broker.draw(consumer("web01"), DrawRequest(size, DRBG))
            ).data == drbg.generate(size, FRESH)
        ledger = bench.supply.report()
        assert ledger.drbg_bytes == 1 + 65_536 + 32
        assert ledger.delivered_bits == 8 * SEED_BYTES
        assert ledger.balanced
        report = bench.broker.book.busiest(1)[0]
        assert (report.full_bytes, report.drbg_bytes, report.draws) == (0, 65_569, 3)

    on_bench(scenario)


def test_consumers_have_drbgs_of_their_own() -> None:
    """Two consumers get different seeds and different bytes."""

    async def scenario(bench: Workbench) -> None:
        one = (await bench.broker.draw(consumer("one"), DrawRequest(64, DRBG))).data
        two = (await bench.broker.draw(consumer("two"), DrawRequest(64, DRBG))).data
        assert one == Drbg(KNOWN[:SEED_BYTES], b"one").generate(64, FRESH)
        assert two == Drbg(KNOWN[SEED_BYTES : 2 * SEED_BYTES], b"two").generate(64, FRESH)

    on_bench(scenario, terms={"one": UNLIMITED, "two": UNLIMITED})


def test_what_was_taken_is_overwritten_after_use() -> None:
    """Buffers of seed and reservoir bytes are zeroed after the grant."""

    async def scenario(bench: Workbench) -> None:
        taken: list[FullEntropy] = []
        take = bench.supply.take

        def watched(n_bytes: int) -> FullEntropy:
            taken.append(take(n_bytes))
            return taken[-1]

        bench.supply.take = watched
        await bench.broker.draw(consumer("web01"), DrawRequest(100, FULL))
        assert [each.data for each in taken] == [bytes(SEED_BYTES), bytes(100)]

    on_bench(scenario)


def test_prediction_resistance_reseeds_first_and_costs_the_seed() -> None:
    """A draw with prediction resistance also takes and charges 48 bytes."""

    async def scenario(bench: Workbench) -> None:
        drbg = Drbg(KNOWN[:SEED_BYTES], b"web01")
        await bench.broker.draw(consumer("web01"), DrawRequest(32, DRBG))
        drbg.generate(32, FRESH)
        left = bench.broker.book.busiest(1)[0].quota_left_bytes
        grant = await bench.broker.draw(consumer("web01"), DrawRequest(32, DRBG, prediction_resistance=True))
        drbg.reseed(KNOWN[SEED_BYTES : 2 * SEED_BYTES])
        assert grant.data == drbg.generate(32, FRESH)
        assert bench.broker.book.busiest(1)[0].quota_left_bytes == left - 32 - SEED_BYTES

    on_bench(scenario, terms={"web01": limited(total=Allowance(10_000, 86_400))})


def test_a_drbg_is_reseeded_when_it_has_grown_old() -> None:
    """A draw after the reseed interval uses a fresh seed, an earlier one not."""

    async def scenario(bench: Workbench) -> None:
        drbg = Drbg(KNOWN[:SEED_BYTES], b"web01")
        await bench.broker.draw(consumer("web01"), DrawRequest(32, DRBG))
        drbg.generate(32, FRESH)
        await asyncio.sleep(599)
        assert (await bench.broker.draw(consumer("web01"), DrawRequest(32, DRBG))).data == drbg.generate(
            32, FRESH
        )
        await asyncio.sleep(1.001)
        drbg.reseed(KNOWN[SEED_BYTES : 2 * SEED_BYTES])
        assert (await bench.broker.draw(consumer("web01"), DrawRequest(32, DRBG))).data == drbg.generate(
            32, FRESH
        )

    on_bench(scenario, rules=Rules("bench", min_sources=0, reseed_interval_s=600))


def test_drbg_is_refused_when_its_seed_is_due_and_cannot_be_had() -> None:
    """An old DRBG is not used while the reservoir is empty: draws starve."""

    async def run() -> None:
        bench = sourceless(rules=Rules("bench", min_sources=0, reseed_interval_s=600))
        bench.put(KNOWN[:64])
        async with bench.run():
            await bench.broker.draw(consumer("web01"), DrawRequest(32, DRBG))
            await asyncio.sleep(599)
            await bench.broker.draw(consumer("web01"), DrawRequest(32, DRBG))
            await asyncio.sleep(2)
            with pytest.raises(Starved):
                await bench.broker.draw(consumer("web01"), DrawRequest(32, DRBG))
            with pytest.raises(Starved):
                await bench.broker.draw(consumer("web01"), DrawRequest(32, DRBG, prediction_resistance=True))

    run_virtually(run())


def test_full_is_never_served_from_a_starved_reservoir() -> None:
    """If one byte is missing, no byte is taken, charged or generated."""

    async def run() -> None:
        bench = sourceless(terms={"web01": limited(total=Allowance(1000, 86_400))})
        bench.put(KNOWN[: SEED_BYTES + 63])
        async with bench.run():
            with pytest.raises(Starved, match="lacks 1 bytes") as refused:
                await bench.broker.draw(consumer("web01"), DrawRequest(64, FULL))
            assert refused.value.hint
            assert len(bench.supply.reservoir) == SEED_BYTES + 63
            assert bench.broker.book.busiest(1)[0].quota_left_bytes == 1000
            assert bench.disk.writes == []
            assert len((await bench.broker.draw(consumer("web01"), DrawRequest(63, FULL))).data) == 63

    run_virtually(run())


def test_a_starved_draw_estimates_the_wait_from_the_measured_rate() -> None:
    """The wait is the missing bytes over the measured rate, as an estimate."""

    async def run() -> None:
        bench = Workbench(ScriptedSource(), capacity_bytes=8192)
        async with bench.run():
            await bench.until_filled()
            bench.supply.take(len(bench.supply.reservoir) - SEED_BYTES - 10)
            rate = bench.broker.report().supply_bytes_per_s
            assert rate == pytest.approx(100_000 * 0.75 * 512 / 576, rel=0.02)
            with pytest.raises(Starved) as refused:
                await bench.broker.draw(consumer("web01"), DrawRequest(1010, FULL))
            assert refused.value.estimate
            assert refused.value.retry_after_s == pytest.approx(1000 / rate)

    run_virtually(run())


def test_a_source_that_failed_is_not_counted_on_for_supply() -> None:
    """Estimated waits use the rate of currently healthy sources."""

    async def run() -> None:
        driver = ScriptedSource("one")
        bench = Workbench(driver, ScriptedSource("two"), capacity_bytes=65_536)
        async with bench.run():
            await bench.until_filled()
            both = bench.broker.report().supply_bytes_per_s
            driver.unplugged = True
            await until(lambda: not bench.sources[0].healthy, "the first source is gone")
            assert bench.broker.report().supply_bytes_per_s == pytest.approx(both / 2, rel=0.05)

    run_virtually(run())


def test_without_a_healthy_source_neither_class_is_served() -> None:
    """With too few healthy sources, neither reservoir nor DRBG serves draws."""

    async def run() -> None:
        driver = ScriptedSource()
        bench = Workbench(driver, capacity_bytes=8192)
        async with bench.run():
            await bench.until_filled()
            await bench.broker.draw(consumer("web01"), DrawRequest(32, DRBG))
            driver.unplugged = True
            await asyncio.sleep(10)
            held = len(bench.supply.reservoir)
            for draw_class in DrawClass:
                with pytest.raises(
                    NoHealthySource, match="0 of 1 noise sources are healthy, but min_sources is 1"
                ) as refused:
                    await bench.broker.draw(consumer("web01"), DrawRequest(32, draw_class))
                assert refused.value.hint
            assert len(bench.supply.reservoir) == held > 0

    run_virtually(run())


# ---- permissions -----------------------------------------------------------------------


@pytest.mark.parametrize("size", [-1, 0, 4097, 10**12])
def test_a_draw_of_a_wrong_size_is_refused(size: int) -> None:
    """An empty or too large draw is refused; nothing is taken or written."""

    async def scenario(bench: Workbench) -> None:
        with pytest.raises(DrawRefused, match="1 to 4096"):
            await bench.broker.draw(consumer("web01"), DrawRequest(size, FULL))
        assert len(bench.supply.reservoir) == len(KNOWN)

    bench = on_bench(scenario, rules=Rules("bench", min_sources=0, max_draw_bytes=4096))
    assert bench.disk.writes == []


def test_a_class_that_is_not_allowed_is_refused_and_named() -> None:
    """The refusal names the allowed class."""

    async def scenario(bench: Workbench) -> None:
        for mine, other in ((FULL, DRBG), (DRBG, FULL)):
            await bench.broker.draw(consumer(str(mine)), DrawRequest(8, mine))
            with pytest.raises(DrawRefused, match=f"may not draw class {other}") as refused:
                await bench.broker.draw(consumer(str(mine)), DrawRequest(8, other))
            assert f"class {mine}" in str(refused.value.hint)
        assert [account.refused for account in bench.broker.accounts.values()] == [1, 1]

    on_bench(scenario, terms={str(one): limited("1000", classes=frozenset({one})) for one in (FULL, DRBG)})


def test_a_wait_is_no_refusal() -> None:
    """A draw that is repeated after a used-up quota waits."""

    async def scenario(bench: Workbench) -> None:
        await bench.broker.draw(consumer("web01"), DrawRequest(8, FULL))
        for retried, refused in ((True, 0), (False, 1)):
            for ask in (bench.broker.draw, bench.broker.try_draw):
                with pytest.raises(QuotaExceeded):
                    await ask(consumer("web01"), DrawRequest(8, FULL, retried=retried))
            assert bench.broker.accounts["web01"].refused == 2 * refused
        with pytest.raises(DrawRefused):
            await bench.broker.draw(consumer("web01"), DrawRequest(10**12, FULL, retried=True))
        assert bench.broker.accounts["web01"].refused == 3

    on_bench(scenario, terms={"web01": limited("8")})


def test_an_unknown_consumer_is_refused() -> None:
    """The refusal of an unknown name explains how to get an account."""

    async def scenario(bench: Workbench) -> None:
        with pytest.raises(PermissionRefused, match="'stranger'") as refused:
            await bench.broker.draw(consumer("stranger"), DrawRequest(8, FULL))
        assert "invite" in str(refused.value.hint)

    on_bench(scenario)


def test_a_consumer_that_is_taken_out_gets_nothing_more() -> None:
    """A removed consumer is unknown, and its DRBG is erased."""

    async def scenario(bench: Workbench) -> None:
        await bench.broker.draw(consumer("web01"), DrawRequest(8, FULL))
        account = bench.broker.accounts["web01"]
        bench.broker.book.set_terms({})
        with pytest.raises(PermissionRefused):
            await bench.broker.draw(consumer("web01"), DrawRequest(8, FULL))
        assert account.drbg is None

    on_bench(scenario)


@pytest.mark.parametrize("terms", [{}, {"web01": limited("1000", classes=frozenset({DRBG}))}])
def test_terms_that_change_while_a_reservation_is_written_count(terms) -> None:
    """A draw takes nothing if its consumer is revoked during the write."""

    async def run() -> None:
        bench = sourceless(terms={"web01": limited("1000")})
        bench.put(KNOWN)
        async with asyncio.TaskGroup() as group:
            drawing = group.create_task(refusal(bench.broker.draw(consumer("web01"), DrawRequest(8, FULL))))
            await asyncio.sleep(1)
            bench.broker.book.set_terms(terms)
            writing = group.create_task(bench.write_ahead.run())
            assert await drawing in {"PermissionRefused", "DrawRefused"}
            writing.cancel()
        assert len(bench.supply.reservoir) == len(KNOWN)

    run_virtually(run())


def test_a_receipt_describes_its_grant_and_verifies() -> None:
    """A receipt has broker, consumer, own sources, class and serial number."""

    async def run() -> None:
        bench = Workbench(ScriptedSource("stick"), capacity_bytes=8192)
        async with bench.run():
            await bench.until_filled()
            plain = await bench.broker.draw(consumer("web01"), DrawRequest(32, FULL))
            drawn = await bench.broker.draw(consumer("web01"), DrawRequest(32, FULL, receipt=True))
            grant = await bench.broker.sign(drawn)
        body = verify_receipt(grant.receipt, bench.signer.public_key, grant.data, grant.receipt_key)
        assert (body.broker, body.consumer, body.serial) == ("bench", "web01", plain.serial + 1)
        assert [source.name for source in body.sources] == ["stick"]
        assert (plain.receipt, plain.receipt_key) == (b"", b"")

    run_virtually(run())


@pytest.mark.parametrize("draw_class", [FULL, DRBG])
def test_two_copies_of_one_broker_give_out_different_bytes(draw_class) -> None:
    """Fresh input separates two copies with the same reservoir and seeds."""
    grants = []

    async def scenario(bench: Workbench) -> None:
        grants.append((await bench.broker.draw(consumer("web01"), DrawRequest(64, draw_class))).data)

    for copy in (b"1", b"2"):
        on_bench(scenario, fresh=lambda n, copy=copy: copy * n)

    assert grants[0] != grants[1]
