"""Sizes, rates and durations as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.units import (
    Allowance,
    format_duration,
    format_size,
    parse_allowance,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("64", 64), ("64B", 64), ("4KiB", 4096), ("4 kib", 4096), ("1.5MB", 1_500_000), ("1GiB", 2**30)],
)
def test_size_is_read(text: str, size_bytes: int) -> None:
    """A size is a number and a unit, in any case, with or without a space."""
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "1.5", "4 potatoes", "1e3", "KiB", "9" * 400, "0.1KiB"])
def test_size_is_refused(text: str) -> None:
    """A size must be a whole number of bytes and at least one."""
    with pytest.raises(ValueError, match="is not a"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("5ms", 0.005),
        ("15 min", 900),
        ("15m", 900),
        ("2 hours", 7200),
        ("1 day", 86400),
    ],
)
def test_duration_is_read(text: str, seconds: float) -> None:
    """A duration is a number and a unit; ms does not mean minutes."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "s", "-1s", "1 fortnight", "1ss", "9" * 400])
def test_duration_is_refused(text: str) -> None:
    """A duration must be above zero and have a known unit."""
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


def test_allowance_is_read() -> None:
    """An allowance is a size per period of any duration."""
    assert parse_allowance("4KiB/s") == Allowance(4096, 1)
    assert parse_allowance("10MiB/day") == Allowance(10 * 2**20, 86400)
    assert parse_allowance("1KiB / 15min") == Allowance(1024, 900)


@pytest.mark.parametrize("text", ["", "4KiB", "/s", "4KiB/", "4KiB/s/s"])
def test_allowance_is_refused(text: str) -> None:
    """An allowance needs a size, a slash and a period."""
    with pytest.raises(ValueError, match="is not"):
        parse_allowance(text)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    """A parser raises only ValueError, and its results can be formatted."""
    for parse, write in (
        (parse_size, format_size),
        (parse_duration, format_duration),
        (parse_allowance, str),
    ):
        try:
            value = parse(text)  # type: ignore[operator]
        except ValueError:
            continue
        assert write(value)
