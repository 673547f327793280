"""Min-entropy over a sliding window, for ``drawwell source watch``: the broker keeps no samples to ask it for.

A little raw noise is captured each second for this alone and used nowhere else, as every capture is. What is kept
of it are counts, and of the last piece the bitmap on the screen.
"""

import math
from collections import Counter, deque
from typing import Any, Final

PIECE_BYTES: Final = 2048
"""Captured each second: 4 % of what a OneRNG gives."""
PIECES: Final = 32
"""Pieces in the window: 65,536 samples."""
_Z: Final = 2.5758293035489008  # SP 800-90B 6.3.1
_ALARM_SIGMA: Final = 6.0  # one second in 10**9 for a source that just keeps its claim
_COLUMNS: Final = 72
_BRAILLE: Final = (
    (0x01, 0x08),
    (0x02, 0x10),
    (0x04, 0x20),
    (0x40, 0x80),
)  # Unicode 2800: dots of row, column


class Window:
    """Counts of the last samples of one source."""

    def __init__(self) -> None:
        self._pieces: deque[Counter[int]] = deque(maxlen=PIECES)
        self._last = b""

    def add(self, samples: bytes) -> None:
        """Take in a piece."""
        self._pieces.append(Counter(samples))
        self._last = samples

    def report(self, claim: float) -> dict[str, Any]:
        """Return samples, the most common value estimate in bits a sample, and whether that contradicts `claim`."""
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
        """Draw the first bits of the last piece, two by four to a character."""
        bits = f"{int.from_bytes(self._last, 'big'):0{8 * len(self._last)}b}"
        width = 2 * _COLUMNS
        lines = []
        for top in range(0, 4 * rows, 4):
            dots = [bits[(top + y) * width : (top + y + 1) * width] for y in range(4)]
            lines.append("".join(_cell(dots, x) for x in range(0, width, 2)))
        return "\n".join(lines)


def _cell(dots: list[str], x: int) -> str:
    """Return the character for two by four bits."""
    mask = sum(_BRAILLE[y][dx] for y in range(4) for dx in range(2) if dots[y][x + dx : x + dx + 1] == "1")
    return chr(0x2800 + mask)


def describe(report: dict[str, Any]) -> str:
    """Say what the window holds, and raise the alarm."""
    line = (
        f"min-entropy {report['min_entropy']:.2f} bits/byte over {report['samples']:,} samples"
        f" (most common value), claim {report['claim']:g}"
    )
    return (
        f"{line}\n*** BELOW THE CLAIM: draw nothing from it, see 'drawwell assess' ***"
        if report["alarm"]
        else line
    )
