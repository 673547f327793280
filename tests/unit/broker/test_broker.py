"""The broker's one call, with known bytes in its reservoir, in virtual time."""

import asyncio
import random
from collections import Counter

import pytest

from drawwell.broker.account import Terms
from drawwell.broker.broker import SEED_BYTES, Rules
from drawwell.crypto.drbg import CtrDrbg
from drawwell.crypto.receipts import verify_receipt
from drawwell.entropy.blocks import DrawClass, FullEntropy
from drawwell.errors import (
    DrawRefused,
    NoHealthySource,
    PermissionRefused,
    QuotaExceeded,
    Refused,
    Starved,
    StateUnavailable,
)
from drawwell.testing import sick
from drawwell.testing.scripted import ScriptedSource
from drawwell.testing.virtual_time import run_virtually
from drawwell.testing.waiting import until
from drawwell.units import Allowance
from support.workbench import UNLIMITED, Disk, Workbench

FULL, DRBG = DrawClass.FULL, DrawClass.DRBG
BOTH = frozenset(DrawClass)
FRESH = bytes(32)  # what the workbench gives for the operating system's generator
KNOWN = sick.good(1).read(65_536)


def sourceless(**keywords) -> Workbench:
    """A bench that serves what is put into it."""
    keywords.setdefault("rules", Rules("bench", min_sources=0))
    return Workbench(**keywords)


def limited(rate: str | None = None, total: Allowance | None = None, classes=BOTH) -> Terms:
    return Terms(classes, Allowance(int(rate), 1.0) if rate else None, total)


def on_bench(scenario, **keywords) -> Workbench:
    """Run `scenario(bench)` on a bench with known bytes, with its write-ahead running."""

    async def run() -> Workbench:
        bench = sourceless(**keywords)
        bench.put(KNOWN)
        async with bench.run():
            await scenario(bench)
        return bench

    return run_virtually(run())


# ---- what a grant is made of --------------------------------------------------------------------------------


def test_full_is_reservoir_bytes_xored_with_the_consumers_own_drbg() -> None:
    """A full grant is the reservoir's next bytes XOR the output of a DRBG that was seeded from the bytes before."""

    async def scenario(bench: Workbench) -> None:
        drbg = CtrDrbg(KNOWN[:SEED_BYTES], b"web01")
        at = SEED_BYTES
        for size in (1, 32, 1000):
            grant = await bench.broker.draw("web01", size, FULL)
            mask = drbg.generate(size, FRESH)
            assert grant.data == bytes(a ^ b for a, b in zip(KNOWN[at : at + size], mask, strict=True))
            at += size

    on_bench(scenario)


def test_class_drbg_is_the_consumers_own_drbg_and_takes_nothing_but_its_seed() -> None:
    """DRBG bytes come from a generator seeded once with 48 reservoir bytes, and are counted apart."""

    async def scenario(bench: Workbench) -> None:
        drbg = CtrDrbg(KNOWN[:SEED_BYTES], b"web01")
        for size in (1, 65_536, 32):
            assert (await bench.broker.draw("web01", size, DRBG)).data == drbg.generate(size, FRESH)
        ledger = bench.supply.report()
        assert ledger.drbg_bytes == 1 + 65_536 + 32
        assert ledger.delivered_bits == 8 * SEED_BYTES
        assert ledger.balanced
        report = bench.broker.report().consumers[0]
        assert (report.full_bytes, report.drbg_bytes, report.draws) == (0, 65_569, 3)

    on_bench(scenario)


def test_consumers_have_drbgs_of_their_own() -> None:
    """Two consumers are seeded with different bytes, and neither draws what the other does."""

    async def scenario(bench: Workbench) -> None:
        one = (await bench.broker.draw("one", 64, DRBG)).data
        two = (await bench.broker.draw("two", 64, DRBG)).data
        assert one == CtrDrbg(KNOWN[:SEED_BYTES], b"one").generate(64, FRESH)
        assert two == CtrDrbg(KNOWN[SEED_BYTES : 2 * SEED_BYTES], b"two").generate(64, FRESH)

    on_bench(scenario, terms={"one": UNLIMITED, "two": UNLIMITED})


