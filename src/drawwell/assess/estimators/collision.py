"""6.3.2 Collision Estimate, for bits: how soon does a value repeat?

Bits are read until a value occurs twice: two bits (00, 11) or three. X' is the lower bound of
the mean length. The standard finds p by bisection in a formula with an incomplete gamma
function. For two symbols, the formula is X' = 2 + 2p - 2p^2. NIST's tool solves it for p: 1/2
+ sqrt(5/4 - X'/2). If X' is 5/2 or more, there is no such p and the estimate is 1 bit.
"""

import math

from drawwell.assess.estimators.outcome import Z_ALPHA, EstimatorResult, bits_of
from drawwell.assess.jit import kernel
from drawwell.assess.samples import Symbols


def collision(bits: Symbols) -> EstimatorResult:
    """Return the estimate for bits of shape (n,)."""
    read, collisions = _collisions(bits, bits.size)
    threes = read - 2 * collisions
    mean = read / collisions
    squares = 4 * (collisions - threes) + 9 * threes
    sigma = math.sqrt(max(0.0, (squares - read * mean) / (collisions - 1)))
    bound = max(2.0, mean - Z_ALPHA * sigma / math.sqrt(collisions))
    details = {"collisions": collisions, "mean": mean, "sigma": sigma, "mean_bound": bound}
    p = 0.5 + math.sqrt(1.25 - 0.5 * bound) if bound < 2.5 else 0.5
    return EstimatorResult(bits_of(p), p, details)


@kernel
def _collisions(bits: Symbols, size: int) -> tuple[int, int]:
    """Count the bits read and the collisions; ignore an unequal last pair."""
    at = 0
    collisions = 0
    while at < size - 1:
        if bits[at] == bits[at + 1]:
            at += 2
        elif at < size - 2:
            at += 3
        else:
            break
        collisions += 1
    return at, collisions
