"""``drawwell status``: what the running broker has to say of itself; also the answer to no arguments."""

import argparse
import os
import time
from typing import Any

from drawwell.cli.output import Output
from drawwell.errors import DrawwellError, LinkUnavailable
from drawwell.reports import Firmware


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    """Add the noun."""
    parser = nouns.add_parser(
        "status",
        parents=[common],
        help="show the running broker: sources, reservoir, consumers",
        allow_abbrev=False,
    )
    parser.add_argument("-w", "--watch", action="store_true", help="show it again every second, until Ctrl-C")
    parser.add_argument(
        "--require", action="append", default=[], metavar="WHAT", choices=("ready", "verified", "hardware"),
        help="exit 69 unless the broker is ready, every firmware verified, no source simulated; may be repeated",
    )  # fmt: skip
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli import control
    from drawwell.cli.render import broker_text

    while True:
        try:
            report = control.call(args, "status", {})
        except LinkUnavailable as error:
            raise LinkUnavailable(
                "no broker runs here",
                hint="Start one with 'drawwell run', try 'drawwell demo', or ask 'drawwell doctor'.",
            ) from error
        clear = "\x1b[H\x1b[2J" if args.watch and os.isatty(1) and not out.as_json else ""
        out.result(report, clear + broker_text(report))
        _require(args.require, report)
        if not args.watch:
            return 0
        time.sleep(1)


def _require(wanted: list[str], report: dict[str, Any]) -> None:
    """Raise unless everything wanted is so."""
    sources = [source["identity"] for source in report["sources"]]
    faults = {
        "ready": report["not_ready_because"],
        "verified": next(
            (f"{s['name']}: {s['firmware']}" for s in sources if s["firmware"] != Firmware.VERIFIED), ""
        ),
        "hardware": next((f"{s['name']} is simulated" for s in sources if s["simulated"]), ""),
    }
    for what in wanted:
        if faults[what]:
            raise _Unmet(f"required {what}, but {faults[what]}")


class _Unmet(DrawwellError):
    exit_code = 69
