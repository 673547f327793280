"""The plots of the report, as functions that turn figures into SVG text."""

import math
from collections.abc import Sequence
from typing import Final

from drawwell.assess.health_run import Margin
from drawwell.assess.report.findings import autocorrelation_band
from drawwell.assess.report.picture import BITMAP_SIDE, Picture
from drawwell.assess.report.svg import CHARACTER, Plot, decades, ticks
from drawwell.assess.results import NonIidResult

HALF: Final = 520
WHOLE: Final = 1072
HEIGHT: Final = 250
_BAND_SIGMA: Final = 3.29  # covers 99.9 % of ideal counts in each bin


def histogram(picture: Picture) -> str:
    """Draw each value's count, and the band for 999 of 1,000 ideal counts."""
    counts = picture.histogram
    n, k = sum(counts), len(counts)
    expected = n / k
    half = _BAND_SIGMA * math.sqrt(expected * (1 - 1 / k))
    low, high = min(*counts, expected - half), max(*counts, expected + half)
    # zoom in on counts near the expected count, or otherwise start the axis at zero
    room = 0.15 * (high - low)
    bottom, top = (low - room, high + room) if low > 0.5 * expected else (0.0, high * 1.05)
    plot = Plot(HALF, HEIGHT, f"Histogram of {k} values, {expected:,.0f} expected of each", left=64, top=30)
    x, y = plot.scale_x(0, k), plot.scale_y(max(0.0, bottom), top)
    plot.axis_y(
        y, ticks(max(0.0, bottom), top), "count" if bottom <= 0 else "count (the axis does not start at 0)"
    )
    plot.band(
        [(plot.left, y(expected + half)), (plot.right, y(expected + half))],
        [(plot.left, y(expected - half)), (plot.right, y(expected - half))],
    )
    plot.line([(plot.left, y(expected)), (plot.right, y(expected))], "expect")
    points = [(x(value), y(count)) for value, count in enumerate(counts)]
    plot.steps([*points, (x(k), points[-1][1])], "curve a")
    plot.axis_x(x, _value_ticks(k), "value of a sample")
    return plot.svg()