def test_what_was_taken_is_overwritten_after_use() -> None:
    """Seed and reservoir bytes are zeroed where they were worked with, once the grant is made."""

    async def scenario(bench: Workbench) -> None:
        taken: list[FullEntropy] = []
        take = bench.supply.take

        def watched(n_bytes: int) -> FullEntropy:
            taken.append(take(n_bytes))
            return taken[-1]

        bench.supply.take = watched
        await bench.broker.draw("web01", 100, FULL)
        assert [each.data for each in taken] == [bytes(SEED_BYTES), bytes(100)]

    on_bench(scenario)


def test_prediction_resistance_reseeds_first_and_costs_the_seed() -> None:
    """A draw with prediction resistance takes 48 fresh bytes, charges them, and is new randomness."""

    async def scenario(bench: Workbench) -> None:
        drbg = CtrDrbg(KNOWN[:SEED_BYTES], b"web01")
        await bench.broker.draw("web01", 32, DRBG)
        drbg.generate(32, FRESH)
        left = bench.broker.report().consumers[0].quota_left_bytes
        grant = await bench.broker.draw("web01", 32, DRBG, prediction_resistance=True)
        drbg.reseed(KNOWN[SEED_BYTES : 2 * SEED_BYTES])
        assert grant.data == drbg.generate(32, FRESH)
        assert bench.broker.report().consumers[0].quota_left_bytes == left - 32 - SEED_BYTES

    on_bench(scenario, terms={"web01": limited(total=Allowance(10_000, 86_400))})


def test_a_drbg_is_reseeded_when_it_has_grown_old() -> None:
    """After the interval the next draw is made from fresh seed, and not one moment before."""

    async def scenario(bench: Workbench) -> None:
        drbg = CtrDrbg(KNOWN[:SEED_BYTES], b"web01")
        await bench.broker.draw("web01", 32, DRBG)
        drbg.generate(32, FRESH)
        await asyncio.sleep(599)
        assert (await bench.broker.draw("web01", 32, DRBG)).data == drbg.generate(32, FRESH)
        await asyncio.sleep(1.001)
        drbg.reseed(KNOWN[SEED_BYTES : 2 * SEED_BYTES])
        assert (await bench.broker.draw("web01", 32, DRBG)).data == drbg.generate(32, FRESH)

    on_bench(scenario, rules=Rules("bench", min_sources=0, reseed_interval_s=600))


def test_drbg_is_refused_when_its_seed_is_due_and_cannot_be_had() -> None:
    """An old DRBG is not used on when the reservoir is empty: the draw is starved."""

    async def run() -> None:
        bench = sourceless(rules=Rules("bench", min_sources=0, reseed_interval_s=600))
        bench.put(KNOWN[:64])
        async with bench.run():
            await bench.broker.draw("web01", 32, DRBG)
            await asyncio.sleep(599)
            await bench.broker.draw("web01", 32, DRBG)
            await asyncio.sleep(2)
            with pytest.raises(Starved):
                await bench.broker.draw("web01", 32, DRBG)
            with pytest.raises(Starved):
                await bench.broker.draw("web01", 32, DRBG, prediction_resistance=True)

    run_virtually(run())


def test_full_is_never_served_from_a_starved_reservoir() -> None:
    """One byte less than a draw needs and nothing is taken, nothing charged, and no DRBG output takes its place."""

    async def run() -> None:
        bench = sourceless(terms={"web01": limited(total=Allowance(1000, 86_400))})
        bench.put(KNOWN[: SEED_BYTES + 63])
        async with bench.run():
            with pytest.raises(Starved, match="1 bytes short") as refused:
                await bench.broker.draw("web01", 64, FULL)
            assert refused.value.hint
            assert len(bench.supply.reservoir) == SEED_BYTES + 63
            assert bench.broker.report().consumers[0].quota_left_bytes == 1000
            assert bench.disk.writes == []
            assert len((await bench.broker.draw("web01", 63, FULL)).data) == 63

    run_virtually(run())


