"""Plots as SVG text: scales, axes, marks. CSS variables set the colours."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

Point = tuple[float, float]

CHARACTER: Final = 6.3  # width of a character of the axis font, in drawing units


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps figures from `low` to `high` to coordinates from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the coordinate of a value, clipped to the range."""
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        at = math.log10(max(value, self.low)) if self.log else value
        part = (at - low) / (high - low) if high > low else 0.5
        return self.start + (self.end - self.start) * min(1.0, max(0.0, part))


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round values between `low` and `high`."""
    rough = (high - low) / max(1, about)
    if rough <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step for step in (1, 2, 2.5, 5, 10) if step * power >= rough * 0.999) * power
    first = math.ceil(low / step - 1e-9)
    return [round(step * n, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def decades(low: float, high: float) -> list[float]:
    """Return powers of ten between `low` and `high`; if many, only a few."""
    powers = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
    step = 1 + len(powers) // 7
    return [10.0**power for power in powers[::step]]


def number(value: float) -> str:
    """Format a value for an axis."""
    if value and (abs(value) >= 1e8 or abs(value) < 1e-3):
        power = math.floor(math.log10(abs(value)) + 1e-9)
        front = value / 10.0**power
        return f"10{_superscript(power)}" if abs(front - 1) < 1e-9 else f"{front:g}·10{_superscript(power)}"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.6g}"


def _superscript(power: int) -> str:
    return str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


class Plot:
    """A drawing.

    Args:
        width: The width in drawing units, which are about CSS pixels.
        height: The height in drawing units.
        label: Description for screen readers.
        left, right, top, bottom: Margins for axes and labels.
    """

    def __init__(
        self, width: int, height: int, label: str, *,
        left: int = 56, right: int = 16, top: int = 14, bottom: int = 44,
    ) -> None:  # fmt: skip
        self.width, self.height = width, height
        self.left, self.right = left, width - right
        self.top, self.bottom = top, height - bottom
        self._label = label
        self._marks: list[str] = []

    def scale_x(self, low: float, high: float, *, log: bool = False) -> Scale:
        """Return the scale of the horizontal axis."""
        return Scale(low, high, self.left, self.right, log)

    def scale_y(self, low: float, high: float, *, log: bool = False) -> Scale:
        """Return the scale of the vertical axis."""
        return Scale(low, high, self.bottom, self.top, log)

    def axis_x(self, scale: Scale, at: Iterable[float], label: str) -> None:
        """Draw the horizontal axis."""
        self._marks.append(f'<path class="axis" d="M{self.left} {self.bottom}H{self.right}"/>')
        for value in at:
            x = scale(value)
            self._marks.append(f'<path class="axis" d="M{x:.1f} {self.bottom}v4"/>')
            self.text(x, self.bottom + 17, number(value), "tick", "middle")
        self.text((self.left + self.right) / 2, self.height - 6, label, "label", "middle")

    def axis_y(self, scale: Scale, at: Iterable[float], label: str) -> None:
        """Draw the vertical axis and its grid; its label is above it."""
        for value in at:
            y = scale(value)
            self._marks.append(f'<path class="grid" d="M{self.left} {y:.1f}H{self.right}"/>')
            self.text(self.left - 8, y + 4, number(value), "tick", "end")
        self.text(0, self.top - 14, label, "label", "start")

    def text(self, x: float, y: float, label: str, kind: str = "tick", anchor: str = "start") -> None:
        self._marks.append(
            f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(label)}</text>'
        )

    def line(self, points: Sequence[Point], kind: str) -> None:
        """Draw a line through points."""
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self._marks.append(f'<path class="{kind}" d="M{path}"/>')

    def steps(self, points: Sequence[Point], kind: str) -> None:
        """Draw the outline of a histogram: level from each point to the next."""
        path = "".join(f"H{x:.1f}V{y:.1f}" for x, y in points[1:])
        x, y = points[0]
        self._marks.append(f'<path class="{kind}" d="M{x:.1f} {y:.1f}{path}"/>')

    def band(self, upper: Sequence[Point], lower: Sequence[Point], kind: str = "band") -> None:
        """Fill the area between two lines."""
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in [*upper, *reversed(lower)])
        self._marks.append(f'<path class="{kind}" d="M{path}Z"/>')

    def box(self, corner: Point, size: Point, kind: str, label: str = "") -> None:
        """Draw a rectangle from its upper left corner; `label` is its tooltip."""
        shape = f'x="{corner[0]:.1f}" y="{corner[1]:.1f}" width="{size[0]:.1f}" height="{size[1]:.1f}"'
        title = f"<title>{escape(label)}</title>" if label else ""
        self._marks.append(f'<rect class="{kind}" {shape}>{title}</rect>')

    def dot(self, x: float, y: float, kind: str, label: str = "", radius: float = 3.5) -> None:
        """Draw a dot; `label` is its tooltip."""
        title = f"<title>{escape(label)}</title>" if label else ""
        self._marks.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">{title}</circle>')

    def raw(self, mark: str) -> None:
        """Add a mark that is already SVG."""
        self._marks.append(mark)

    def svg(self) -> str:
        marks = "".join(self._marks)
        return (
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(self._label)}"'
            f' style="max-width:{self.width}px">{marks}</svg>'
        )
