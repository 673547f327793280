"""Combining by single steps: what is taken from which lanes, and what sources of different speeds give together."""

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


def test_an_output_is_the_xor_of_one_of_each_and_names_both() -> None:
    """Two lanes give the XOR of their oldest outputs, which came from both sources, and keep neither."""
    lanes = [lane("a", output(0b0011)), lane("b", output(0b0101))]
    combined = combine(lanes, 2)
    assert combined is not None
    assert combined.data == output(0b0110)
    assert combined.origins == {origin("a"), origin("b")}
    assert [len(each) for each in lanes] == [0, 0]


def test_too_few_lanes_with_an_output_give_nothing_and_keep_what_they_have() -> None:
    """Two sources of which one gave nothing yet, or one alone, make no output."""
    full, empty = lane("a", output(1)), lane("b")
    assert combine([full, empty], 2) is None
    assert combine([full], 2) is None
    assert len(full) == OUTPUT_BYTES


def test_the_fullest_lanes_go_first() -> None:
    """Of three lanes the two that hold most are taken from, and named."""
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
def test_the_rate_is_what_the_speeds_allow(rates, n_sources: int, expected: float) -> None:
    """For two of n: the smaller of half the sum and the sum less the largest."""
    assert combined_rate(rates, n_sources) == expected


@pytest.mark.parametrize("n_sources", [2, 3])
def test_the_fullest_lanes_first_reaches_the_rate(n_sources: int) -> None:
    """Taking from the fullest lanes gives what `combined_rate` promises, whatever the speeds are."""
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


def test_the_last_outputs_are_remembered_and_older_ones_forgotten() -> None:
    """An output is known for as long as it is among the last 1,024 of its source."""
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
