"""6.3.4 Compression Estimate, for bits: Maurer's test on 6-bit blocks.

X' is the 99 % lower bound of the mean of log2(distance to the block's last occurrence), with
the first 1,000 blocks as the dictionary. p is the probability of one favoured block for which
X' is the expected mean, if the 63 others are equally likely:

    X' = G(p) + 63 G((1 - p) / 63),   min-entropy = -log2(p) / 6.

With a_i = log2(i) (1 - z)^(i - 1) and N blocks, of which v = N - d are tested:

    G(z) = z/v * (z * (sum_{i=d+1}^{N-1} (N - i) a_i + (N - d) sum_{i=2}^d a_i) +
        sum_{i=d+1}^N a_i)

NIST's tool adds terms in extended precision until they underflow. Here they are summed as
vectors and cut off once (1 - z)^i is below e^-60, which omits less than 10^-20 of the sum.
Sigma's factor 0.5907 is from the standard. p is found by bisection; if X' is out of range, the
estimate is 1 bit.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from drawwell.assess.estimators.outcome import Z_ALPHA, EstimatorResult, bits_of
from drawwell.assess.samples import Symbols

_BLOCK: Final = 6
_WARM_UP: Final = 1000
_VALUES: Final = 1 << _BLOCK
_NEGLIGIBLE: Final = 60.0
"""Powers below e^-60 have no effect in double precision."""


def compression(bits: Symbols) -> EstimatorResult:
    """Return the estimate for bits of shape (n,); None below 6,006 bits."""
    blocks = bits.size // _BLOCK
    if blocks <= _WARM_UP + 1:
        return EstimatorResult(None)
    counted = blocks - _WARM_UP
    mean, square = _moments(_distances(_packed(bits, blocks)), counted)
    sigma = 0.5907 * math.sqrt(max(0.0, square / (counted - 1.0) - mean * mean))
    bound = mean - Z_ALPHA * sigma / math.sqrt(counted)
    p = _Expectation(blocks).solve(bound)
    details = {"mean": mean, "sigma": sigma, "mean_bound": bound}
    return EstimatorResult(bits_of(p) / _BLOCK, p, details)


def _packed(bits: Symbols, blocks: int) -> Symbols:
    """Pack blocks of six bits into numbers, most significant bit first."""
    weights = np.array([32, 16, 8, 4, 2, 1], dtype=np.uint8)
    rows = bits[: blocks * _BLOCK].reshape(blocks, _BLOCK)
    packed = np.zeros(blocks, dtype=np.uint8)
    for column, weight in enumerate(weights):
        packed += rows[:, column] * weight
    return packed


def _distances(blocks: Symbols) -> NDArray[np.int64]:
    """Return each tested block's distance to its last occurrence or the start."""
    order = np.argsort(blocks, kind="stable")
    grouped = blocks[order]
    before = np.empty(blocks.size, dtype=np.int64)
    before[order[1:]] = np.where(grouped[1:] == grouped[:-1], order[:-1], -1)
    before[order[0]] = -1
    return (np.arange(blocks.size) - before)[_WARM_UP:]


def _moments(distances: NDArray[np.int64], counted: int) -> tuple[float, float]:
    """Return the mean of the binary logarithms, and the sum of their squares."""
    times = np.bincount(distances)
    seen = np.flatnonzero(times)
    logs = np.log2(seen)
    weighted = times[seen] * logs
    return math.fsum(weighted) / counted, math.fsum(weighted * logs)


class _Expectation:
    """The expected mean as a function of p, for a fixed number of blocks."""

    def __init__(self, blocks: int) -> None:
        self._blocks = blocks
        self._index = np.arange(1.0, blocks + 1.0)
        self._logs = np.log2(self._index)
        inside = np.minimum(blocks - self._index, blocks - _WARM_UP)
        self._weighted = self._logs * inside
        """log2(i) (N - d) up to i = d, then log2(i) (N - i)."""

    def solve(self, bound: float) -> float:
        """Bisect for p between 1/64 and 1; the expectation falls as p grows."""
        low, high = 1.0 / _VALUES, 1.0
        if not self(low) > bound:
            return low
        while low < (middle := (low + high) / 2.0) < high:
            if self(middle) > bound:
                low = middle
            else:
                high = middle
        return high

    def __call__(self, p: float) -> float:
        q = (1.0 - p) / (_VALUES - 1.0)
        return self._g(p) + (_VALUES - 1.0) * self._g(q)

    def _g(self, z: float) -> float:
        if z <= 0.0 or z >= 1.0:
            return 0.0
        decay = math.log1p(-z)
        terms = min(self._blocks, max(_WARM_UP + 2, int(-_NEGLIGIBLE / decay) + 2))
        powers = np.exp((self._index[:terms] - 1.0) * decay)
        double = float(np.sum(self._weighted[:terms] * powers))
        tail = float(np.sum(self._logs[_WARM_UP:terms] * powers[_WARM_UP:]))
        return z / (self._blocks - _WARM_UP) * (z * double + tail)
