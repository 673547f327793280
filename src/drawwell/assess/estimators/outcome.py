"""The result type of all estimators, and the bound that most of them use."""

import math
from dataclasses import dataclass, field
from typing import Final

from drawwell.assess.results import Number

Z_ALPHA: Final = 2.5758293035489008
"""The 0.995 quantile of the normal distribution, as in NIST's tool (SP 800-90B: 2.576)."""


@dataclass(frozen=True, slots=True)
class EstimatorResult:
    """Min-entropy in bits per symbol (None: too few symbols), its probability."""

    min_entropy: float | None
    p: float | None = None
    details: dict[str, Number] = field(default_factory=dict)


def bits_of(p: float) -> float:
    """Return -log2(p), with 0.0 rather than -0.0 for p = 1."""
    return 0.0 - math.log2(p)


def upper_bound(p: float, trials: int) -> float:
    """Return min(1, p + z sqrt(p (1 - p) / (trials - 1))) (6.3.1, step 2)."""
    return min(1.0, p + Z_ALPHA * math.sqrt(p * (1.0 - p) / (trials - 1.0)))
