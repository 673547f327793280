"""A row of values as a small SVG drawing."""

from collections.abc import Sequence
from typing import Final

_WIDTH: Final = 120
_HEIGHT: Final = 18


def sparkline(values: Sequence[float]) -> str:
    """Draw values from 0 to 1, oldest first; "" for fewer than two."""
    if len(values) < 2:
        return ""
    step = _WIDTH / (len(values) - 1)
    points = " ".join(
        f"{index * step:.1f},{_HEIGHT * (1 - min(1.0, max(0.0, value))):.1f}"
        for index, value in enumerate(values)
    )
    return (
        f' <svg class=spark viewBox="0 0 {_WIDTH} {_HEIGHT}" width={_WIDTH} height={_HEIGHT} aria-hidden=true>'
        f'<polyline points="{points}"/></svg>'
    )
