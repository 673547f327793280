"""What an estimator hands back, and the bound that most of them share."""

import math
from dataclasses import dataclass, field
from typing import Final

from drawwell.assess.results import Number

Z_ALPHA: Final = 2.5758293035489008
"""Upper end of the 99 % interval of the normal distribution (SP 800-90B prints 2.576; NIST's program has this)."""


@dataclass(frozen=True, slots=True)
class EstimatorResult:
    """Min-entropy in bits per symbol, None when the data are too short; the probability it comes from."""

    min_entropy: float | None
    p: float | None = None
    details: dict[str, Number] = field(default_factory=dict)


def bits_of(p: float) -> float:
    """Minus the binary logarithm; 0.0 for a certainty, never -0.0."""
    return 0.0 - math.log2(p)


def upper_bound(p: float, trials: int) -> float:
    """p_u = min(1, p + z sqrt(p (1 - p) / (trials - 1))), as in section 6.3.1, step 2."""
    return min(1.0, p + Z_ALPHA * math.sqrt(p * (1.0 - p) / (trials - 1.0)))
