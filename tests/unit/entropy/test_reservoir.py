"""The reservoir by single steps; its state machine is in tests/property."""

import pytest

from drawwell.entropy.blocks import FullEntropy, NoiseOrigin
from drawwell.entropy.reservoir import Reservoir
from drawwell.errors import Starved
from drawwell.reports import SourceIdentity


def filled(data: bytes, capacity: int = 16) -> Reservoir:
    reservoir = Reservoir(capacity, low_mark=4, high_mark=12)
    reservoir.put(FullEntropy(bytearray(data)))
    return reservoir


def test_take_returns_the_oldest_bytes_first() -> None:
    """Bytes leave in the order of their arrival."""
    reservoir = filled(b"abcdef")

    assert (reservoir.take(2).data, reservoir.take(3).data, len(reservoir)) == (b"ab", b"cde", 1)


def test_bytes_wrap_round_the_end_of_the_ring() -> None:
    """A block across the end of the ring is returned complete."""
    reservoir = filled(b"abcdefghijkl")
    reservoir.take(10)
    reservoir.put(FullEntropy(bytearray(b"mnopqrstuv")))

    assert reservoir.take(12).data == b"klmnopqrstuv"


def test_take_zeroes_the_memory_it_took_from() -> None:
    """No taken byte stays in the ring."""
    reservoir = filled(b"\xff" * 16)
    reservoir.take(10)

    assert bytes(reservoir._ring) == bytes(10) + b"\xff" * 6


def test_starved_take_removes_nothing() -> None:
    """A take that is too large removes nothing."""
    reservoir = filled(b"abc")

    with pytest.raises(Starved, match="has 3 bytes, not 4"):
        reservoir.take(4)
    assert reservoir.take(3).data == b"abc"


def test_negative_take_is_refused() -> None:
    """A negative size is the caller's mistake."""
    with pytest.raises(ValueError, match="negative number"):
        filled(b"abc").take(-1)


def test_overflow_is_discarded_and_reported() -> None:
    """The excess is dropped, and `put` returns the accepted number."""
    reservoir = filled(b"a" * 10)

    assert reservoir.put(FullEntropy(bytearray(b"b" * 10))) == 6
    assert (reservoir.free_bytes, reservoir.take(16).data) == (0, b"a" * 10 + b"b" * 6)


def test_put_zeroes_the_whole_block() -> None:
    """The block is zero afterwards, including bytes that did not fit."""
    block = FullEntropy(bytearray(b"x" * 20))
    filled(b"abc").put(block)

    assert block.data == bytes(20)


def test_wipe_leaves_zeroes_and_returns_the_loss() -> None:
    """Wiping empties the ring and returns the number of lost bytes."""
    reservoir = filled(b"\xff" * 9)

    assert (reservoir.wipe(), len(reservoir), bytes(reservoir._ring)) == (9, 0, bytes(16))


def test_wanted_has_hysteresis() -> None:
    """Bytes are wanted from the low mark until the high mark is reached."""
    reservoir = Reservoir(16, low_mark=4, high_mark=12)
    seen = [reservoir.wanted]
    for step in (11, 1, -8, -1, 8, 1):
        if step > 0:
            reservoir.put(FullEntropy(bytearray(step)))
        else:
            reservoir.take(-step)
        seen.append(reservoir.wanted)

    assert seen == [True, True, False, False, True, True, False]


@pytest.mark.parametrize(("capacity", "low", "high"), [(16, 0, 8), (16, 9, 8), (16, 4, 17)])
def test_marks_out_of_order_are_refused(capacity: int, low: int, high: int) -> None:
    """Marks must be in order and inside the ring."""
    with pytest.raises(ValueError, match="marks"):
        Reservoir(capacity, low_mark=low, high_mark=high)


def test_repr_of_reservoir_shows_sizes_only() -> None:
    """The repr contains no entropy bytes."""
    assert repr(filled(b"secret")) == "<Reservoir 6 of 16 bytes>"


def test_taken_bytes_name_the_sources_of_these_bytes_and_no_others() -> None:
    """A take names exactly the sources of its bytes, even across a border."""
    a, b = (NoiseOrigin(SourceIdentity(name, "scripted", f"/dev/{name}"), 1) for name in "ab")
    reservoir = Reservoir(16, low_mark=8, high_mark=16)
    for data, source in ((b"aa", a), (b"aa", a), (b"bbb", b), (b"a", a)):
        reservoir.put(FullEntropy(bytearray(data), frozenset({source})))
    found = [reservoir.take(n).origins for n in (3, 2, 2, 1, 0)]
    assert found == [{a}, {a, b}, {b}, {a}, frozenset()]


def test_what_is_wiped_is_named_nowhere() -> None:
    """After a wipe, new bytes name only their own sources."""
    a, b = (NoiseOrigin(SourceIdentity(name, "scripted", f"/dev/{name}"), 1) for name in "ab")
    reservoir = Reservoir(16, low_mark=8, high_mark=16)
    reservoir.put(FullEntropy(bytearray(b"aa"), frozenset({a})))
    reservoir.wipe()
    reservoir.put(FullEntropy(bytearray(b"bb"), frozenset({b})))
    assert reservoir.take(2).origins == {b}
