"""Print the table of assess/ceiling.py: scores of ideal sources.

This takes a few minutes. All samples come from SHAKE-256, so the table is the same on every
machine.
"""

import hashlib
import statistics

import numpy as np

from drawwell.assess import assess
from drawwell.assess.ceiling import RUNS

LENGTHS = (10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000)


def ideal(bits: int, length: int, run: int) -> bytes:
    """Create uniform samples of this width, one per byte."""
    stream = hashlib.shake_256(f"drawwell ceiling|{bits}|{length}|{run}".encode()).digest(length)
    return (np.frombuffer(stream, dtype=np.uint8) >> (8 - bits)).tobytes()


def row(bits: int, length: int) -> tuple[int, float, float, float]:
    """Return one line of the table."""
    found = [assess(ideal(bits, length, run), bits).min_entropy for run in range(RUNS)]
    return length, round(statistics.median(found), 4), round(min(found), 4), round(max(found), 4)


def main() -> None:
    for bits in range(1, 9):
        print(
            f"    {bits}: (",
            *(f"        {row(bits, length)}," for length in LENGTHS),
            "    ),",
            sep="\n",
            flush=True,
        )


if __name__ == "__main__":
    main()
