"""Estimators against plain implementations, on small inputs."""

import importlib.util
import itertools
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.assess.estimators.collision import collision
from drawwell.assess.estimators.compression import compression
from drawwell.assess.estimators.lag import lag
from drawwell.assess.estimators.lz78y import lz78y
from drawwell.assess.estimators.markov import markov
from drawwell.assess.estimators.mcv import most_common_value
from drawwell.assess.estimators.multimcw import multi_mcw
from drawwell.assess.estimators.multimmc import multi_mmc
from drawwell.assess.estimators.outcome import EstimatorResult
from drawwell.assess.estimators.prediction import estimate
from drawwell.assess.estimators.tuples import tuples
from drawwell.assess.suffix import _by_doubling, _native, lcp_array, suffix_array


def noise(
    k: int, size: int, seed: int = 0, repeat: float = 0.0
) -> "np.ndarray[tuple[int], np.dtype[np.uint8]]":
    """Make symbols 0 to k - 1 that sometimes repeat earlier stretches."""
    rng = np.random.default_rng(seed)
    out = rng.integers(0, k, size).astype(np.uint8)
    if repeat:
        for at in range(64, size, 16):
            if rng.random() < repeat:
                back = int(rng.integers(1, at))
                out[at : at + 16] = np.resize(out[at - back : at], 16)[: size - at]
    return out


def record(outcome: EstimatorResult) -> tuple[float, float]:
    return outcome.details["correct"], outcome.details["run"]


# Predictors, literally as in the standard.

Guesses = Callable[[int], list[int | None]]


def contest(symbols: list[int], first: int, predictors: int, guesses: Guesses) -> tuple[int, int]:
    """Count right predictions and the longest run + 1; no guess keeps a run."""
    scores, leader, correct, run, longest = [0] * predictors, 0, 0, 0, 0
    for at in range(first, len(symbols)):
        guess = guesses(at)
        if guess[leader] == symbols[at]:
            correct, run = correct + 1, run + 1
            longest = max(longest, run)
        elif guess[leader] is not None:
            run = 0
        for each, said in enumerate(guess):
            if said == symbols[at]:
                scores[each] += 1
                if scores[each] >= scores[leader]:
                    leader = each
    return correct, longest + 1


def plain_lag(symbols: list[int]) -> tuple[int, int]:
    def guesses(at: int) -> list[int | None]:
        return [symbols[at - back] if back <= at else -1 for back in range(1, 129)]

    return contest(symbols, 1, 128, guesses)


def plain_mcw(symbols: list[int]) -> tuple[int, int]:
    def most_common(seen: list[int]) -> int:
        counts = Counter(seen)
        most = max(counts.values())
        return next(each for each in reversed(seen) if counts[each] == most)

    def guesses(at: int) -> list[int | None]:
        windows = (63, 255, 1023, 4095)
        return [most_common(symbols[at - window : at]) if at >= window else -1 for window in windows]

    return contest(symbols, 63, 4, guesses)


def best(context: Counter[int]) -> int:
    return max(context, key=lambda each: (context[each], each))


def plain_mmc(symbols: list[int], limit: int = 100_000) -> tuple[int, int]:
    models: list[dict[tuple[int, ...], Counter[int]]] = [{} for _ in range(16)]
    held = [0] * 16

    def learn(at: int) -> None:
        for row, model in enumerate(models[:at]):
            context = tuple(symbols[at - row - 1 : at])
            known = symbols[at] in model.get(context, ())
            if known or held[row] < limit:
                held[row] += not known
                model.setdefault(context, Counter())[symbols[at]] += 1

    def guesses(at: int) -> list[int | None]:
        learn(at - 1)
        contexts = [model.get(tuple(symbols[at - row - 1 : at])) for row, model in enumerate(models[:at])]
        return [None if context is None else best(context) for context in contexts]

    return contest(symbols, 2, 16, guesses)


def plain_lz78y(symbols: list[int], limit: int = 65_536) -> tuple[int, int]:
    known: dict[tuple[int, ...], Counter[int]] = {}
    correct = run = longest = 0
    for at in range(16, len(symbols)):
        most, guess = 0, None
        for size in range(16, 0, -1):
            context = tuple(symbols[at - size : at])
            if context in known:
                guessed = best(known[context])
                if known[context][guessed] > most:
                    most, guess = known[context][guessed], guessed
            if context in known or len(known) < limit:
                known.setdefault(context, Counter())[symbols[at]] += 1
        if at > 16:
            run = run + 1 if guess == symbols[at] else 0
            correct += guess == symbols[at]
            longest = max(longest, run)
    return correct, longest + 1


ALPHABETS = [2, 3, 16, 256]
STREAMS = [(k, repeat) for k in ALPHABETS for repeat in (0.0, 0.3, 0.95)]


@pytest.mark.slow
@pytest.mark.parametrize(("k", "repeat"), STREAMS)
def test_lag_predicts_as_in_the_standard(k, repeat):
    """Right predictions and the longest run equal those of a plain version."""
    symbols = noise(k, 2500, repeat=repeat)
    assert record(lag(symbols, k)) == plain_lag(symbols.tolist())


