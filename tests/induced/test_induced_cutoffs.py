"""Every test at every cutoff: it fires exactly there, and alone."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from drawwell.entropy.blocks import RawBlock
from drawwell.entropy.health import HealthMonitor, NoiseClaim
from drawwell.errors import HealthFailure, IntermittentHealthFailure, PermanentHealthFailure
from drawwell.testing.sick import good

NOISE = good(seed=5).read(4096)
VALUE = 0x5A
TestName = tuple[str, str]


def equal_bytes(n: int) -> tuple[bytes, int]:
    """Put n equal bytes into noise; return it and the last one's index."""
    return NOISE[:500] + b"\0" + bytes([VALUE]) * n + b"\0" + NOISE[600:700], 500 + n


def equal_bits(n: int) -> tuple[bytes, int]:
    """Put n equal bits into noise; return it and the last one's index."""
    middle = "0" + "1" * n + "0"
    middle += "01" * ((-len(middle) % 8) // 2) + "0" * (len(middle) % 2)
    return NOISE[:500] + int(middle, 2).to_bytes(len(middle) // 8, "big") + NOISE[600:700], 4000 + n


def value_in_window(n: int) -> tuple[bytes, int]:
    """Spread n equal bytes over the second window; return the last index."""
    window = bytearray(NOISE[512:1024].replace(bytes([VALUE]), b"\0"))
    for nth in range(n):
        window[11 * nth] = VALUE
    return NOISE[:512] + window + NOISE[1024:2048], 512 + 11 * (n - 1)


def ones_in_window(n: int) -> tuple[bytes, int]:
    """Mix n ones into the third window of bits; return the last one's index."""
    rest = list("1" * (n - 1) + "0" * (1024 - n))
    random.Random(3).shuffle(rest)
    window = "1" + "".join(rest)
    stream = NOISE[:256] + int(window, 2).to_bytes(128, "big") + NOISE[1024:2048]
    return stream, 2048 + window.rindex("1")


def repeated_bytes(n: int) -> tuple[bytes, int]:
    """Repeat only the first n bytes of noise; return the last one's index."""
    ended = bytes([NOISE[n] ^ 0xFF])
    return NOISE[:2000] + NOISE[:n] + ended + NOISE[3100:3500], 2000 + n - 1


@dataclass(frozen=True)
class Case:
    test: TestName
    make: Callable[[int], tuple[bytes, int]]
    cutoff: int
    failure: type[HealthFailure]
    also: frozenset[TestName] = frozenset()


RCT, APT, REPEAT = "repetition count", "adaptive proportion", "repeat"
CASES = [
    Case((RCT, "byte"), equal_bytes, 6, IntermittentHealthFailure),
    Case((RCT, "byte"), equal_bytes, 11, PermanentHealthFailure),
    Case((RCT, "bit"), equal_bits, 41, IntermittentHealthFailure),
    # 81 equal bits contain nine equal bytes, which reach the intermittent byte cutoff
    Case((RCT, "bit"), equal_bits, 81, PermanentHealthFailure, frozenset({(RCT, "byte")})),
    Case((APT, "byte"), value_in_window, 32, IntermittentHealthFailure),
    Case((APT, "byte"), value_in_window, 45, PermanentHealthFailure),
    Case((APT, "bit"), ones_in_window, 703, IntermittentHealthFailure),
    Case((APT, "bit"), ones_in_window, 745, PermanentHealthFailure),
    Case((REPEAT, "byte"), repeated_bytes, 12, IntermittentHealthFailure),
    Case((REPEAT, "byte"), repeated_bytes, 1032, PermanentHealthFailure),
]
each_case = pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.test[0]}-{case.test[1]}-{case.cutoff}"
)


def outcome(stream: bytes) -> tuple[HealthFailure | None, HealthMonitor]:
    """Test a stream in one block."""
    monitor = HealthMonitor(NoiseClaim(), hash_key=bytes(32))
    monitor.start()
    try:
        monitor.feed(RawBlock(stream), now=0.0)
    except HealthFailure as failure:
        return failure, monitor
    return None, monitor


def fired(monitor: HealthMonitor) -> set[TestName]:
    return {(report.name, report.unit) for report in monitor.reports() if report.failures}


@each_case
def test_fires_at_the_cutoff_and_nothing_else_does(case: Case) -> None:
    """The sample that reaches the cutoff fails the source, by this test only."""
    stream, last = case.make(case.cutoff)
    failure, monitor = outcome(stream)

    assert type(failure) is case.failure
    assert (failure.test, failure.count, failure.cutoff) == (case.test[0], case.cutoff, case.cutoff)
    assert failure.position == last
    assert fired(monitor) - case.also == {case.test}


@each_case
def test_fires_on_the_very_sample(case: Case) -> None:
    """The stream up to the previous sample does not reach the cutoff."""
    stream, last = case.make(case.cutoff)
    per_byte = 8 if case.test[1] == "bit" else 1
    before, _ = outcome(stream[: last // per_byte])
    then, _ = outcome(stream[: last // per_byte + 1])

    assert type(before) is not case.failure
    assert type(then) is case.failure


@each_case
def test_does_not_fire_one_below_the_cutoff(case: Case) -> None:
    """With one sample less, there is no failure of that kind."""
    failure, monitor = outcome(case.make(case.cutoff - 1)[0])

    assert type(failure) is not case.failure
    if case.failure is IntermittentHealthFailure:
        assert fired(monitor) == set()


@each_case
def test_margin_shows_how_near_it_came(case: Case) -> None:
    """The report's worst count equals the reached count."""
    _, monitor = outcome(case.make(case.cutoff - 1)[0])
    worst = {(report.name, report.unit): report.worst_count for report in monitor.reports()}
    nearest = case.cutoff - 1 if case.test[0] != REPEAT else (case.cutoff - 1) // 12 * 12

    assert worst[case.test] == nearest


@each_case
@pytest.mark.parametrize("size", [1, 7, 64])
def test_small_blocks_meet_the_same_cutoff(case: Case, size: int) -> None:
    """In small blocks, the last failure is at the same sample."""
    stream, last = case.make(case.cutoff)
    monitor = HealthMonitor(NoiseClaim(), hash_key=bytes(32))
    monitor.start()
    failures = []
    for at in range(0, len(stream), size):
        try:
            monitor.feed(RawBlock(stream[at : at + size]), now=float(700 * at))
        except HealthFailure as failure:
            failures.append((type(failure), failure.test, failure.position, at))
            if isinstance(failure, PermanentHealthFailure):
                break
    byte = last // (8 if case.test[1] == "bit" else 1)
    kind, test, position, at = failures[-1]

    assert (kind, test, at) == (case.failure, case.test[0], byte // size * size)
    assert position == last - at * (8 if case.test[1] == "bit" else 1)