def test_a_starved_draw_says_when_by_the_measured_rate() -> None:
    """The wait is what is missing over what the sources have been giving, and is marked an estimate."""

    async def run() -> None:
        bench = Workbench(ScriptedSource(), capacity_bytes=8192)
        async with bench.run():
            await bench.until_filled()
            bench.supply.take(len(bench.supply.reservoir) - SEED_BYTES - 10)
            rate = bench.broker.report().supply_bytes_per_s
            assert rate == pytest.approx(100_000 * 0.75 * 512 / 576, rel=0.02)
            with pytest.raises(Starved) as refused:
                await bench.broker.draw("web01", 1010, FULL)
            assert refused.value.estimate
            assert refused.value.retry_after_s == pytest.approx(1000 / rate)

    run_virtually(run())


def test_a_source_that_failed_is_not_counted_on_for_supply() -> None:
    """The rate that waits are told by is that of the sources that are healthy now."""

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
    """A full reservoir and a seeded DRBG serve nobody while fewer sources are healthy than there must be."""

    async def run() -> None:
        driver = ScriptedSource()
        bench = Workbench(driver, capacity_bytes=8192)
        async with bench.run():
            await bench.until_filled()
            await bench.broker.draw("web01", 32, DRBG)
            driver.unplugged = True
            await asyncio.sleep(10)
            held = len(bench.supply.reservoir)
            for draw_class in DrawClass:
                with pytest.raises(
                    NoHealthySource, match="0 of 1 noise sources healthy, 1 needed"
                ) as refused:
                    await bench.broker.draw("web01", 32, draw_class)
                assert refused.value.hint
            assert len(bench.supply.reservoir) == held > 0

    run_virtually(run())


# ---- waiting in line ----------------------------------------------------------------------------------------


def test_a_patient_draw_is_served_as_soon_as_there_is_enough() -> None:
    """A draw with patience waits for the bytes that are missing, and takes them when they are there."""

    async def run() -> None:
        bench = sourceless()
        async with bench.run(), asyncio.TaskGroup() as group:
            drawing = group.create_task(bench.broker.draw("web01", 32, FULL, patience_s=100))
            await asyncio.sleep(50)
            assert not drawing.done()
            bench.put(KNOWN[:128])
            assert len(await drawing) == 32
            assert asyncio.get_running_loop().time() == pytest.approx(50)

    run_virtually(run())


def test_patience_that_is_over_is_starved() -> None:
    """A draw that waited for as long as it would is refused, and has taken nothing."""

    async def run() -> None:
        bench = sourceless()
        bench.put(KNOWN[:64])
        async with bench.run():
            with pytest.raises(Starved):
                await bench.broker.draw("web01", 32, FULL, patience_s=100)
            assert asyncio.get_running_loop().time() == pytest.approx(100)
            assert len(bench.supply.reservoir) == 64

    run_virtually(run())


def test_a_draw_that_waits_is_refused_when_the_source_fails() -> None:
    """Who waits in line when the last source goes away learns it at once, not when patience is over."""

    async def run() -> None:
        driver, gate = ScriptedSource(), asyncio.Event()
        bench = Workbench(driver, capacity_bytes=8192)
        async with bench.run(), asyncio.TaskGroup() as group:
            await bench.until_filled()
            driver.at_read.append(gate)
            bench.supply.take(len(bench.supply.reservoir))
            drawing = group.create_task(_refusal(bench.broker.draw("web01", 32, FULL, patience_s=1000)))
            await asyncio.sleep(10)
            assert not drawing.done()
            driver.unplugged = True
            gate.set()
            assert await drawing == "NoHealthySource"
            assert asyncio.get_running_loop().time() < 20

    run_virtually(run())


def test_who_gives_up_waiting_does_not_hold_up_the_others() -> None:
    """A draw that is cancelled in line leaves its place to the next one."""

    async def run() -> None:
        bench = sourceless(terms={"one": UNLIMITED, "two": UNLIMITED})
        async with bench.run(), asyncio.TaskGroup() as group:
            gone = group.create_task(bench.broker.draw("one", 1000, FULL, patience_s=100))
            await asyncio.sleep(1)
            other = group.create_task(bench.broker.draw("two", 32, FULL, patience_s=100))
            await asyncio.sleep(1)
            bench.put(KNOWN[:128])
            await asyncio.sleep(1)
            assert not other.done()
            gone.cancel()
            assert len(await other) == 32

    run_virtually(run())