@pytest.mark.parametrize("size", [4096 + 1, 4096 + 63, 4096 + 64, 4096 + 65])
def test_lag_takes_all_bits_whatever_is_left_of_a_word(size):
    """The bits of a partial last 64-bit word count."""
    symbols = noise(2, size, seed=size)
    assert record(lag(symbols, 2)) == plain_lag(symbols.tolist())


@pytest.mark.slow
@pytest.mark.parametrize(("k", "repeat"), STREAMS)
def test_multi_mcw_predicts_as_in_the_standard(k, repeat):
    """Right predictions and the longest run equal a plain version's; ties too."""
    symbols = noise(k, 4700, repeat=repeat)
    assert record(multi_mcw(symbols, k)) == plain_mcw(symbols.tolist())


@pytest.mark.slow
@pytest.mark.parametrize(("k", "repeat"), STREAMS)
def test_multi_mmc_predicts_as_in_the_standard(k, repeat):
    """Right predictions and the longest run equal those of a plain version."""
    symbols = noise(k, 3000, repeat=repeat)
    assert record(multi_mmc(symbols, k)) == plain_mmc(symbols.tolist())


@pytest.mark.long
def test_multi_mmc_stops_learning_at_100000_pairs():
    """A full model counts known pairs and learns no new ones."""
    start = noise(256, 110_000)
    symbols = np.concatenate([start, start[90_000:]])
    found = record(multi_mmc(symbols, 256))
    assert found == plain_mmc(symbols.tolist())
    assert found != plain_mmc(symbols.tolist(), limit=1_000_000)


@pytest.mark.slow
@pytest.mark.parametrize(("k", "repeat"), STREAMS)
def test_lz78y_predicts_as_in_the_standard(k, repeat):
    """Right predictions and the longest run equal those of a plain version."""
    symbols = noise(k, 3000, repeat=repeat)
    assert record(lz78y(symbols, k)) == plain_lz78y(symbols.tolist())


@pytest.mark.slow
def test_lz78y_stops_at_65536_contexts():
    """A full dictionary accepts no new contexts, and finds the last ones."""
    start = noise(256, 7000)
    symbols = np.concatenate([start, start])
    found = record(lz78y(symbols, 256))
    assert found == plain_lz78y(symbols.tolist())
    assert found != plain_lz78y(symbols.tolist(), limit=1_000_000)


@pytest.mark.slow
@given(st.lists(st.integers(0, 2), min_size=100, max_size=400))
def test_predictors_agree_with_plain_rules_on_anything(symbols):
    """Lag, MultiMMC and LZ78Y agree with plain versions on any input."""
    array = np.array(symbols, dtype=np.uint8)
    assert record(lag(array, 3)) == plain_lag(symbols)
    assert record(multi_mmc(array, 3)) == plain_mmc(symbols)
    assert record(lz78y(array, 3)) == plain_lz78y(symbols)


# Suffix arrays and tuples.


@pytest.mark.slow
@given(st.lists(st.integers(0, 3), min_size=2, max_size=200))
def test_suffix_array_sorts_all_suffixes(symbols):
    """The library and prefix doubling return equal orders and prefixes."""
    array = np.array(symbols, dtype=np.uint8)
    wanted = sorted(range(len(symbols)), key=lambda at: symbols[at:])
    assert suffix_array(array).tolist() == wanted
    assert _by_doubling(array).tolist() == wanted

    common = lcp_array(array, suffix_array(array)).tolist()
    pairs = itertools.pairwise(wanted)
    assert common == [0, *(shared(symbols[a:], symbols[b:]) for a, b in pairs)]


@pytest.mark.parametrize("k", ALPHABETS)
def test_library_may_be_used_without_its_wrapper(k):
    """The C library called directly returns the same order; None if missing."""
    native = _native(str(library()))
    assert native is not None
    symbols = noise(k, 3000, repeat=0.3)
    assert native(symbols).tolist() == _by_doubling(symbols).tolist()
    assert _native("libnothing.so.0") is None


def library() -> Path | str:
    """Return the C library, from the wrapper or from Debian."""
    if found := importlib.util.find_spec("pydivsufsort"):
        return next(Path(str(found.origin)).parent.glob("libdivsufsort.so*"))
    if _native("libdivsufsort.so.3") is None:
        pytest.skip("neither pydivsufsort nor libdivsufsort3 is installed")
    return "libdivsufsort.so.3"


