"""Statistics of the permutation tests (SP 800-90B 5.1), as exact integers.

Instead of the standard's means and maximum deviations, this module computes sums, scaled by a
length that is the same for all permutations. Equal statistics therefore always compare as
equal. `displayed` converts a sum to the standard's figure.
"""

import bz2
from collections.abc import Collection, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.uint8]

LAGS: Final = (1, 2, 8, 16, 32)  # SP 800-90B 5.1.8 and 5.1.9
COMPRESSION: Final = "compression"
NAMES: Final = (
    "excursion", "numDirectionalRuns", "lenDirectionalRuns", "numIncreasesDecreases", "numRunsMedian",
    "lenRunsMedian", "avgCollision", "maxCollision", *(f"periodicity({lag})" for lag in LAGS),
    *(f"covariance({lag})" for lag in LAGS), COMPRESSION,
)  # fmt: skip
"""The 19 statistics, with their names in NIST's tool."""
_BZIP2_LEVEL: Final = 5  # as in NIST's tool
_BLOCK_BITS: Final = 8  # SP 800-90B 5.1: conversion I and II


def statistics(samples: Samples, *, binary: bool, wanted: Collection[str] = NAMES) -> dict[str, float]:
    """Compute the wanted statistics for one order of the samples.

    Args:
        samples: Shape (n,); zeros and ones if binary.
        binary: Whether to use blocks of eight bits where the standard requires it.
        wanted: A subset of `NAMES`.
    """
    found: dict[str, float] = {}
    sums, bytes_ = (_hamming_weights(samples), _packed(samples)) if binary else (samples, samples)
    if "excursion" in wanted:
        found["excursion"] = _excursion(samples)
    if _any(wanted, "Directional", "Increases"):
        found |= _directional(sums)
    if _any(wanted, "RunsMedian"):
        found |= _about_median(samples, binary=binary)
    if _any(wanted, "Collision"):
        found |= _collisions(bytes_)
    exact = sums.astype(np.float64) if _any(wanted, "covariance") else None
    for lag in LAGS:
        if f"periodicity({lag})" in wanted:
            found[f"periodicity({lag})"] = int(np.count_nonzero(sums[:-lag] == sums[lag:]))
        if exact is not None and f"covariance({lag})" in wanted:  # below 2**53, so exact
            found[f"covariance({lag})"] = int(np.dot(exact[:-lag], exact[lag:]))
    if COMPRESSION in wanted:
        found[COMPRESSION] = len(bz2.compress(_text(samples), _BZIP2_LEVEL))
    return {name: value for name, value in found.items() if name in wanted}


def displayed(name: str, value: float, n: int) -> float:
    """Return a statistic of `n` samples as the standard defines it."""
    return value / n if name == "excursion" else value


def _any(wanted: Collection[str], *parts: str) -> bool:
    return any(part in name for name in wanted for part in parts)


def _blocks(bits: Samples) -> Samples:
    whole: Samples = np.pad(bits, (0, -len(bits) % _BLOCK_BITS)).reshape(-1, _BLOCK_BITS)
    return whole


def _hamming_weights(bits: Samples) -> Samples:
    """Return the number of ones in each block of eight bits (conversion I)."""
    weights: Samples = _blocks(bits).sum(axis=1, dtype=np.uint8)
    return weights


def _packed(bits: Samples) -> Samples:
    """Return each block of eight bits as a number (conversion II)."""
    return np.packbits(bits)


def _excursion(samples: Samples) -> int:
    """Return n times the greatest excursion of the running sum (5.1.1)."""
    n = len(samples)
    walk = np.cumsum(samples, dtype=np.int64)
    return int(np.abs(walk * n - np.arange(1, n + 1) * int(walk[-1])).max())


def _directional(samples: Samples) -> Mapping[str, float]:
    """Return the statistics of rising and falling steps (5.1.2 to 5.1.4)."""
    up = samples[1:] >= samples[:-1]
    runs, longest = _runs(up)
    ups = int(np.count_nonzero(up))
    return {
        "numDirectionalRuns": runs,
        "lenDirectionalRuns": longest,
        "numIncreasesDecreases": max(ups, len(up) - ups),
    }


def _about_median(samples: Samples, *, binary: bool) -> Mapping[str, float]:
    """Return the statistics of runs about the median (5.1.5, 5.1.6)."""
    counts = np.bincount(samples).cumsum()
    n = len(samples)
    middle = [int(np.searchsorted(counts, rank, side="right")) for rank in ((n - 1) // 2, n // 2)]
    median = 0.5 if binary else sum(middle) / 2
    runs, longest = _runs(samples >= median)
    return {"numRunsMedian": runs, "lenRunsMedian": longest}


def _runs(signs: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the number of runs and the length of the longest one."""
    ends = np.flatnonzero(signs[1:] != signs[:-1])
    edges = np.concatenate(([-1], ends, [len(signs) - 1]))
    return len(ends) + 1, int(np.diff(edges).max())


def _collisions(samples: Samples) -> Mapping[str, float]:
    """Return mean and maximum number of samples until a repeat (5.1.7)."""
    n = len(samples)
    order = np.argsort(samples, kind="stable")
    again = np.full(n, n, dtype=np.int64)  # the next place of the same symbol
    same = samples[order[1:]] == samples[order[:-1]]
    again[order[:-1][same]] = order[1:][same]
    first = np.minimum.accumulate(again[::-1])[::-1].tolist()  # the first repeat from place i on
    at, starts = 0, [0]
    while at < n and first[at] < n:
        at = first[at] + 1
        starts.append(at)
    lengths = np.diff(starts)
    if not len(lengths):
        return {"avgCollision": 0.0, "maxCollision": 0}
    return {"avgCollision": starts[-1] / len(lengths), "maxCollision": int(lengths.max())}


_DIGITS: Final = np.array([list(b"%-3u " % value) for value in range(256)], dtype=np.uint8)
_IS_TEXT: Final = np.array(
    [[place < len(b"%u" % value) or place == 3 for place in range(4)] for value in range(256)]
)


def _text(samples: Samples) -> bytes:
    """Format the samples as decimals, separated by spaces."""
    text: bytes = _DIGITS[samples][_IS_TEXT[samples]].tobytes()
    return text[:-1]
