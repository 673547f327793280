"""Shows the demonstration's progress as a live table or as lines."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from drawwell.cli.output import Output
from drawwell.cli.render import state_word
from drawwell.cli.style import Style
from drawwell.reports import as_json
from drawwell.units import format_size

if TYPE_CHECKING:
    from drawwell.broker.broker import LocalBroker
    from drawwell.cli.demo.consumer import DemoConsumer

LIVE_S = 0.25
PLAIN_S = 3.0


class View:
    """A table that is redrawn on a terminal, or lines at intervals in a file."""

    def __init__(self, out: Output, broker: "LocalBroker", consumers: Sequence["DemoConsumer"]) -> None:
        self._out = out
        self._broker = broker
        self._consumers = consumers
        self._lines = 0

    def snapshot(self) -> dict[str, Any]:
        """Return the broker's report including its consumers."""
        consumers = self._broker.book.busiest(len(self._broker.accounts))
        return as_json(replace(self._broker.report(), consumers=consumers))

    async def show_for(self, seconds: float) -> None:
        """Show the state for `seconds`."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while (left := end - loop.time()) > 0:
            report = self.snapshot()
            if self._out.live:
                self._redraw(live_table(report, self._out.live_style))
            else:
                self._out.say(plain_line(report))
            await asyncio.sleep(min(left, LIVE_S if self._out.live else PLAIN_S))

    def _redraw(self, text: str) -> None:
        up = f"\x1b[{self._lines}A" if self._lines else ""
        lines = text.split("\n")
        sys.stderr.write(up + "".join(f"\x1b[K{line}\n" for line in lines))
        sys.stderr.flush()
        self._lines = len(lines)


def live_table(report: dict[str, Any], style: Style) -> str:
    """Return a table of the source, the ledger and the consumers."""
    source, ledger = report["sources"][0], report["ledger"]
    rows = [("SIMULATED SOURCE", "STATE", "BYTES IN", "MIN-ENTROPY IN", "FULL ENTROPY OUT", "IN RESERVOIR")]
    rows.append(
        (
            source["identity"]["name"],
            state_word(source),
            format_size(source["raw_bytes"]),
            format_size(ledger["assessed_bits"] // 8),
            format_size(ledger["conditioned_bits"] // 8),
            format_size(report["reservoir_bytes"]),
        )
    )
    consumers = [("CONSUMER", "DRAWS", "BYTES OUT", "CREDIT", "WAITED", "RATE", "QUOTA", "LEFT")]
    consumers += [
        (
            consumer["name"],
            str(consumer["draws"]),
            format_size(consumer["full_bytes"]),
            "0 bits",
            f"{consumer['refused']} times",
            consumer["rate"],
            consumer["quota"],
            format_size(consumer["quota_left_bytes"]),
        )
        for consumer in report["consumers"]
        if consumer["quota"]
    ]
    sources = style.table(rows, drop=("BYTES IN", "MIN-ENTROPY IN"))
    return f"{sources}\n{style.table(consumers, drop=('CREDIT', 'RATE', 'DRAWS'))}"


def plain_line(report: dict[str, Any]) -> str:
    """Return the data of `live_table` on one line."""
    source, ledger = report["sources"][0], report["ledger"]
    drawn = ", ".join(
        f"{c['name']} {c['draws']} draws, {format_size(c['full_bytes'])} "
        f"(quota left {format_size(c['quota_left_bytes'])}, credit 0)"
        for c in report["consumers"]
        if c["quota"]
    )
    return (
        f"simulated {source['identity']['name']} {state_word(source)}: {format_size(source['raw_bytes'])} in, "
        f"{format_size(ledger['assessed_bits'] // 8)} of min-entropy, "
        f"{format_size(ledger['conditioned_bits'] // 8)} of full entropy; {drawn}"
    )