def shared(one: list[int], other: list[int]) -> int:
    return next(
        (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


@pytest.mark.parametrize("k", [2, 5])
def test_tuples_are_counted_one_by_one(k):
    """Both estimates equal those from counting every tuple of every length."""
    symbols = noise(k, 800, repeat=0.2)
    text, size = symbols.tobytes(), symbols.size
    powers, repeated, length, t = [], [], 1, 0
    while True:
        found = Counter(text[at : at + length] for at in range(size - length + 1))
        most = max(found.values())
        pairs = sum(count * (count - 1) // 2 for count in found.values())
        if most >= 35:
            t = length
            powers.append((most / (size - length + 1)) ** (1 / length))
        elif pairs:
            repeated.append((pairs / math.comb(size - length + 1, 2)) ** (1 / length))
        else:
            break
        length += 1

    t_tuple, longest = tuples(symbols)

    assert t_tuple.details["t"] == t
    assert t_tuple.details["p_hat"] == pytest.approx(max(powers), rel=1e-12)
    assert (longest.details["u"], longest.details["v"]) == (t + 1, length - 1)
    assert longest.details["p_hat"] == pytest.approx(max(repeated), rel=1e-12)


def test_no_tuple_often_enough_is_no_estimate():
    """Without 35 equal tuples only the LRS estimate is used, from length 1."""
    t_tuple, longest = tuples(noise(256, 1000))
    assert t_tuple.min_entropy is None
    assert longest.details["u"] == 1


# Counting estimators, and the bound of the predictors.


def test_most_common_value_is_the_bound_of_the_mode():
    """p + 2.5758 sqrt(p (1 - p) / (L - 1)), by hand for 60 of 100."""
    found = most_common_value(np.array([0] * 60 + [1] * 40, dtype=np.uint8), 2)
    assert found.p == pytest.approx(0.6 + 2.5758293035489008 * math.sqrt(0.24 / 99), rel=1e-15)


def test_collisions_are_counted_in_twos_and_threes():
    """00 11 010 contains three collisions in seven bits."""
    bits = np.array([0, 0, 1, 1, 0, 1, 0], dtype=np.uint8)
    assert collision(bits).details["collisions"] == 3
    assert collision(bits).details["mean"] == pytest.approx(7 / 3)


def test_unequal_bits_at_the_end_are_no_collision():
    """Two different bits at the end do not count as a collision."""
    assert collision(np.array([0, 0, 1, 1, 0, 1], dtype=np.uint8)).details["collisions"] == 2


def test_late_collisions_give_one_bit():
    """If all collisions are late, there is no solution for p: 1 bit."""
    assert collision(np.array([0, 1, 1] * 2000, dtype=np.uint8)).min_entropy == 1.0


def test_alternating_bits_have_no_markov_entropy():
    """0101… is certain after the first bit: 1 bit in 128."""
    assert markov(np.array([0, 1] * 5000, dtype=np.uint8)).min_entropy == pytest.approx(1 / 128, rel=1e-3)


def test_markov_counts_each_step():
    """The transition probabilities come from all adjacent pairs."""
    found = markov(np.array([0, 0, 1, 0, 1, 1, 1], dtype=np.uint8)).details
    assert (found["p_00"], found["p_01"], found["p_11"]) == pytest.approx((1 / 3, 2 / 3, 2 / 3))


def test_few_bits_are_not_compressed():
    """1,001 blocks of six bits are too few for an estimate; 1,002 are enough."""
    assert compression(noise(2, 6 * 1002 - 1)).min_entropy is None
    assert compression(noise(2, 6 * 1002)).min_entropy is not None


def test_compression_sees_constant_blocks():
    """A block that always repeats immediately has no entropy."""
    found = compression(np.tile(np.array([0, 1, 1, 0, 1, 0], dtype=np.uint8), 3000)).min_entropy
    assert found == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("correct", "run", "wanted"),
    [(0, 0, 1 - 0.01 ** (1 / 1000)), (1000, 1000, 1.0)],
)
def test_extreme_records_have_their_own_bounds(correct, run, wanted):
    """No right predictions give 1 - 0.01^(1/N); only right ones give 0 bits."""
    found = estimate(correct, 1000, run, 10_000)
    assert found.p == pytest.approx(wanted)
    assert math.copysign(1.0, found.min_entropy or 0.0) == 1.0


def test_no_predictor_is_worse_than_a_guess():
    """The probability is never below 1 / k."""
    assert estimate(0, 1_000_000, 0, 2).p == 0.5


@pytest.mark.slow
@given(st.data())
def test_any_record_gives_a_sound_estimate(data):
    """Min-entropy is between 0 and log2(k) for any record, without overflow."""
    predictions = data.draw(st.integers(100, 10**8))
    correct = data.draw(st.integers(0, predictions))
    run = data.draw(st.integers(min(1, correct), correct))  # one right prediction is a run of one
    k = data.draw(st.integers(2, 256))
    found = estimate(correct, predictions, run, k)
    assert found.min_entropy is not None
    assert 0.0 <= found.min_entropy <= math.nextafter(math.log2(k), math.inf)  # -log2(1 / k) is rounded twice


def test_long_run_overrules_few_right_predictions():
    """A run of 30 in 1,000 bits outweighs a hit rate of a half."""
    found = estimate(500, 1000, 29, 2)
    assert found.details["run"] == 30
    p = found.details["p_local"]
    chance = 1 - no_run(p, 30, 1000)
    assert chance == pytest.approx(0.01, rel=1e-2)


def no_run(p: float, run: int, trials: int) -> float:
    """Return P(no run of `run` in `trials`), by recurrence."""
    states = [1.0] + [0.0] * (run - 1)
    for _ in range(trials):
        states = [(1 - p) * sum(states), *(p * each for each in states[:-1])]
    return sum(states)
