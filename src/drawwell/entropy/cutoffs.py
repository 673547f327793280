"""Cutoffs of the health tests, computed from the claimed min-entropy.

``alpha = 2**-alpha_log2`` is the probability that a single run or window fires, for a source
that meets its claim. A min-entropy is an exact decimal: 0.1 is one tenth, not the
nearest float. ``tools/cutoffs.py`` prints all figures and checks this file independently.
"""

import math
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache
from typing import Final

INTERMITTENT_ALPHA_LOG2: Final = 30  # SP 800-90B 4.3 recommends 20 to 40
PERMANENT_ALPHA_LOG2: Final = 60  # as in jitterentropy-library: never by chance
BYTE_WINDOW: Final = 512  # SP 800-90B 4.4.2: W for samples of more than two values
BIT_WINDOW: Final = 1024  # SP 800-90B 4.4.2: W for binary samples
STARTUP_SAMPLES: Final = 4096
"""Bytes in the start-up tests: 7 windows of bytes, 31 of bits (SP 800-90B 4.3: 1,024)."""

REPEAT_REACH: Final = 1 << 20
"""Distance in bytes over which the repeat test finds repeats."""
REPEAT_DIGEST_BITS: Final = 128

_DIGITS: Final = 120  # far more precise than the tail sums need


@cache
def exact(min_entropy: float) -> Fraction:
    """Convert bits of min-entropy to an exact fraction.

    Raises:
        ValueError: `min_entropy` is not a finite number above zero.
    """
    if not (math.isfinite(min_entropy) and min_entropy > 0):
        raise ValueError(f"min-entropy must be above zero, not {min_entropy}")
    return Fraction(str(min_entropy))


def rct_cutoff(min_entropy: float, alpha_log2: int) -> int:
    """Return the repetition count test's cutoff (SP 800-90B 4.4.1).

    C = 1 + ceil(-log2(alpha) / H).
    """
    return 1 + math.ceil(alpha_log2 / exact(min_entropy))


def apt_cutoff(min_entropy: float, alpha_log2: int, window: int) -> int:
    """Return the adaptive proportion test's cutoff (SP 800-90B 4.4.2).

    C = min(W, 2 + critbinom(W - 1, 2**-H, 1 - alpha)). The standard prints 1 + critbinom(W,
    …), which counts the first sample as one of W trials. But the first sample sets the counted
    value and always counts, so only W - 1 samples can differ. The printed cutoff fires more
    often than alpha, and never fires if it exceeds W. This form (jitterentropy-library since
    3.1, "UL comment #10b") keeps alpha, and is at most one higher.

    The cap at W applies only below H = -log2(alpha) / (W - 1). There, the test fires only if
    the whole window is equal, with probability 2**(-H * (W - 1)) instead of alpha.
    """
    return min(window, 2 + critbinom(window - 1, min_entropy, alpha_log2))


@cache
def critbinom(trials: int, min_entropy: float, alpha_log2: int) -> int:
    """Return the least k with P(X <= k) >= 1 - alpha, X binomial, p = 2**-H.

    The upper tail is summed from the top to avoid cancellation.
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
    """Return the smallest window, in bytes, whose repeat is never chance.

    Each of the 2**20 new positions of a MiB is compared with ceil(2**20 / w) known windows.
    Two windows of a source that meets its claim are equal with probability 2**(-H * w) at
    most, so log2(pairs) - H * w <= -30 keeps alpha = 2**-30 per MiB. Half a bit is reserved
    for hash collisions.
    """
    bits, width = exact(min_entropy), 1
    while bits * width < INTERMITTENT_ALPHA_LOG2 + _repeat_pairs_log2(width) + 0.5:
        width += 1
    return width


def _repeat_pairs_log2(width: int) -> float:
    return math.log2(REPEAT_REACH * math.ceil(REPEAT_REACH / width))


def repeat_permanent_cutoff(min_entropy: float) -> int:
    """Return the length in bytes at which a repeat is a loop, not a glitch.

    This is 1,024, the shortest start-up test (SP 800-90B 4.3), rounded up to whole windows,
    or more if alpha = 2**-60 requires it.
    """
    window = repeat_window(min_entropy)
    needed = math.ceil((PERMANENT_ALPHA_LOG2 + _repeat_pairs_log2(window)) / exact(min_entropy))
    return window * math.ceil(max(1024, needed) / window)


def repeat_false_alarm_log2(min_entropy: float) -> float:
    """Return log2 of the repeat test's false alarm rate per MiB of good noise.

    The rate is 2**20 positions times ceil(2**20 / w) windows times (2**-128 + 2**(-H * w)),
    the probability of two equal digests or two equal windows.
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
