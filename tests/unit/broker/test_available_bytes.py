"""The size of the next possible draw, and the class of a stream."""

from dataclasses import replace

import pytest

from drawwell.broker.account import Terms
from drawwell.broker.broker import SEED_BYTES, Rules
from drawwell.entropy.blocks import DrawClass
from drawwell.testing.virtual_time import run_virtually
from drawwell.units import Allowance
from drawwell.wire.limits import MAX_DRAW_BYTES
from support.workbench import UNLIMITED, Workbench

FULL, DRBG = DrawClass.FULL, DrawClass.DRBG
TERMS = {
    "web01": UNLIMITED,
    "drbg": Terms(frozenset({DRBG}), None, None),
    "small": Terms(frozenset(DrawClass), None, Allowance(100, 86_400.0)),
}


def available(consumer: str, draw_class: DrawClass, *, held: int, min_sources: int = 0) -> int:
    """Return the bytes available to a consumer at a broker with this many."""

    async def ask() -> int:
        bench = Workbench(rules=Rules("bench", min_sources=min_sources), terms=TERMS, capacity_bytes=4096)
        bench.put(bytes(held))
        return bench.broker.available_bytes(consumer, draw_class)

    return run_virtually(ask())


@pytest.mark.parametrize(
    ("consumer", "draw_class", "n_bytes"),
    [
        ("web01", FULL, 1024 - SEED_BYTES),
        ("web01", DRBG, MAX_DRAW_BYTES),
        ("small", FULL, 100),
        ("small", DRBG, 100),
        ("drbg", FULL, 0),
        ("unknown", DRBG, 0),
    ],
)
def test_it_is_bounded_by_supply_terms_and_quota(consumer: str, draw_class: DrawClass, n_bytes: int) -> None:
    """Full has the reservoir less a first seed; a quota limits both classes."""
    assert available(consumer, draw_class, held=1024) == n_bytes


@pytest.mark.parametrize("draw_class", DrawClass)
def test_it_is_nothing_without_a_seed_or_a_source(draw_class: DrawClass) -> None:
    """The result is 0 without bytes for a seed, or with too few sources."""
    assert available("web01", draw_class, held=0) == 0
    assert available("web01", draw_class, held=1024, min_sources=1) == 0


@pytest.mark.parametrize(
    ("terms", "stream"),
    [
        (UNLIMITED, None),
        (replace(UNLIMITED, stream=True), FULL),
        (Terms(frozenset({DRBG}), None, None, stream=True), DRBG),
    ],
)
def test_a_stream_has_the_best_class_allowed(terms: Terms, stream: DrawClass | None) -> None:
    """A stream is of class full if the terms allow it, and off by default."""
    assert terms.stream_class is stream
