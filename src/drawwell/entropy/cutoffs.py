"""Cutoffs of the health tests, computed from the claimed min-entropy and never written down by hand.

``alpha = 2**-alpha_log2`` is the chance that one run or one window of a source that is no worse than its
claim fires. A min-entropy is taken as the decimal that was written (0.1 is one tenth, not the float near it).
``tools/cutoffs.py`` prints every figure that is in use and checks this file by another route.
"""

import math
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache
from typing import Final

INTERMITTENT_ALPHA_LOG2: Final = 30  # SP 800-90B 4.3 recommends 20 to 40
PERMANENT_ALPHA_LOG2: Final = 60  # as jitterentropy-library: no owner meets it by chance
BYTE_WINDOW: Final = 512  # SP 800-90B 4.4.2: W for samples of more than two values
BIT_WINDOW: Final = 1024  # SP 800-90B 4.4.2: W for binary samples
STARTUP_SAMPLES: Final = 4096
"""Bytes of a start-up test: SP 800-90B 4.3 asks for 1,024; these hold seven whole byte windows, 31 of bits."""

REPEAT_REACH: Final = 1 << 20
"""Bytes back from which the repeat test still knows a repeated stretch."""
REPEAT_DIGEST_BITS: Final = 128

_DIGITS: Final = 120  # decision margins of the binomial tails are some hundred orders of magnitude wider


@cache
def exact(min_entropy: float) -> Fraction:
    """Take bits of min-entropy as the decimal that was written.

    Raises:
        ValueError: not a finite number above zero.
    """
    if not (math.isfinite(min_entropy) and min_entropy > 0):
        raise ValueError(f"min-entropy of {min_entropy} is not above zero")
    return Fraction(str(min_entropy))


def rct_cutoff(min_entropy: float, alpha_log2: int) -> int:
    """Count of equal samples in a row at which the repetition count test fires (SP 800-90B 4.4.1).

    C = 1 + ceil(-log2(alpha) / H).
    """
    return 1 + math.ceil(alpha_log2 / exact(min_entropy))


def apt_cutoff(min_entropy: float, alpha_log2: int, window: int) -> int:
    """Count of the first sample's value in its window at which the adaptive proportion test fires.

    C = min(W, 2 + critbinom(W - 1, 2**-H, 1 - alpha)). SP 800-90B 4.4.2 prints 1 + critbinom(W, …), which
    treats the first sample as one of W trials. It is none: it sets the value that is counted and always
    counts as one, so only W - 1 samples can differ, and the printed figure lets the test fire more often than
    alpha and can exceed W, where it never fires. This form (jitterentropy-library from 3.1, "UL comment #10b")
    keeps alpha; it is the printed one or one more, so it is the printed one at a slightly smaller alpha.

    The cap at W binds below H = -log2(alpha) / (W - 1) only; there the whole window must be equal, and a
    window fires with 2**(-H * (W - 1)) instead of alpha.
    """
    return min(window, 2 + critbinom(window - 1, min_entropy, alpha_log2))


@cache
def critbinom(trials: int, min_entropy: float, alpha_log2: int) -> int:
    """Smallest k with P(X <= k) >= 1 - alpha, for X binomial of `trials` with p = 2**-H.

    Sums the upper tail from the top, so that nothing is lost by cancellation.
    """
    with localcontext() as context:
        context.prec = _DIGITS
        p = _probability(min_entropy)
        alpha = Decimal(2) ** -alpha_log2
        k, tail, term = trials, Decimal(0), p**trials  # tail = P(X > k), term = P(X = k)
        while k and tail + term <= alpha:
            tail += term
            term *= k * (1 - p) / ((trials - k + 1) * p)
            k -= 1
        return k


@cache
def repeat_window(min_entropy: float) -> int:
    """Bytes whose second coming the repeat test takes for a repeat: the least w with alpha.

    A MiB of new positions meets ceil(2**20 / w) known windows: 2**20 times as many pairs. Two
    windows of a source that keeps its claim are equal with at most 2**(-H * w), so
    log2(pairs) - H * w <= -30 keeps alpha = 2**-30 a MiB; half a bit is left for equal hashes.
    """
    bits, width = exact(min_entropy), 1
    while bits * width < INTERMITTENT_ALPHA_LOG2 + _repeat_pairs_log2(width) + 0.5:
        width += 1
    return width


def _repeat_pairs_log2(width: int) -> float:
    return math.log2(REPEAT_REACH * math.ceil(REPEAT_REACH / width))


def repeat_permanent_cutoff(min_entropy: float) -> int:
    """Length in bytes at which a repeat is no hiccup of the transport but a loop: 1,024, in whole windows.

    As long as the shortest start-up test (SP 800-90B 4.3), and never shorter than alpha = 2**-60 asks for.
    """
    window = repeat_window(min_entropy)
    needed = math.ceil((PERMANENT_ALPHA_LOG2 + _repeat_pairs_log2(window)) / exact(min_entropy))
    return window * math.ceil(max(1024, needed) / window)


def repeat_false_alarm_log2(min_entropy: float) -> float:
    """log2 of the bound on a false alarm of the repeat test in a MiB of good noise.

    2**20 positions times ceil(2**20 / w) windows times (2**-128 + 2**(-H * w)): two equal digests, or two equal
    windows.
    """
    window = repeat_window(min_entropy)
    pairs = 2**20 * math.ceil(REPEAT_REACH / window)
    with localcontext() as context:
        context.prec = _DIGITS
        equal = Decimal(2) ** -REPEAT_DIGEST_BITS + _probability(min_entropy) ** window
        return float((pairs * equal).ln() / Decimal(2).ln())


def _probability(min_entropy: float) -> Decimal:
    bits = exact(min_entropy)
    return Decimal(2) ** -(Decimal(bits.numerator) / Decimal(bits.denominator))