# ---- who may have what --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [-1, 0, 4097, 10**12])
def test_a_draw_of_a_wrong_size_is_refused(size: int) -> None:
    """Less than one byte or more than the largest draw is refused, with nothing taken and nothing written."""

    async def scenario(bench: Workbench) -> None:
        with pytest.raises(DrawRefused, match="1 to 4096"):
            await bench.broker.draw("web01", size, FULL)
        assert len(bench.supply.reservoir) == len(KNOWN)

    bench = on_bench(scenario, rules=Rules("bench", min_sources=0, max_draw_bytes=4096))
    assert bench.disk.writes == []


def test_a_class_that_is_not_allowed_is_refused_and_named() -> None:
    """A consumer of one class is refused the other, and told which one it has."""

    async def scenario(bench: Workbench) -> None:
        for mine, other in ((FULL, DRBG), (DRBG, FULL)):
            await bench.broker.draw(str(mine), 8, mine)
            with pytest.raises(DrawRefused, match=f"may not draw class {other}") as refused:
                await bench.broker.draw(str(mine), 8, other)
            assert f"class {mine}" in str(refused.value.hint)
        assert [account.refused for account in bench.broker.accounts.values()] == [1, 1]

    on_bench(scenario, terms={str(one): limited("1000", classes=frozenset({one})) for one in (FULL, DRBG)})


def test_an_unknown_consumer_is_refused() -> None:
    """A name without an account gets nothing and learns how to get one."""

    async def scenario(bench: Workbench) -> None:
        with pytest.raises(PermissionRefused, match="'nobody'") as refused:
            await bench.broker.draw("nobody", 8, FULL)
        assert "invite" in str(refused.value.hint)

    on_bench(scenario)


def test_a_consumer_that_is_taken_out_gets_nothing_more() -> None:
    """After the terms no longer name it, a consumer is unknown, and its DRBG is wiped."""

    async def scenario(bench: Workbench) -> None:
        await bench.broker.draw("web01", 8, FULL)
        account = bench.broker.accounts["web01"]
        bench.broker.set_terms({}, {})
        with pytest.raises(PermissionRefused):
            await bench.broker.draw("web01", 8, FULL)
        assert account.drbg is None

    on_bench(scenario)


@pytest.mark.parametrize("terms", [{}, {"web01": limited("1000", classes=frozenset({DRBG}))}])
def test_terms_that_change_while_a_reservation_is_written_count(terms) -> None:
    """A draw that waits for the disk when its consumer is revoked, or loses the class, takes nothing."""

    async def run() -> None:
        bench = sourceless(terms={"web01": limited("1000")})
        bench.put(KNOWN)
        async with asyncio.TaskGroup() as group:
            drawing = group.create_task(_refusal(bench.broker.draw("web01", 8, FULL)))
            await asyncio.sleep(1)
            bench.broker.set_terms(terms, {})
            writing = group.create_task(bench.write_ahead.run())
            assert await drawing in {"PermissionRefused", "DrawRefused"}
            writing.cancel()
        assert len(bench.supply.reservoir) == len(KNOWN)

    run_virtually(run())


async def _refusal(drawing) -> str:
    try:
        await drawing
    except (Refused, PermissionRefused, StateUnavailable) as error:
        return type(error).__name__
    return "served"


# ---- quota, and the disk under it ---------------------------------------------------------------------------


def test_a_quota_is_exact_to_the_byte_and_to_the_second() -> None:
    """The total is served to its last byte, one more is refused until exactly the next period."""

    async def scenario(bench: Workbench) -> None:
        await bench.broker.draw("web01", 600, FULL)
        await bench.broker.draw("web01", 400, DRBG)
        with pytest.raises(QuotaExceeded) as refused:
            await bench.broker.draw("web01", 1, FULL)
        wait = refused.value.retry_after_s
        assert not refused.value.estimate
        await asyncio.sleep(wait - 0.001)
        assert await _refusal(bench.broker.draw("web01", 1, FULL)) == "QuotaExceeded"
        await asyncio.sleep(0.001)
        await bench.broker.draw("web01", 1, FULL)

    on_bench(scenario, terms={"web01": limited(total=Allowance(1000, 86_400))})


