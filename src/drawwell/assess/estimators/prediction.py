"""What the four predictors share: a contest for the best sub-predictor, and the estimate from its record.

The record: C of N predictions were right, the longest run of right ones was r - 1 long.

- globally, p = C / N with its 99 % upper bound; 1 - 0.01^(1/N) where none was right;
- locally, the p at which a run of r in N is seen with probability 1 - 0.99 (Feller): with x the root of
  x = 1 + q p^r x^(r+1),   ln 0.99 = ln(1 - p x) - ln((r + 1 - r x) q) - (N + 1) ln x;
- no less than a guess: 1 / k.

Min-entropy is -log2 of the greatest of the three. NIST's program skips the local search where it cannot
change the result, and computes it in extended precision, as here.
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
"""For each sub-predictor a row, of HIT, MISS or SILENT for each prediction."""

MISS: Final = 0
HIT: Final = 1
SILENT: Final = 2
"""No prediction, which leaves the run as it is."""

BLOCK: Final = 256 if COMPILED else 2048
"""Predictions that are made before they are compared; small enough for the innermost cache."""

_LOG_ALPHA: Final = math.log(0.99)
_ONE: Final = np.longdouble(1)
_EPSILON: Final = np.finfo(np.longdouble).eps


@dataclass(slots=True)
class Contest:
    """Who of several sub-predictors leads (a tie goes to the one that was right last), and the leader's record."""

    scores: Numbers
    state: Numbers
    """Leader, right predictions, run now, longest run."""
    totals: Numbers

    @classmethod
    def of(cls, predictors: int) -> "Contest":
        """All at zero; the first leads."""
        return cls(
            np.zeros(predictors, dtype=np.int64), np.zeros(4, dtype=np.int64), np.zeros(predictors, np.int64)
        )

    def score(self, marks: Marks, length: int) -> None:
        """Take `length` more predictions: HIT, MISS or SILENT for each sub-predictor, shape (predictors, >= length)."""
        if COMPILED:
            _count(marks, length, self.totals)
            _step(marks, length, self.scores, self.totals, self.state)
        else:
            self._score_rows(marks[:, :length] == HIT, marks[:, :length] != SILENT)

    def _score_rows(self, hits: NDArray[np.bool_], said: NDArray[np.bool_]) -> None:
        """The same by whole rows, for want of a compiler."""
        leader, places = self.state[0], np.arange(hits.shape[1])
        final = self.scores + np.count_nonzero(hits, axis=1)
        rivals = np.flatnonzero(final >= self.scores[leader])
        sums = self.scores[rivals, np.newaxis] + np.cumsum(hits[rivals], axis=1)
        level = hits[rivals] & (sums == sums.max(axis=0))
        last = rivals[len(rivals) - 1 - np.argmax(level[::-1], axis=0)]
        changed = np.maximum.accumulate(np.where(level.any(axis=0), places, -1))
        leaders = np.where(changed >= 0, last[changed], leader)
        before = np.concatenate(([leader], leaders[:-1]))
        self._record(hits[before, places][said[before, places]])
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
        """The estimate after `predictions` over an alphabet of `symbols`."""
        return estimate(int(self.state[1]), predictions, int(self.state[3]), symbols)


def estimate(correct: int, predictions: int, longest_run: int, symbols: int) -> EstimatorResult:
    """Min-entropy from C, N, r - 1 and k."""
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
    """Bisect for the p that makes a run as long as this one in a hundred."""
    high = 1.0
    while low < (middle := (low + high) / 2.0) < high:
        if _log_chance(middle, run, predictions) > _LOG_ALPHA:
            low = middle
        else:
            high = middle
    return high


def _log_chance(p: float, run: int, predictions: int) -> float:
    """Logarithm of the probability that no run of `run` right predictions occurs among so many."""
    p_ = np.longdouble(p)
    q = _ONE - p_
    factor = q * p_**run
    x, last = _ONE, np.longdouble(0)
    for _ in range(66):
        if x - last <= _EPSILON * x:
            break
        last = x
        x = _ONE + factor * x ** (run + 1)
    with np.errstate(
        divide="ignore", invalid="ignore"
    ):  # where x = 1 / p such short runs have no chance at all
        return float(np.log(_ONE - p_ * x) - np.log((run + 1 - run * x) * q) - (predictions + 1) * np.log(x))


@kernel
def _count(marks: Marks, length: int, totals: Numbers) -> None:
    """Count the hits of each."""
    for each in range(marks.shape[0]):
        total = 0
        for at in range(length):
            total += marks[each, at] == HIT
        totals[each] = total


@kernel
def _step(marks: Marks, length: int, scores: Numbers, totals: Numbers, state: Numbers) -> None:
    """Only those who can draw level with the leader within this block are looked at prediction by prediction."""
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
