"""Combining: which lanes give an output, and the rate of all sources."""

import itertools
import random

import pytest

from drawwell.entropy.blocks import FullEntropy, NoiseOrigin
from drawwell.entropy.combining import (
    OUTPUT_BYTES,
    REMEMBERED_OUTPUTS,
    RecentOutputs,
    combine,
    combined_rate,
    digest_of,
    new_lane,
)
from drawwell.entropy.reservoir import Reservoir
from drawwell.reports import SourceIdentity


def origin(name: str) -> NoiseOrigin:
    return NoiseOrigin(SourceIdentity(name, "scripted", f"/dev/{name}"), 1)


def lane(name: str, *outputs: bytes) -> Reservoir:
    filled = new_lane()
    for output in outputs:
        filled.put(FullEntropy(bytearray(output), frozenset({origin(name)})))
    return filled


def output(fill: int) -> bytes:
    return bytes([fill]) * OUTPUT_BYTES


def test_an_output_is_the_xor_of_one_of_each_lane() -> None:
    """The output names both sources, and both lanes lose their parts."""
    lanes = [lane("a", output(0b0011)), lane("b", output(0b0101))]
    combined = combine(lanes, 2)
    assert combined is not None
    assert combined.data == output(0b0110)
    assert combined.origins == {origin("a"), origin("b")}
    assert [len(each) for each in lanes] == [0, 0]


def test_too_few_lanes_with_an_output_give_nothing() -> None:
    """If a lane is empty or missing, the other keeps its bytes."""
    full, empty = lane("a", output(1)), lane("b")
    assert combine([full, empty], 2) is None
    assert combine([full], 2) is None
    assert len(full) == OUTPUT_BYTES


def test_the_fullest_lanes_go_first() -> None:
    """Of three lanes, only the two fullest give an output."""
    lanes = [lane("a", output(1)), lane("b", output(2), output(2)), lane("c", output(4), output(4))]
    combined = combine(lanes, 2)
    assert combined is not None
    assert combined.origins == {origin("b"), origin("c")}
    assert [len(each) // OUTPUT_BYTES for each in lanes] == [1, 1, 1]


@pytest.mark.parametrize(
    ("rates", "n_sources", "expected"),
    [
        ((10.0, 10.0), 2, 10.0),
        ((100.0, 10.0), 2, 10.0),
        ((100.0, 10.0, 20.0), 2, 30.0),
        ((20.0, 20.0, 20.0), 2, 30.0),
        ((50.0, 50.0, 1.0), 3, 1.0),
        ((5.0, 7.0), 1, 12.0),
        ((5.0,), 2, 0.0),
        ((), 1, 0.0),
    ],
)
def test_the_slower_sources_limit_the_rate(rates, n_sources: int, expected: float) -> None:
    """For two of n: half the sum, or the sum without the largest if lower."""
    assert combined_rate(rates, n_sources) == expected


@pytest.mark.parametrize("n_sources", [2, 3])
def test_taking_from_the_fullest_lanes_reaches_the_rate(n_sources: int) -> None:
    """The number of outputs matches `combined_rate` for any rates."""
    chance = random.Random(n_sources)
    for _ in range(5):
        rates = [chance.randint(1, 9) for _ in range(4)]
        lanes = [new_lane() for _ in rates]
        made = 0
        for _, (each, rate) in itertools.product(range(200), list(zip(lanes, rates, strict=True))):
            for _ in range(rate):
                each.put(FullEntropy(bytearray(OUTPUT_BYTES)))
            while combine(lanes, n_sources):
                made += 1
        assert made >= 200 * combined_rate(rates, n_sources) - sum(rates)


def test_older_outputs_are_forgotten() -> None:
    """Only the last 1,024 outputs of a source are remembered."""
    recent = RecentOutputs()
    digests = [
        digest_of(FullEntropy(bytearray(number.to_bytes(64)))) for number in range(REMEMBERED_OUTPUTS + 1)
    ]
    for digest in digests[:-1]:
        recent.add(digest)
    assert digests[0] in recent
    recent.add(digests[-1])
    assert digests[0] not in recent
    assert all(digest in recent for digest in digests[1:])


def test_a_repeated_output_is_remembered_from_the_last_time_on() -> None:
    """A repeat within a source does not shorten the time it is remembered."""
    recent = RecentOutputs()
    for number in (0, *range(1, REMEMBERED_OUTPUTS), 0, REMEMBERED_OUTPUTS):
        recent.add(digest_of(FullEntropy(bytearray(number.to_bytes(64)))))
    assert digest_of(FullEntropy(bytearray(64))) in recent
