"""Results of a benchmark: medians with range, and ratios, as text or JSON."""

import argparse
import json
import os
import platform
import ssl
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import cryptography

from drawwell.service.loops import loop_factory

Samples = dict[str, float]
"""One measurement: figures by name; the name includes the unit."""
_SIGNIFICANT: Final = 3


def arguments(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="one short round: does it work, not how fast")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


@dataclass
class Report:
    """All measurements of one benchmark; the output is median and range."""

    title: str
    rows: dict[str, dict[str, list[Samples]]] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, group: str, name: str, measured: Samples) -> None:
        """Store one measurement of one contender."""
        self.rows.setdefault(group, {}).setdefault(name, []).append(measured)

    def median(self, group: str, name: str, figure: str) -> float:
        return statistics.median(one[figure] for one in self.rows[group][name])

    def ratio(self, group: str, ours: str, peer: str, figure: str) -> None:
        """Add the ratio of drawwell's median to a peer's, if both were measured."""
        measured = self.rows.get(group, {})
        if ours in measured and peer in measured:
            value = self.median(group, ours, figure) / self.median(group, peer, figure)
            self.ratios[f"{group}: {figure}, {ours} / {peer}"] = value

    def missing(self, program: str, package: str) -> None:
        """Report that a peer is not installed."""
        self.notes.append(f"{program} is not installed (Debian: {package}): not compared")

    def show(self, *, as_json: bool) -> None:
        if as_json:
            print(json.dumps(self._document(), indent=1))
            return
        print(self.title)
        for group, measured in self.rows.items():
            print(f"\n{group}")
            _table({name: _summary(samples) for name, samples in measured.items()})
        print()
        for what, value in self.ratios.items():
            print(f"ratio  {_number(value):>7}  {what}")
        for note in (*self.notes, machine()):
            print(f"note   {note}")

    def _document(self) -> dict[str, Any]:
        return {
            "title": self.title, "machine": machine(), "rows": self.rows, "ratios": self.ratios, "notes": self.notes
        }  # fmt: skip


def machine() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return (
        f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"Linux {platform.release()}, broker on {loop_name()}, "
        f"Python {platform.python_version()}, {ssl.OPENSSL_VERSION}, "
        f"cryptography {cryptography.__version__}"
    )


def loop_name() -> str:
    """Return the event loop of the brokers in a benchmark."""
    return "uvloop" if loop_factory(os.environ) else "asyncio"


def progress(what: str) -> None:
    """Show the current measurement on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{what} …", end="", file=sys.stderr, flush=True)


def percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _summary(samples: list[Samples]) -> dict[str, str]:
    columns = {}
    for figure in samples[0]:
        values = sorted(one[figure] for one in samples)
        spread = f" ({_number(values[0])}–{_number(values[-1])})" if len(values) > 1 else ""
        columns[figure] = _number(statistics.median(values)) + spread
    return columns


def _table(rows: dict[str, dict[str, str]]) -> None:
    figures = list(dict.fromkeys(figure for row in rows.values() for figure in row))
    lines = [["", *figures]]
    lines += [[name, *(row.get(figure, "–") for figure in figures)] for name, row in rows.items()]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *others in lines:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        print("  ".join((f"  {first.ljust(widths[0])}", *cells)))


def _number(value: float) -> str:
    if abs(value) >= 10**_SIGNIFICANT:
        return f"{value:,.0f}"
    return f"{value:.{_SIGNIFICANT}g}"
