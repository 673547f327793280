"""The continuous tests against their definition, in any chunks."""

from collections.abc import Callable, Iterator

from hypothesis import example, given, settings
from hypothesis import strategies as st

from drawwell.entropy.continuous import (
    AdaptiveProportionTest,
    BitProportionTest,
    BitRepetitionCountTest,
    Cutoffs,
    HealthTest,
    RepetitionCountTest,
    bits_of,
)
from drawwell.entropy.cutoffs import REPEAT_REACH
from drawwell.entropy.repeat import RepeatTest
from drawwell.testing.sick import good
from support.examples import examples

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
    """Return each block's alarm as cutoff and position in the stream."""
    alarms, at = [], 0
    for block in blocks(stream, sizes):
        alarm = test.feed(block)
        if alarm:
            alarms.append((alarm.cutoff, at + alarm.position))
        at += len(block) * test.per_byte
    return alarms


def expected(crossings: list[tuple[int, int]], test: HealthTest, stream: bytes, sizes: list[int]) -> list:
    """Select a block's report: its first permanent crossing, or its first."""
    alarms, at = [], 0
    for block in blocks(stream, sizes):
        end = at + len(block) * test.per_byte
        inside = [c for c in crossings if at <= c[1] < end]
        alarms += [c for c in inside if c[0] == test.cutoffs.permanent][:1] or inside[:1]
        at = end
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


def check(make: Callable[[], HealthTest], naive: Callable, stream: bytes, sizes: list[int]) -> None:
    test = make()
    samples = bits_of(stream) if test.unit == "bit" else stream
    crossings, worst = naive(samples, test.cutoffs)
    wanted = expected(crossings, test, stream, sizes)

    assert found(test, stream, sizes) == wanted
    assert (test.worst, test.failures) == (worst, len(wanted))


@settings(max_examples=examples(150), deadline=None)
@given(sick_streams, cuts, st.sampled_from([8.0, 6.0, 3.3, 1.0]))
def test_repetition_count_equals_its_definition(stream: bytes, sizes: list[int], claimed: float) -> None:
    """The byte test equals a sample-by-sample reading of 4.4.1."""
    check(lambda: RepetitionCountTest(claimed, "byte"), naive_repetition_count, stream, sizes)


@settings(max_examples=examples(100), deadline=None)
@given(sick_streams, cuts, st.sampled_from([1.0, 0.75, 0.4]))
def test_repetition_count_of_bits_equals_its_definition(
    stream: bytes, sizes: list[int], claimed: float
) -> None:
    """The bit test equals a sample-by-sample reading of 4.4.1."""
    check(lambda: BitRepetitionCountTest(claimed), naive_repetition_count, stream, sizes)


@settings(max_examples=examples(150), deadline=None)
@given(sick_streams, cuts, st.sampled_from([8.0, 6.0, 3.3]), st.sampled_from([512, 100]))
def test_adaptive_proportion_equals_its_definition(
    stream: bytes, sizes: list[int], claimed: float, window: int
) -> None:
    """The byte test equals a sample-by-sample reading of 4.4.2."""
    check(
        lambda: AdaptiveProportionTest(claimed, "byte", window),
        lambda samples, cutoffs: naive_adaptive_proportion(samples, cutoffs, window),
        stream,
        sizes,
    )


@settings(max_examples=examples(100), deadline=None)
@given(sick_streams, cuts, st.sampled_from([1.0, 0.75]))
def test_adaptive_proportion_of_bits_equals_its_definition(
    stream: bytes, sizes: list[int], claimed: float
) -> None:
    """The bit test equals a sample-by-sample reading of 4.4.2."""
    check(
        lambda: BitProportionTest(claimed, 1024),
        lambda samples, cutoffs: naive_adaptive_proportion(samples, cutoffs, 1024),
        stream,
        sizes,
    )


@settings(max_examples=examples(150), deadline=None)
@given(sick_streams, cuts, st.sampled_from([6.0, 1.5]))
@example(b"\0" + b"\xb9" * 20 + b"\0" * 12 + b"\xb9" * 16, [], 6.0)  # the code of windows of b9 is 0
def test_repeat_equals_its_definition(stream: bytes, sizes: list[int], claimed: float) -> None:
    """The test equals a comparison of each window with earlier aligned ones."""
    check(lambda: RepeatTest(claimed, hash_key=KEY), naive_repeat, stream, sizes)


@given(st.binary(max_size=40))
def test_bits_come_most_significant_first(data: bytes) -> None:
    """Bytes are unpacked from the most significant bit on."""
    assert bits_of(data) == "".join(f"{byte:08b}" for byte in data).encode()
