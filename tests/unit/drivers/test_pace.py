"""Detecting that a OneRNG's pool may have been stirred."""

from drawwell.drivers.pace import KNOWN_RATE, Pace


def read_at(pace: Pace, rate: float, *, begin: float, seconds: float, size: int = 4096) -> bool:
    """Read `size` bytes at a time at this rate; return the overflow verdict."""
    overflowed = False
    for read in range(1, int(seconds * rate / size) + 1):
        now = begin + read * size / rate
        overflowed |= pace.overflows(now)
        pace.took(size, size, now)
    return overflowed


def test_a_pause_of_a_tenth_of_a_second_fills_the_pool() -> None:
    """At 60 kB/s a pause of 0.11 s exceeds the limit; 0.09 s does not."""
    pace = Pace(10.0)
    assert not pace.overflows(10.09)
    assert pace.overflows(10.11)


def test_a_reader_that_is_too_slow_without_any_pause_is_found_out() -> None:
    """A reader at two thirds of the rate is detected within 0.5 s."""
    assert read_at(Pace(0.0), KNOWN_RATE * 2 / 3, begin=0.0, seconds=0.5, size=800)


def test_a_reader_that_keeps_up_never_needs_a_flush() -> None:
    """A buffer that is never full never overflows."""
    pace = Pace(0.0)
    for tick in range(1, 100_000):
        now = tick * 0.02
        assert not pace.overflows(now)
        pace.took(1140, 4096, now)


def test_a_full_line_is_not_taken_for_an_empty_one() -> None:
    """A full terminal returns 4,095 of 4,096 bytes."""
    pace = Pace(0.0)
    for tick in range(1, 9):
        pace.took(4095, 4096, tick * 0.09)
    assert pace.overflows(9 * 0.09)


def test_an_empty_line_ends_what_was_feared() -> None:
    """A read that empties the buffer shows that the reader keeps up."""
    pace = Pace(0.0)
    pace.took(64, 64, 0.09)
    pace.took(500, 4096, 0.095)
    assert not pace.overflows(0.19)