def test_waiting_as_long_as_the_rate_says_is_always_enough() -> None:
    """Whoever waits exactly `retry_after` and draws again is served, whatever was drawn before."""

    async def scenario(bench: Workbench) -> None:
        draw = random.Random(4)
        for _ in range(200):
            size = draw.randint(1, 300)
            try:
                await bench.broker.draw("web01", size, DRBG)
            except QuotaExceeded as refused:
                await asyncio.sleep(refused.retry_after_s + 2e-6)  # the loop's timers may be 1e-6 early
                await bench.broker.draw("web01", size, DRBG)

    on_bench(scenario, terms={"web01": limited("100")})


def test_a_reservation_is_on_disk_before_the_first_byte_is_served() -> None:
    """While the write is under way nothing has left the reservoir."""

    async def run() -> None:
        bench = sourceless(terms={"web01": limited("1000", Allowance(5000, 86_400))})
        bench.put(KNOWN)
        async with asyncio.TaskGroup() as group:
            drawing = group.create_task(bench.broker.draw("web01", 8, FULL))
            await asyncio.sleep(60)
            assert len(bench.supply.reservoir) == len(KNOWN)
            assert not drawing.done()
            writing = group.create_task(bench.write_ahead.run())
            assert len(await drawing) == 8
            assert bench.disk.states["web01"].reserved_bytes >= 8
            writing.cancel()

    run_virtually(run())


def test_many_consumers_reservations_are_one_write() -> None:
    """Reservations that come together go to the disk together."""

    async def run() -> None:
        names = [f"c{n}" for n in range(40)]
        bench = sourceless(terms={name: limited("1000", Allowance(5000, 86_400)) for name in names})
        bench.put(KNOWN)
        async with asyncio.TaskGroup() as group:
            drawing = [group.create_task(bench.broker.draw(name, 8, FULL)) for name in names]
            await asyncio.sleep(1)
            writing = group.create_task(bench.write_ahead.run())
            for draw in drawing:
                await draw
            writing.cancel()
        assert [set(write) for write in bench.disk.writes] == [set(names)]

    run_virtually(run())


def test_a_crash_counts_what_was_reserved_and_empties_the_bucket() -> None:
    """In its next life a broker serves no byte of what was reserved, and the rate begins at nothing."""
    disk, terms = Disk(), {"web01": limited("100", Allowance(1000, 86_400))}

    async def first(bench: Workbench) -> None:
        await bench.broker.draw("web01", 100, FULL)

    async def second(bench: Workbench) -> None:
        assert (
            bench.broker.report().consumers[0].quota_left_bytes == 1000 - disk.states["web01"].reserved_bytes
        )
        with pytest.raises(QuotaExceeded) as refused:
            await bench.broker.draw("web01", 50, FULL)
        assert refused.value.retry_after_s == pytest.approx(0.5)

    on_bench(first, disk=disk, terms=terms)
    assert 100 <= disk.states["web01"].reserved_bytes <= 200
    on_bench(second, disk=disk, terms=terms)


def test_lives_together_never_serve_more_than_the_quota() -> None:
    """However often a broker dies in the middle, the sum over its lives stays within the total."""
    disk, terms = Disk(), {"web01": limited(None, Allowance(20_000, 86_400))}
    draw, served = random.Random(11), 0

    async def life(bench: Workbench) -> None:
        nonlocal served
        for _ in range(draw.randint(0, 12)):
            try:
                served += len(await bench.broker.draw("web01", draw.randint(1, 300), DRBG))
            except Refused:
                return

    for _ in range(60):
        on_bench(life, disk=disk, terms=terms)
    assert 10_000 < served <= 20_000


