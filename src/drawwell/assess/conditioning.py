"""Output entropy of a conditioning component (SP 800-90B 3.1.5), in logs.

The printed formula subtracts numbers that agree in a thousand digits. Here every quantity is a
difference from ``n``. An input of 65,536 bits therefore takes no longer than one of 2 bits,
and even a shortfall of 2**-5000 is not rounded to zero.
"""

import math
from dataclasses import dataclass
from typing import Final

from drawwell.reports import Report

FULL_ENTROPY_SURPLUS_BITS: Final = 64
"""SP 800-90C: a vetted component with n_out + 64 bits of input gives full entropy."""
NON_VETTED_MOST: Final = 0.999  # SP 800-90B 3.1.5.2: limit per bit for a component that is not vetted

_LN2: Final = math.log(2)
_TELLING_LOG2: Final = -64.0
"""A double cannot show a smaller relative shortfall, so log2 of the shortfall is returned."""


@dataclass(frozen=True, slots=True)
class ConditioningResult(Report):
    """Entropy of a conditioning component's output; all sizes are in bits.

    `nw` is the narrowest internal width, at most `n_in`. `output_entropy` is
    Output_Entropy(n_in, n_out, nw, h_in). `close_to` is "h_in" or "n_out" if `output_entropy`
    is close to this target; `shortfall_log2` is then log2 of the relative distance below the
    target. `h_out` is the entropy to claim. A vetted component (`h_prime` is None) has
    `output_entropy`; any other has the minimum of `output_entropy`, 0.999 n_out and h_prime
    n_out. `full_entropy`: the component is vetted, `nw` is at least n_out, and h_in at least
    n_out + 64.
    """

    n_in: int
    n_out: int
    nw: int
    h_in: float
    h_prime: float | None
    output_entropy: float
    close_to: str
    shortfall_log2: float | None
    h_out: float
    full_entropy: bool


def assess_conditioning(
    n_in: int, n_out: int, nw: int, h_in: float, h_prime: float | None = None
) -> ConditioningResult:
    """Assess one conditioning component.

    Args:
        n_in: Input size in bits.
        n_out: Output size in bits.
        nw: Narrowest internal width in bits, capped at `n_in`.
        h_in: Min-entropy of the input in bits, 0 < h_in <= n_in.
        h_prime: Assessed min-entropy per output bit, 0 < h' <= 1; None for a vetted
            component.

    Raises:
        ValueError: an argument is out of range.
    """
    if min(n_in, n_out, nw) < 1:
        raise ValueError("n_in, n_out and nw must be whole numbers of bits, at least 1")
    if not 0 < h_in <= n_in:
        raise ValueError(f"h_in must be above 0 and at most n_in, {n_in}")
    if h_prime is not None and not 0 < h_prime <= 1:
        raise ValueError("h' must be above 0 and at most 1")
    nw = min(nw, n_in)
    entropy, close_to, shortfall = output_entropy(n_in, n_out, nw, h_in)
    h_out = entropy if h_prime is None else min(entropy, NON_VETTED_MOST * n_out, h_prime * n_out)
    return ConditioningResult(
        n_in=n_in,
        n_out=n_out,
        nw=nw,
        h_in=h_in,
        h_prime=h_prime,
        output_entropy=entropy,
        close_to=close_to,
        shortfall_log2=shortfall,
        h_out=h_out,
        full_entropy=h_prime is None and nw >= n_out and h_in >= n_out + FULL_ENTROPY_SURPLUS_BITS,
    )


def output_entropy(n_in: int, n_out: int, nw: int, h_in: float) -> tuple[float, str, float | None]:
    """Return Output_Entropy, a close target, and log2 of the shortfall.

    The entropy is in bits. The target is "" if neither h_in nor n_out is close. The shortfall
    is relative to the target. SP 800-90B 3.1.5.1.2, with n = min(n_out, nw): P_high =
    2**-h_in, P_low = (1 - P_high) / (2**n_in - 1), psi = 2**(n_in - n) P_low + P_high, omega =
    (2**(n_in - n) + sqrt(2 n 2**(n_in - n) ln 2)) P_low; result: -log2(max(psi, omega)).
    """
    n = min(n_out, nw)
    low = _log2_1m(h_in) - _log2_1m(n_in)  # log2(2**n_in P_low)
    psi_part = n - h_in - low
    omega_part = 0.5 * (math.log2(2 * n * _LN2) - (n_in - n))
    psi, omega = low + _log2_1p(psi_part), low + _log2_1p(omega_part)  # log2(2**n psi), log2(2**n omega)
    above_n = max(psi, omega)
    above_h = _log2_1p(-psi_part) if psi >= omega else above_n + (h_in - n)
    entropy = h_in - above_h if h_in < n else n - above_n
    for name, target, missing, part in (
        ("h_in", h_in, above_h, -psi_part),
        ("n_out", float(n_out), above_n + (n_out - n), max(psi_part, omega_part)),
    ):
        # if a shortfall is too small for a double, log2(1 + x) is x / ln 2
        missing_log2 = math.log2(missing) if missing > 0 else part - math.log2(_LN2)
        if missing >= 0 and missing_log2 - math.log2(target) < _TELLING_LOG2:
            return entropy, name, missing_log2 - math.log2(target)
    return entropy, "", None


def _log2_1p(log2_x: float) -> float:
    """Return log2(1 + x), given log2(x)."""
    if log2_x > 64:  # adding 1 to x has no effect
        return log2_x
    return math.log1p(2.0**log2_x) / _LN2 if log2_x > -1074 else 0.0


def _log2_1m(bits: float) -> float:
    """Return log2(1 - 2**-bits)."""
    return math.log1p(-(2.0**-bits)) / _LN2 if bits < 1074 else 0.0
