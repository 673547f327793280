"""Estimates min-entropy over a sliding window, for ``source watch``.

The broker does not keep samples, so the command captures a little raw noise each second and
uses it only for the estimate. The window keeps the counts, and for the bitmap the last piece.
"""

import math
from collections import Counter, deque
from typing import Any, Final

PIECE_BYTES: Final = 2048
"""The samples to capture each second: 4 % of a OneRNG's output."""
PIECES: Final = 32
"""The number of pieces in the window (65,536 samples)."""
_Z: Final = 2.5758293035489008  # SP 800-90B 6.3.1
_ALARM_SIGMA: Final = 6.0  # one false alarm in 10**9 seconds if the claim is exact
_COLUMNS: Final = 72
_BRAILLE: Final = (
    (0x01, 0x08),
    (0x02, 0x10),
    (0x04, 0x20),
    (0x40, 0x80),
)  # the dots in Unicode 2800 (Braille) by row and column


class Window:
    """Counts of the values in a source's most recent samples."""

    def __init__(self) -> None:
        self._pieces: deque[Counter[int]] = deque(maxlen=PIECES)
        self._last = b""

    def add(self, samples: bytes) -> None:
        """Add a piece and drop the oldest."""
        self._pieces.append(Counter(samples))
        self._last = samples

    def report(self, claim: float) -> dict[str, Any]:
        """Return the most common value estimate, and whether it is below `claim`."""
        counts: Counter[int] = sum(self._pieces, Counter())
        n = counts.total()
        most = max(counts.values())
        share, p = most / n, 2.0**-claim
        upper = min(1.0, share + _Z * math.sqrt(share * (1 - share) / max(1, n - 1)))
        return {
            "samples": n,
            "min_entropy": max(0.0, -math.log2(upper)),
            "claim": claim,
            "alarm": most > n * p + _ALARM_SIGMA * math.sqrt(n * p * (1 - p)),
        }

    def bitmap(self, rows: int = 6) -> str:
        """Draw the first bits of the last piece, eight bits per character."""
        bits = f"{int.from_bytes(self._last, 'big'):0{8 * len(self._last)}b}"
        width = 2 * _COLUMNS
        lines = []
        for top in range(0, 4 * rows, 4):
            dots = [bits[(top + y) * width : (top + y + 1) * width] for y in range(4)]
            lines.append("".join(_cell(dots, x) for x in range(0, width, 2)))
        return "\n".join(lines)


def _cell(dots: list[str], x: int) -> str:
    """Return the Braille character for a block of two by four bits."""
    mask = sum(_BRAILLE[y][dx] for y in range(4) for dx in range(2) if dots[y][x + dx : x + dx + 1] == "1")
    return chr(0x2800 + mask)


def describe(report: dict[str, Any]) -> str:
    """Return the report as text, including an alarm."""
    line = (
        f"min-entropy {report['min_entropy']:.2f} bits/byte over {report['samples']:,} samples"
        f" (most common value), claim {report['claim']:g}"
    )
    return (
        f"{line}\n*** BELOW THE CLAIM: do not use this source, run 'drawwell assess' ***"
        if report["alarm"]
        else line
    )
