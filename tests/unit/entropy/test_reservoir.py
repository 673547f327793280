"""The reservoir by single steps; the state machine over it is in tests/property."""

import pytest

from drawwell.entropy.blocks import FullEntropy
from drawwell.entropy.reservoir import Reservoir
from drawwell.errors import Starved


def filled(data: bytes, capacity: int = 16) -> Reservoir:
    reservoir = Reservoir(capacity, low_mark=4, high_mark=12)
    reservoir.put(FullEntropy(bytearray(data)))
    return reservoir


def test_take_returns_the_oldest_bytes_first() -> None:
    """Bytes leave in the order in which they came."""
    reservoir = filled(b"abcdef")

    assert (reservoir.take(2), reservoir.take(3), len(reservoir)) == (b"ab", b"cde", 1)


def test_bytes_wrap_round_the_end_of_the_ring() -> None:
    """A block put and taken across the end of the ring comes out whole."""
    reservoir = filled(b"abcdefghijkl")
    reservoir.take(10)
    reservoir.put(FullEntropy(bytearray(b"mnopqrstuv")))

    assert reservoir.take(12) == b"klmnopqrstuv"


def test_take_zeroes_the_memory_it_took_from() -> None:
    """Nothing of a taken byte stays in the ring."""
    reservoir = filled(b"\xff" * 16)
    reservoir.take(10)

    assert bytes(reservoir._ring) == bytes(10) + b"\xff" * 6


def test_starved_take_removes_nothing() -> None:
    """A take that is too large leaves every byte where it was."""
    reservoir = filled(b"abc")

    with pytest.raises(Starved, match="holds 3 of 4 bytes"):
        reservoir.take(4)
    assert reservoir.take(3) == b"abc"


def test_negative_take_is_refused() -> None:
    """A negative size is a mistake of the caller, not a draw."""
    with pytest.raises(ValueError, match="less than nothing"):
        filled(b"abc").take(-1)


def test_overflow_is_discarded_and_told() -> None:
    """What does not fit is not kept, and `put` says how much was accepted."""
    reservoir = filled(b"a" * 10)

    assert reservoir.put(FullEntropy(bytearray(b"b" * 10))) == 6
    assert (reservoir.free_bytes, reservoir.take(16)) == (0, b"a" * 10 + b"b" * 6)


def test_put_zeroes_the_whole_block() -> None:
    """The block is zero afterwards, the part that did not fit as well."""
    block = FullEntropy(bytearray(b"x" * 20))
    filled(b"abc").put(block)

    assert block.data == bytes(20)


def test_wipe_leaves_zeroes_and_tells_the_loss() -> None:
    """Wiping empties the ring and returns what was lost."""
    reservoir = filled(b"\xff" * 9)

    assert (reservoir.wipe(), len(reservoir), bytes(reservoir._ring)) == (9, 0, bytes(16))


def test_wanted_has_hysteresis() -> None:
    """It wants from below the low mark until the high mark, and not again before the low mark."""
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
    """Marks lie in order inside the ring."""
    with pytest.raises(ValueError, match="marks"):
        Reservoir(capacity, low_mark=low, high_mark=high)


def test_repr_of_reservoir_shows_sizes_only() -> None:
    """No entropy byte reaches a string."""
    assert repr(filled(b"secret")) == "<Reservoir 6 of 16 bytes>"
