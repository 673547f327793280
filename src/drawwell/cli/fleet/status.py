"""``drawwell fleet status``: this machine's view of its fleet."""

import argparse
import time
from collections.abc import Iterator, Mapping
from typing import Any

from drawwell.cli.output import Output
from drawwell.cli.style import Style


def add_parser(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "status",
        parents=[common],
        help="show the brokers of the fleet, their sources and the store",
        description="Show the brokers of the fleet, their sources and the store, and a command to fix each "
        "problem. This works on any broker of the fleet.",
        epilog="Exit codes: 0 no problems, 1 problems found.",
        allow_abbrev=False,
    )
    parser.add_argument("-w", "--watch", action="store_true", help="refresh every second until Ctrl-C")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    from drawwell.observe.fleet import fleet_troubles

    while True:
        fleet = _fleet(args)
        problems = [{"what": each.what, "type": each.type_this} for each in fleet_troubles(fleet)]
        out.result({**fleet, "problems": problems}, _text(fleet, problems, out.style), redraw=args.watch)
        if not args.watch:
            return 1 if problems else 0
        time.sleep(1)


def _fleet(args: argparse.Namespace) -> dict[str, Any]:
    """Request the fleet's state from this machine's broker.

    Raises:
        UsageError: the broker is not in a fleet.
        DrawwellError: the request failed.
    """
    from drawwell.cli.client import call
    from drawwell.errors import UsageError

    fleet: dict[str, Any] | None = call(args, "status", {}).get("fleet")
    if fleet is None:
        raise UsageError(
            "this machine's broker is not in a fleet",
            hint="Create a fleet with 'drawwell fleet init', or join one with 'drawwell fleet join -'.",
        )
    return fleet


def _text(fleet: Mapping[str, Any], problems: list[dict[str, str]], style: Style) -> str:
    from drawwell.observe.fleet import store_state

    brokers = fleet["brokers"]
    plural = "s" if len(brokers) != 1 else ""
    lines = [
        style.wrap(f"fleet {fleet['name']}: {len(brokers)} broker{plural}, {store_state(fleet)}", "  "),
        "",
        style.table([_HEAD, *map(tuple, map(_row, brokers))], drop=("ADDRESS", "SESSIONS", "VERSION")),
    ]
    for each in problems:
        lines += ["", style.marked("!", each["what"]), style.wrap(f"    {each['type']}", "    ")]
    return "\n".join(lines)


_HEAD = ("BROKER", "STATE", "SEEN", "SOURCES", "LEASED", "SESSIONS", "VERSION", "ADDRESS")


def _row(broker: Mapping[str, Any]) -> Iterator[str]:
    from drawwell.observe.fleet import broker_state
    from drawwell.units import format_duration, format_size

    sources = broker["sources"]
    healthy = sum(source["state"] == "healthy" for source in sources)
    yield str(broker["name"])
    yield broker_state(broker)
    yield f"{format_duration(max(1, round(broker['seen_s'])))} ago"
    yield f"{healthy} of {len(sources)} healthy"
    yield format_size(broker["leased_bytes"])
    yield str(broker["sessions"])
    yield str(broker["version"])
    yield " ".join(broker["addresses"])
