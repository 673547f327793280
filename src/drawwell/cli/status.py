"""``drawwell status``: what the running broker has to say of itself; also the answer to no arguments."""

import argparse
import os
import time
from typing import Any

from drawwell.cli.output import Output
from drawwell.errors import DrawwellError, PermissionRefused
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
        "--require", action="append", default=[], metavar="CONDITION", choices=("ready", "verified", "hardware"),
        help="exit 69 unless the broker is 'ready', every firmware 'verified', every source 'hardware' and not "
        "simulated; may be repeated",
    )  # fmt: skip
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.render import broker_text, own_text

    while True:
        report = _report(args)
        text = broker_text(report) if "sources" in report else own_text(report)
        clear = "\x1b[H\x1b[2J" if args.watch and os.isatty(1) and not out.as_json else ""
        out.result(report, clear + text)
        _require(args.require, report)
        if not args.watch:
            return 0
        time.sleep(1)


def _report(args: argparse.Namespace) -> dict[str, Any]:
    """Ask as the owner; whoever is not, is told of himself."""
    from drawwell.cli import control
    from drawwell.config.load import load

    try:
        return control.call(args, "status", {})
    except PermissionRefused:
        return control.ask(load(args.config).unix.path, "status", {})


def _require(wanted: list[str], report: dict[str, Any]) -> None:
    """Raise unless everything wanted is so."""
    if "sources" not in report and set(wanted) - {"ready"}:
        raise PermissionRefused(
            "only the broker's owner may ask for its sources", hint="Ask as root or as the broker's own user."
        )
    sources = [source["identity"] for source in report.get("sources", ())]
    faults = {
        "ready": report["not_ready_because"],
        "verified": next(
            (f"{s['name']}: {s['firmware']}" for s in sources if s["firmware"] != Firmware.VERIFIED), ""
        ),
        "hardware": next((f"{s['name']} is simulated" for s in sources if s["simulated"]), ""),
    }
    for what in wanted:
        if faults[what]:
            raise Unmet(f"required {what}, but {faults[what]}", hint="Ask 'drawwell doctor' for the cause.")


class Unmet(DrawwellError):
    """The broker is not as ``--require`` wants it."""

    exit_code = 69
