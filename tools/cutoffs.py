"""Recompute all figures of the health tests; print or compare them.

Cutoffs are compared with their definition rather than with the formula: the smallest count
whose probability, summed term by term over the binomial distribution, is at most alpha. The
figures in use and their guarantees are in tests/vectors/cutoffs_in_use.json (written by
``--write``), for tests and papers.
"""

import argparse
import json
import math
import sys
from decimal import Decimal, getcontext
from pathlib import Path

from drawwell.entropy import cutoffs
from drawwell.entropy.health import NoiseClaim

IN_USE = Path(__file__).parents[1] / "tests/vectors/cutoffs_in_use.json"
GRID = [n / 10 for n in range(1, 10)] + [n / 2 for n in range(2, 17)] + [0.7875, 7.9]
MISS_LOG2 = 30  # a guarantee fails with probability 2**-30

getcontext().prec = 150


def probability(min_entropy: float) -> Decimal:
    return Decimal(2) ** -Decimal(str(min_entropy))


def at_least(count: int, trials: int, p: Decimal) -> Decimal:
    """Return P(X >= count) for binomial X."""
    wanted = range(max(count, 0), trials + 1)
    return sum((math.comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in wanted), Decimal(0))


def check_rct(min_entropy: float, alpha_log2: int) -> bool:
    """Check that P(C - 1 repeats) <= alpha < P(C - 2 repeats)."""
    after_first = cutoffs.rct_cutoff(min_entropy, alpha_log2) - 1
    per_sample = cutoffs.exact(min_entropy)
    return per_sample * after_first >= alpha_log2 > per_sample * (after_first - 1)


def check_apt(min_entropy: float, alpha_log2: int, window: int) -> bool:
    """Check that P(C - 1 of W - 1) <= alpha < P(C - 2 of W - 1), or C = W."""
    cutoff = cutoffs.apt_cutoff(min_entropy, alpha_log2, window)
    p, alpha = probability(min_entropy), Decimal(2) ** -alpha_log2
    kept = at_least(cutoff - 1, window - 1, p) <= alpha
    return (kept or cutoff == window) and at_least(cutoff - 2, window - 1, p) > alpha


def definition_faults() -> list[str]:
    """Compare the formulas with their definition over a grid of claims."""
    faults = []
    for h in GRID:
        for alpha in (20, 30, 40, 60):
            faults += [] if check_rct(h, alpha) else [f"rct H={h} alpha=2^-{alpha}"]
            for window in (cutoffs.BYTE_WINDOW, cutoffs.BIT_WINDOW):
                faults += [] if check_apt(h, alpha, window) else [f"apt H={h} alpha=2^-{alpha} W={window}"]
        faults += [] if cutoffs.repeat_false_alarm_log2(h) <= -30 else [f"repeat H={h}"]
    return faults


def window_fires(p_one: Decimal, cutoff: int, window: int) -> Decimal:
    """Return the probability that a window of independent bits fires the APT."""
    return sum((p * at_least(cutoff - 1, window - 1, p) for p in (p_one, 1 - p_one)), Decimal(0))


def log2(value: Decimal) -> float:
    return round(float(value.ln() / Decimal(2).ln()), 2)


def biased(p_one: str) -> dict[str, float]:
    """Return the effect of P(1) = p_one on the proportion test of bits."""
    p, figures = Decimal(p_one), {}
    for kind, alpha in (("intermittent", 30), ("permanent", 60)):
        fires = window_fires(p, cutoffs.apt_cutoff(0.75, alpha, cutoffs.BIT_WINDOW), cutoffs.BIT_WINDOW)
        figures[f"log2_{kind}_per_window"] = log2(fires)
        if fires > Decimal("0.5"):
            windows = math.ceil(-MISS_LOG2 / float((1 - fires).ln() / Decimal(2).ln()))
            figures[f"{kind}_within_bytes"] = windows * cutoffs.BIT_WINDOW // 8
    return figures


def pair(min_entropy: float, window: int) -> dict[str, list[int] | float]:
    alphas = (cutoffs.INTERMITTENT_ALPHA_LOG2, cutoffs.PERMANENT_ALPHA_LOG2)
    return {
        "min_entropy": min_entropy,
        "repetition_count": [cutoffs.rct_cutoff(min_entropy, alpha) for alpha in alphas],
        "adaptive_proportion_window": window,
        "adaptive_proportion": [cutoffs.apt_cutoff(min_entropy, alpha, window) for alpha in alphas],
    }


def in_use() -> dict[str, object]:
    """Return all figures of the default claim, with their guarantees."""
    h = NoiseClaim().min_entropy
    width, permanent = cutoffs.repeat_window(h), cutoffs.repeat_permanent_cutoff(h)
    return {
        "made_by": "tools/cutoffs.py --write",
        "alpha_log2": [-cutoffs.INTERMITTENT_ALPHA_LOG2, -cutoffs.PERMANENT_ALPHA_LOG2],
        "startup_samples": cutoffs.STARTUP_SAMPLES,
        "bytes": pair(h, cutoffs.BYTE_WINDOW),
        "bits": pair(h / 8, cutoffs.BIT_WINDOW),
        "repeat": {
            "window_bytes": width,
            "cutoffs": [width, permanent],
            "reach_bytes": cutoffs.REPEAT_REACH,
            "replay_fires_within_bytes": 2 * width - 1,
            "loop_fires_within_period_plus": 2 * width - 1,
            "loop_permanent_within_period_plus": permanent + width - 1,
            "log2_false_alarm_per_mib": round(cutoffs.repeat_false_alarm_log2(h), 2),
        },
        "biased_0.75": biased("0.75"),
        "biased_0.6": biased("0.6"),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--check", action="store_true", help="compare formulas and file; exit 1 on a difference"
    )
    parser.add_argument("--write", action="store_true", help="write the file of figures in use")
    args = parser.parse_args()
    text = json.dumps(in_use(), indent=1) + "\n"
    if args.write:
        IN_USE.write_text(text)
    if not args.check:
        print(text, end="")
        return 0
    faults = definition_faults()
    faults += [] if IN_USE.read_text() == text else [f"{IN_USE.name} differs from what is in use"]
    print("\n".join(faults) or f"{len(GRID)} claims keep their alpha; {IN_USE.name} is what is in use")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