def _value_ticks(k: int) -> list[float]:
    step = max(1, k // 8)
    return [*range(0, k, step), k] if k > 2 else [0, 1]


def bitmap(picture: Picture) -> str:
    """Draw the first bits row by row, with ones as filled squares."""
    columns, rows = BITMAP_SIDE[0], len(picture.bitmap)
    marks = []
    for y, row in enumerate(picture.bitmap):
        x = 0
        while (start := row.find("1", x)) >= 0:
            end = row.find("0", start)
            x = columns if end < 0 else end
            marks.append(f"M{start} {y}h{x - start}v1h{start - x}")
    return (
        f'<svg class="bitmap" viewBox="0 0 {columns} {max(1, rows)}" role="img" shape-rendering="crispEdges"'
        f' aria-label="The first {columns * rows} bits"><path d="{"".join(marks)}"/></svg>'
    )


def autocorrelation(picture: Picture) -> str:
    """Draw the correlation of bits with earlier bits."""
    values, band = picture.autocorrelation, autocorrelation_band(picture)
    top = max(1.35 * band, 1.1 * max(map(abs, values)))
    plot = Plot(HALF, HEIGHT, f"Autocorrelation of the bits at lags 1 to {len(values)}", left=64, top=30)
    x, y = plot.scale_x(0, len(values) + 1), plot.scale_y(-top, top)
    plot.axis_y(y, ticks(-top, top, 4), "correlation")
    plot.band([(plot.left, y(band)), (plot.right, y(band))], [(plot.left, y(-band)), (plot.right, y(-band))])
    plot.line([(plot.left, y(0)), (plot.right, y(0))], "expect")
    for lag, value in enumerate(values, 1):
        kind = "c" if abs(value) > band else "a"
        plot.line([(x(lag), y(0)), (x(lag), y(value))], f"stem {kind}")
        plot.dot(
            x(lag), y(value), f"mark {kind}", f"lag {lag}: {value:+.2g}", radius=2.2 if kind == "a" else 3.4
        )
    plot.axis_x(x, [1, 16, 32, 48, 64, 80, 96, 112, 128], "lag in bits")
    return plot.svg()


def run_lengths(picture: Picture) -> str:
    """Draw the number of runs by length, in the capture and in ideal bits."""
    n, counts = picture.bits, picture.runs
    expected = [(n - length + 3) / 2 ** (length + 1) * 1.0 for length in range(1, len(counts) + 1)]
    longest = max(len(counts), next((i for i, e in enumerate(expected, 1) if e < 0.5), len(expected)))
    highest = max(*counts, expected[0]) * 2
    plot = Plot(HALF, HEIGHT, "Runs of equal bits by length", left=76, top=30)
    x, y = plot.scale_x(0.3, longest + 0.7), plot.scale_y(0.5, highest, log=True)
    plot.axis_y(y, decades(1, highest), "number of runs (logarithmic)")
    reach = [(length, 2.0 * n / 2 ** (length + 2)) for length in range(1, longest + 1)]
    plot.band(
        [(x(length), y(e + _BAND_SIGMA * math.sqrt(e))) for length, e in reach],
        [(x(length), y(max(0.5, e - _BAND_SIGMA * math.sqrt(e)))) for length, e in reach],
    )
    plot.line([(x(length), y(max(0.5, e))) for length, e in reach], "expect")
    for (length, e), count in zip(reach, counts, strict=False):
        if count:
            far = abs(count - e) > _BAND_SIGMA * math.sqrt(e) + 1
            label = f"{count:,} runs of {length}; {e:,.1f} expected"
            plot.dot(x(length), y(count), "mark c" if far else "mark a", label)
    plot.axis_x(x, [v for v in ticks(1, longest, 8) if v == int(v)], "length of a run in bits")
    return plot.svg()


def estimates(result: NonIidResult, claim: float | None) -> str:
    """Draw min-entropy by estimator, with claim, result and ideal ceiling."""
    rows = [
        (estimate.title.removesuffix(" Estimate").removesuffix(" Prediction"), kind, estimate.min_entropy * scale)
        for column, kind, scale in (
            (result.bit_string, "b", result.bits_per_sample), (result.literal, "a", 1),
        ) if column is not None
        for estimate in column.estimates if estimate.min_entropy is not None
    ]  # fmt: skip
    step, top = 22, 62
    plot = Plot(
        WHOLE, top + step * len(rows) + 48, "Min-entropy by estimator", left=262, right=76, top=top, bottom=44
    )
    x = plot.scale_x(0, result.bits_per_sample)
    _uprights(plot, x(result.min_entropy), 0, f"this source: {result.min_entropy:.3f}", "result")
    if result.ceiling:
        label = f"ideal source of this length: {result.ceiling.min_entropy:.3f}"
        _uprights(plot, x(result.ceiling.min_entropy), 1, label, "ceiling")
    if claim is not None:
        _uprights(plot, x(claim), 2, f"claim: {claim:g}", "claim")
    for row, (title, kind, value) in enumerate(rows):
        y = top + step * (row + 0.5)
        plot.line([(plot.left, y), (plot.right, y)], "grid")
        plot.line([(plot.left, y), (x(value), y)], f"stem {kind}")
        if kind == "a":
            plot.dot(x(value), y, "mark a", f"{title}: {value:.6f}", radius=4.5)
        else:
            plot.raw(f'<path class="mark b" d="M{x(value):.1f} {y - 5.2:.1f}l5.2 5.2l-5.2 5.2l-5.2 -5.2Z"/>')
        plot.text(plot.left - 12, y + 4, title, "name", "end")
        plot.text(plot.right + 12, y + 4, f"{value:.4f}", "value")
    plot.axis_x(x, ticks(0, result.bits_per_sample, 8), "bits of min-entropy per sample")
    return plot.svg()


def _uprights(plot: Plot, x: float, row: int, label: str, kind: str) -> None:
    """Draw a vertical line; its label is above the plot, in this row."""
    y = 14 + 17 * row
    plot.line([(x, y + 5), (x, plot.bottom)], f"upright {kind}")
    room = CHARACTER * len(label)
    anchor = "end" if x - room > 8 else "start"
    plot.text(x - 7 if anchor == "end" else x + 7, y + 4, label, f"flag {kind}", anchor)


def margins(found: Sequence[Margin], samples: int) -> str:
    """Draw each health test's worst counts as fractions of its cutoff."""
    most = max((max(m.worst) / m.cutoff_intermittent for m in found), default=0.0)
    top = max(1.12, min(2.0, 1.05 * most))
    plot = Plot(WHOLE, 280, "Health-test margins over the samples", left=64, right=110, top=30)
    x, y = plot.scale_x(0, samples), plot.scale_y(0, 100 * top)
    plot.axis_y(y, ticks(0, 100 * top, 5), "worst count, % of the cutoff")
    plot.line([(plot.left, y(100)), (plot.right, y(100))], "upright claim")
    plot.text(plot.right + 8, y(100) + 4, "the test fires", "flag claim")
    for kind, margin in zip("abcd", found, strict=False):
        step = samples / len(margin.worst)
        points = [(x(i * step), y(100 * w / margin.cutoff_intermittent)) for i, w in enumerate(margin.worst)]
        plot.steps([*points, (x(samples), points[-1][1])], f"curve {kind}")
    plot.axis_x(x, ticks(0, samples, 8), "sample")
    return plot.svg()


def windows(picture: Picture, claim: float | None) -> str:
    """Draw the most common value estimate of each part of the capture."""
    values, ideal = picture.windows, picture.window_ideal
    figures = [*values, ideal] + ([claim] if claim is not None else [])
    room = max(0.1, 0.25 * (max(figures) - min(figures)))
    low, high = max(0.0, min(figures) - room), max(figures) + room
    plot = Plot(WHOLE, 270, "Min-entropy over the capture", left=64, right=110, top=30)
    samples = picture.window_samples * len(values)
    x, y = plot.scale_x(0, samples), plot.scale_y(low, high)
    label = "bits per sample" if low <= 0 else "bits per sample (the axis does not start at 0)"
    plot.axis_y(y, ticks(low, high), label)
    plot.line([(plot.left, y(ideal)), (plot.right, y(ideal))], "upright ceiling")
    plot.text(plot.right + 8, y(ideal) + 4, "ideal source", "flag ceiling")
    if claim is not None:
        plot.line([(plot.left, y(claim)), (plot.right, y(claim))], "upright claim")
        plot.text(plot.right + 8, y(claim) + 4, f"claim: {claim:g}", "flag claim")
    size = picture.window_samples
    plot.line([(x((i + 0.5) * size), y(value)) for i, value in enumerate(values)], "curve a thin")
    for i, value in enumerate(values):
        bad = claim is not None and value < claim <= ideal  # a small part can be below any claim
        label = f"samples {i * size:,} to {(i + 1) * size:,}: {value:.3f} bits"
        plot.dot(x((i + 0.5) * size), y(value), "mark c" if bad else "mark a", label, radius=2.8)
    plot.axis_x(x, ticks(0, samples, 8), "sample")
    return plot.svg()