def test_a_full_disk_refuses_loses_nothing_and_heals() -> None:
    """While the state cannot be written nothing is taken or charged; with space again all goes on."""

    async def scenario(bench: Workbench) -> None:
        bench.disk.full = True
        for draw_class in DrawClass:
            with pytest.raises(StateUnavailable, match="no space") as refused:
                await bench.broker.draw("web01", 8, draw_class)
            assert refused.value.hint
        assert len(bench.supply.reservoir) == len(KNOWN)
        assert bench.broker.report().consumers[0].quota_left_bytes == 5000
        bench.disk.full = False
        await bench.broker.draw("web01", 8, FULL)

    on_bench(scenario, terms={"web01": limited("1000", Allowance(5000, 86_400))})


def test_a_full_disk_does_not_touch_consumers_without_a_limit() -> None:
    """Who has no quota needs no reservation, and is served whatever the disk says."""

    async def scenario(bench: Workbench) -> None:
        bench.disk.full = True
        assert len(await bench.broker.draw("web01", 8, FULL)) == 8

    on_bench(scenario)


def test_a_draw_cancelled_while_its_reservation_is_written_takes_nothing() -> None:
    """Whoever hangs up before the reservation is on disk is not served and not charged; the next draw is."""

    async def run() -> None:
        bench = sourceless(terms={"web01": limited("1000", Allowance(5000, 86_400))})
        bench.put(KNOWN)
        async with asyncio.TaskGroup() as group:
            gone = group.create_task(bench.broker.draw("web01", 900, FULL))
            await asyncio.sleep(1)
            gone.cancel()
            await asyncio.sleep(1)
            writing = group.create_task(bench.write_ahead.run())
            await bench.broker.draw("web01", 8, FULL)
            assert len(bench.supply.reservoir) == len(KNOWN) - SEED_BYTES - 8
            assert bench.broker.report().consumers[0].quota_left_bytes == 4992
            writing.cancel()

    run_virtually(run())


def test_changed_terms_keep_what_was_spent() -> None:
    """A larger or smaller quota applies at once, and what was drawn before counts against it."""

    async def scenario(bench: Workbench) -> None:
        await bench.broker.draw("web01", 800, FULL)
        for total, left in ((2000, 1200), (900, 100), (100, 0)):
            bench.broker.set_terms({"web01": limited(total=Allowance(total, 86_400))}, {})
            assert bench.broker.report().consumers[0].quota_left_bytes == left

    on_bench(scenario, terms={"web01": limited(total=Allowance(1000, 86_400))})


# ---- together -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_fifty_tasks_as_ten_consumers_share_fairly_and_twice_nothing(seed: int) -> None:
    """Every byte goes to one draw only, the ledger balances at each step, and no quota is ever exceeded."""
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
                    name, size, draw_class, prediction_resistance=draw.random() < 0.1
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


def test_a_receipt_tells_what_was_granted_and_verifies() -> None:
    """The receipt names broker, consumer, source, class and serial, and fits the bytes and no others."""

    async def run() -> None:
        bench = Workbench(ScriptedSource("stick"), capacity_bytes=8192)
        async with bench.run():
            await bench.until_filled()
            plain = await bench.broker.draw("web01", 32, FULL)
            grant = await bench.broker.draw("web01", 32, FULL, receipt=True)
        body = verify_receipt(grant.receipt, bench.signer.public_key, grant.data, grant.receipt_key)
        assert (body.broker, body.consumer, body.serial) == ("bench", "web01", plain.serial + 1)
        assert [source.name for source in body.sources] == ["stick"]
        assert (plain.receipt, plain.receipt_key) == (b"", b"")

    run_virtually(run())


@pytest.mark.parametrize("draw_class", [FULL, DRBG])
def test_two_copies_of_one_broker_give_out_different_bytes(draw_class) -> None:
    """With the same reservoir and the same seeds, fresh additional input keeps two copies apart."""
    grants = []

    async def scenario(bench: Workbench) -> None:
        grants.append((await bench.broker.draw("web01", 64, draw_class)).data)

    for copy in (b"1", b"2"):
        on_bench(scenario, fresh=lambda n, copy=copy: copy * n)

    assert grants[0] != grants[1]
