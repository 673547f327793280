"""``drawwell source history``: draw charts of past health test results."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from drawwell.cli.output import Output

if TYPE_CHECKING:
    from drawwell.entropy.health_history import Row, Span

COLUMNS: Final = 48
_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_NAME: Final = 26


def show(args: argparse.Namespace, out: Output) -> int:
    """Draw charts of the last 24 hours and the last year of a running source."""
    from drawwell.cli import client

    source = client.running_name(args, args.source)
    history = client.call(args, "source.history", {"source": source})
    out.result(history, "\n".join(_lines(history)))
    return 0


def _lines(history: Mapping[str, Any]) -> Iterator[str]:
    from drawwell.entropy.health_history import Span

    simulated = " (simulated)" if history["simulated"] else ""
    yield f"{history['source']}{simulated}: highest count of each health test ({_BLOCKS[-1]} is the cutoff)"
    if not history["minutes"] and not history["days"]:
        yield "no data yet: drawwell records a running source once per minute"
        return
    for heading, rows, span in (
        ("last 24 hours, 30 minutes per column", history["minutes"], Span.MINUTE),
        ("last year, 8 days per column", history["days"], Span.DAY),
    ):
        yield ""
        yield heading
        yield from _drawn(history["tests"], rows, span, history["now"])


def _drawn(
    tests: Sequence[str], rows: Sequence[Mapping[str, Any]], span: "Span", now: float
) -> Iterator[str]:
    """Draw each test's line and show its maximum; add the lowest estimate."""
    from drawwell.entropy.health_history import Row, parts_of

    read = [Row(row["at"] // span, row["min_entropy"], tuple(row["nearness"])) for row in rows]
    parts = parts_of(read, span, now, COLUMNS)
    for index, test in enumerate(tests):
        line = "".join(_column(part, index) for part in parts)
        most = max((row.nearness[index] for row in read), default=0.0)
        yield f"{test:<{_NAME}} {line} {most:>4.0%}"
    estimates = [row.min_entropy for row in read if row.min_entropy]
    if estimates:
        yield f"{'min-entropy estimate':<{_NAME}} at least {min(estimates):.2f} bits per sample"


def _column(part: "Row | None", index: int) -> str:
    return _BLOCKS[int(part.nearness[index] * (len(_BLOCKS) - 1))] if part else " "
