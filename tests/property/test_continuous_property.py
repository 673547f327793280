"""The continuous tests against sample-by-sample readings of the standard, over any cut of any stream."""

from collections.abc import Callable, Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from drawwell.entropy.continuous import (
    AdaptiveProportionTest,
    Cutoffs,
    HealthTest,
    RepetitionCountTest,
    bits_of,
)
from drawwell.entropy.cutoffs import REPEAT_REACH
from drawwell.entropy.repeat import RepeatTest
from drawwell.testing.sick import good

KEY = bytes(range(32))

sick_streams = st.lists(
    st.one_of(
        st.binary(max_size=12),
        st.builds(
            lambda value, n: bytes([value]) * n, st.sampled_from([0, 1, 0xFF, 0x5A]), st.integers(1, 90)
        ),
        st.builds(lambda unit, n: unit * n, st.binary(min_size=1, max_size=9), st.integers(1, 40)),
        st.builds(lambda seed, n: good(seed).read(n), st.integers(0, 2), st.integers(1, 200)),
    ),
    max_size=12,
).map(b"".join)
cuts = st.lists(st.integers(0, 200), max_size=30)


def blocks(stream: bytes, sizes: list[int]) -> Iterator[bytes]:
    for size in sizes:
        yield stream[:size]
        stream = stream[size:]
    yield stream


def found(test: HealthTest, stream: bytes, sizes: list[int]) -> list[tuple[int, int]]:
    """Return cutoff and stream position of the alarm of every block."""
    alarms, at = [], 0
    for block in blocks(stream, sizes):
        alarm = test.feed(block)
        if alarm:
            alarms.append((alarm.cutoff, at + alarm.position))
        at += len(block)
    return alarms


def expected(crossings: list[tuple[int, int]], cutoffs: Cutoffs, stream: bytes, sizes: list[int]) -> list:
    """Pick out of all crossings what a block reports: the first permanent one, else the first."""
    alarms, at = [], 0
    for block in blocks(stream, sizes):
        inside = [c for c in crossings if at <= c[1] < at + len(block)]
        alarms += [c for c in inside if c[0] == cutoffs.permanent][:1] or inside[:1]
        at += len(block)
    return alarms


def naive_repetition_count(samples: bytes, cutoffs: Cutoffs) -> tuple[list[tuple[int, int]], int]:
    crossings, run, worst = [], 0, 0
    for at, sample in enumerate(samples):
        run = run + 1 if at and sample == samples[at - 1] else 1
        worst = max(worst, min(run, cutoffs.permanent))
        crossings += [(run, at)] if run in (cutoffs.intermittent, cutoffs.permanent) else []
    return crossings, worst


def naive_adaptive_proportion(
    samples: bytes, cutoffs: Cutoffs, window: int
) -> tuple[list[tuple[int, int]], int]:
    crossings, count, worst = [], 0, 0
    for at, sample in enumerate(samples):
        if at % window == 0:
            first, count = sample, 0
        count += sample == first
        worst = max(worst, count)
        met = sample == first and count in (cutoffs.intermittent, cutoffs.permanent)
        crossings += [(count, at)] if met else []
    return crossings, worst


def naive_repeat(samples: bytes, cutoffs: Cutoffs) -> tuple[list[tuple[int, int]], int]:
    width, crossings, worst, length = cutoffs.intermittent, [], 0, 0
    known: dict[bytes, int] = {}
    first = last = -2 * width
    for at in range(len(samples) - width + 1):
        window = samples[at : at + width]
        if at - known.get(window, -2 * REPEAT_REACH) <= REPEAT_REACH:
            before = last - first + width if at - last <= width else 0
            first, last = first if before else at, at
            length = last - first + width
            worst = max(worst, length)
            met = [c for c in (cutoffs.permanent, cutoffs.intermittent) if before < c <= length]
            crossings += [(c, at + width - 1) for c in met[:1]]
        if at % width == 0:
            known[window] = at
    return crossings, worst


def check(make: Callable[[], HealthTest], naive: Callable, samples: bytes, sizes: list[int]) -> None:
    test = make()
    crossings, worst = naive(samples, test.cutoffs)
    wanted = expected(crossings, test.cutoffs, samples, sizes)

    assert found(test, samples, sizes) == wanted
    assert (test.worst, test.failures) == (worst, len(wanted))


@settings(max_examples=150, deadline=None)
@given(sick_streams, cuts, st.sampled_from([8.0, 6.0, 3.3, 1.0]))
def test_repetition_count_equals_its_definition(stream: bytes, sizes: list[int], claimed: float) -> None:
    """The repetition count test on bytes finds what a sample-by-sample reading of 4.4.1 finds."""
    check(lambda: RepetitionCountTest(claimed, "byte"), naive_repetition_count, stream, sizes)


@settings(max_examples=100, deadline=None)
@given(sick_streams, cuts, st.sampled_from([1.0, 0.75, 0.4]))
def test_repetition_count_of_bits_equals_its_definition(
    stream: bytes, sizes: list[int], claimed: float
) -> None:
    """The repetition count test on bits finds what a sample-by-sample reading of 4.4.1 finds."""
    check(lambda: RepetitionCountTest(claimed, "bit"), naive_repetition_count, bits_of(stream), sizes)


@settings(max_examples=150, deadline=None)
@given(sick_streams, cuts, st.sampled_from([8.0, 6.0, 3.3]), st.sampled_from([512, 100]))
def test_adaptive_proportion_equals_its_definition(
    stream: bytes, sizes: list[int], claimed: float, window: int
) -> None:
    """The adaptive proportion test on bytes finds what a sample-by-sample reading of 4.4.2 finds."""
    check(
        lambda: AdaptiveProportionTest(claimed, "byte", window),
        lambda samples, cutoffs: naive_adaptive_proportion(samples, cutoffs, window),
        stream,
        sizes,
    )


@settings(max_examples=100, deadline=None)
@given(sick_streams, cuts, st.sampled_from([1.0, 0.75]))
def test_adaptive_proportion_of_bits_equals_its_definition(
    stream: bytes, sizes: list[int], claimed: float
) -> None:
    """The adaptive proportion test on bits finds what a sample-by-sample reading of 4.4.2 finds."""
    check(
        lambda: AdaptiveProportionTest(claimed, "bit", 1024),
        lambda samples, cutoffs: naive_adaptive_proportion(samples, cutoffs, 1024),
        bits_of(stream),
        sizes,
    )


@settings(max_examples=150, deadline=None)
@given(sick_streams, cuts, st.sampled_from([6.0, 1.5]))
def test_repeat_equals_its_definition(stream: bytes, sizes: list[int], claimed: float) -> None:
    """The repeat test finds what a comparison of every window with every aligned one before it finds."""
    check(lambda: RepeatTest(claimed, hash_key=KEY), naive_repeat, stream, sizes)


@given(st.binary(max_size=40))
def test_bits_come_most_significant_first(data: bytes) -> None:
    """Unpacked bits are the bytes read from the most significant bit on."""
    assert bits_of(data) == "".join(f"{byte:08b}" for byte in data).encode()
