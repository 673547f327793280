"""6.3.1 Most Common Value Estimate: how frequent is the mode?

p-hat = count of the mode / L; min-entropy = -log2(99 % upper bound). NIST's tool agrees.
"""

import numpy as np

from drawwell.assess.estimators.outcome import EstimatorResult, bits_of, upper_bound
from drawwell.assess.samples import Symbols


def most_common_value(symbols: Symbols, k: int) -> EstimatorResult:
    """Return the estimate for symbols 0 to k - 1 of shape (n,)."""
    ones = int(np.count_nonzero(symbols))
    mode = max(ones, symbols.size - ones) if k == 2 else int(np.bincount(symbols).max())
    p_hat = mode / symbols.size
    p_u = upper_bound(p_hat, symbols.size)
    return EstimatorResult(bits_of(p_u), p_u, {"mode": mode, "p_hat": p_hat})
