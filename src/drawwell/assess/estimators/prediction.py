"""The predictors' common part: choose the leading sub-predictor, estimate.

Of N predictions, C were right, and the longest run of right predictions was r - 1.
Probabilities:
- global: p = C / N with its 99 % upper bound; 1 - 0.01^(1/N) if C is 0;
- local: the p for which 1 of 100 series of N predictions has r right ones in a row (Feller):
  x = 1 + q p^r x^(r+1),   ln 0.99 = ln(1 - p x) - ln((r + 1 - r x) q) - (N + 1) ln x;
- a guess: 1 / k.

Min-entropy is -log2 of the greatest probability. Like NIST's tool, this module searches for
the local p only if that can change the result, and then uses extended precision.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from drawwell.assess.estimators.outcome import EstimatorResult, bits_of, upper_bound
from drawwell.assess.jit import COMPILED, kernel

Counts = NDArray[np.int32]
Numbers = NDArray[np.int64]
Marks = NDArray[np.uint8]
"""HIT, MISS or SILENT for each prediction; each sub-predictor has a row."""

MISS: Final = 0
HIT: Final = 1
SILENT: Final = 2
"""No prediction was made; a run continues."""

BLOCK: Final = 256 if COMPILED else 2048
"""Number of predictions per scoring step; this many fit into the L1 cache."""

_LOG_ALPHA: Final = math.log(0.99)
_ONE: Final = np.longdouble(1)
_EPSILON: Final = np.finfo(np.longdouble).eps


@dataclass(slots=True)
class Contest:
    """Scores of all sub-predictors, and the leader's record.

    If scores tie, the leader is the sub-predictor that was right most recently.
    """

    scores: Numbers
    state: Numbers
    """The leader, its number of right predictions, its current run and its longest run."""
    totals: Numbers

    @classmethod
    def of(cls, predictors: int) -> "Contest":
        """Start with all scores at zero and the first sub-predictor as leader."""
        return cls(
            np.zeros(predictors, dtype=np.int64), np.zeros(4, dtype=np.int64), np.zeros(predictors, np.int64)
        )

    def score(self, marks: Marks, length: int) -> None:
        """Score `length` predictions of each sub-predictor (one per row)."""
        if COMPILED:
            _count(marks, length, self.totals)
            _step(marks, length, self.scores, self.totals, self.state)
        else:
            self._score_rows(marks[:, :length] == HIT, marks[:, :length] != SILENT)

    def _score_rows(self, hits: NDArray[np.bool_], active: NDArray[np.bool_]) -> None:
        """Score whole rows at once, for use without a compiler."""
        leader, places = self.state[0], np.arange(hits.shape[1])
        final = self.scores + np.count_nonzero(hits, axis=1)
        rivals = np.flatnonzero(final >= self.scores[leader])
        sums = self.scores[rivals, np.newaxis] + np.cumsum(hits[rivals], axis=1)
        level = hits[rivals] & (sums == sums.max(axis=0))
        last = rivals[len(rivals) - 1 - np.argmax(level[::-1], axis=0)]
        changed = np.maximum.accumulate(np.where(level.any(axis=0), places, -1))
        leaders = np.where(changed >= 0, last[changed], leader)
        before = np.concatenate(([leader], leaders[:-1]))
        self._record(hits[before, places][active[before, places]])
        self.scores[:] = final
        self.state[0] = leaders[-1]

    def _record(self, right: NDArray[np.bool_]) -> None:
        """Count the leader's right predictions and its runs."""
        wrong = np.flatnonzero(~right)
        ends = np.concatenate((wrong, [right.size]))
        runs = np.diff(ends, prepend=-1) - 1
        runs[0] += self.state[2]
        self.state[1] += right.size - wrong.size
        self.state[2] = runs[-1]
        self.state[3] = max(self.state[3], runs.max())

    def outcome(self, predictions: int, symbols: int) -> EstimatorResult:
        """Return the estimate for `predictions` over `symbols` symbols."""
        return estimate(int(self.state[1]), predictions, int(self.state[3]), symbols)


def estimate(correct: int, predictions: int, longest_run: int, symbols: int) -> EstimatorResult:
    """Return the estimate from C, N, r - 1 and k."""
    share = correct / predictions
    bound = upper_bound(share, predictions) if correct else 1.0 - 0.01 ** (1.0 / predictions)
    run = longest_run + 1
    p = max(bound, 1.0 / symbols)
    details = {"correct": correct, "predictions": predictions, "run": run, "p_global": bound}
    if p < 1.0 and _log_chance(p, run, predictions) > _LOG_ALPHA:
        p = _local(p, run, predictions)
        details["p_local"] = p
    return EstimatorResult(bits_of(p), p, details)


def _local(low: float, run: int, predictions: int) -> float:
    """Bisect for the p that gives a run of this length in 1 of 100 cases."""
    high = 1.0
    while low < (middle := (low + high) / 2.0) < high:
        if _log_chance(middle, run, predictions) > _LOG_ALPHA:
            low = middle
        else:
            high = middle
    return high


def _log_chance(p: float, run: int, predictions: int) -> float:
    """Return ln P(no run of `run` right predictions among `predictions`)."""
    p_ = np.longdouble(p)
    q = _ONE - p_
    factor = q * p_**run
    x, last = _ONE, np.longdouble(0)
    for _ in range(66):
        if x - last <= _EPSILON * x:
            break
        last = x
        x = _ONE + factor * x ** (run + 1)
    with np.errstate(divide="ignore", invalid="ignore"):  # at x = 1 / p, such short runs are impossible
        return float(np.log(_ONE - p_ * x) - np.log((run + 1 - run * x) * q) - (predictions + 1) * np.log(x))


@kernel
def _count(marks: Marks, length: int, totals: Numbers) -> None:
    """Add up the hits of each row."""
    for each in range(marks.shape[0]):
        total = 0
        for at in range(length):
            total += marks[each, at] == HIT
        totals[each] = total


@kernel
def _step(marks: Marks, length: int, scores: Numbers, totals: Numbers, state: Numbers) -> None:
    """Score a row one by one only if it can reach the leader in this block."""
    leader, correct, run, longest = state[0], state[1], state[2], state[3]
    lead = scores[leader]
    rivals = 0
    for each in range(marks.shape[0]):
        if scores[each] + totals[each] >= lead and totals[each] > 0:
            totals[rivals] = each
            rivals += 1
        else:
            scores[each] += totals[each]
    for at in range(length):
        mark = marks[leader, at]
        if mark == HIT:
            correct += 1
            run += 1
            longest = max(longest, run)
        elif mark == MISS:
            run = 0
        for rival in range(rivals):
            each = totals[rival]
            if marks[each, at] == HIT:
                scores[each] += 1
                if scores[each] >= lead:
                    leader = each
                    lead = scores[each]
    state[0], state[1], state[2], state[3] = leader, correct, run, longest
