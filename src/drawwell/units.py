"""Parsing and formatting of bits, sizes, rates and durations.

Sizes are in bytes, rates in bytes per second, durations in seconds. A ``kB`` is 1000 bytes.
"""

import re
from dataclasses import dataclass
from typing import Final, NewType

Bits = NewType("Bits", int)
"""Min-entropy in whole bits, always rounded down."""

_SIZE_UNITS: Final = {
    "": 1,
    "b": 1,
    "kb": 1000,
    "kib": 1024,
    "mb": 10**6,
    "mib": 2**20,
    "gb": 10**9,
    "gib": 2**30,
}
_TIME_UNITS: Final = {
    "s": 1, "sec": 1, "second": 1, "seconds": 1, "m": 60, "min": 60, "minute": 60, "minutes": 60,
    "h": 3600, "hour": 3600, "hours": 3600, "d": 86400, "day": 86400, "days": 86400,
    "w": 604800, "week": 604800, "weeks": 604800, "ms": 0.001,
}  # fmt: skip
_LEAST_PERIOD_S: Final = 0.001
_NUMBER: Final = r"\s*(\d{1,15}(?:\.\d{1,15})?)\s*([A-Za-z]*)\s*"


@dataclass(frozen=True, slots=True)
class Allowance:
    """A number of bytes per period; if the period is a second, a rate."""

    limit_bytes: int
    period_s: float

    def __str__(self) -> str:
        """Format as in the configuration, for example ``10MiB/day``."""
        names = {1.0: "s", 60.0: "min", 3600.0: "h", 86400.0: "day", 604800.0: "week"}
        return f"{format_size(self.limit_bytes)}/{names.get(self.period_s, f'{self.period_s:g}s')}"


def parse_size(text: str) -> int:
    """Parse a size such as ``64``, ``4KiB`` or ``1.5 MB``; return bytes.

    Raises:
        ValueError: not a size, or not a positive whole number of bytes.
    """
    match = re.fullmatch(_NUMBER, text)
    unit = match and _SIZE_UNITS.get(match[2].lower())
    if not match or not unit:
        raise ValueError(f"{text!r} is not a size such as 64, 4KiB or 1.5MB")
    size = float(match[1]) * unit
    if size < 1 or size != int(size):
        raise ValueError(f"{text!r} is not a whole number of bytes")
    return int(size)


def parse_duration(text: str) -> float:
    """Parse a duration such as ``15m``, ``90 s`` or ``1 day``; return seconds.

    Raises:
        ValueError: not a positive duration.
    """
    match = re.fullmatch(_NUMBER, text)
    unit = match and _TIME_UNITS.get(match[2].lower() or "s")
    if not match or not unit or float(match[1]) <= 0:
        raise ValueError(f"{text!r} is not a duration such as 90s, 15min or 1 day")
    return float(match[1]) * unit


def parse_allowance(text: str) -> Allowance:
    """Parse an allowance such as ``4KiB/s`` or ``10MiB/day``.

    Raises:
        ValueError: not ``SIZE/PERIOD`` with a period of at least a millisecond.
    """
    size, _slash, period = text.partition("/")
    period = period.strip()
    if not period:
        raise ValueError(f"{text!r} is not an allowance such as 4KiB/s or 10MiB/day")
    period_s = parse_duration(period if period[:1].isdigit() else f"1{period}")
    if period_s < _LEAST_PERIOD_S:
        raise ValueError(f"the period in {text!r} is shorter than a millisecond")
    return Allowance(parse_size(size), period_s)


def format_size(size_bytes: float) -> str:
    """Format bytes in the largest suitable binary unit, for example ``4KiB``."""
    value, unit = float(size_bytes), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.4g}{unit}" if value != int(value) else f"{int(value)}{unit}"


def format_duration(seconds: float) -> str:
    """Format seconds, for example as ``350 ms``, ``4 min`` or ``2 days``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for limit, size, name in ((90, 1, "s"), (5400, 60, "min"), (129600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.3g} {name}"
    days = seconds / 86400
    return f"{days:.3g} days" if days < 100 else f"{days:.0f} days"
