"""``drawwell status``: show the running broker (the default command)."""

import argparse
import os
import time
from typing import TYPE_CHECKING, Any

from drawwell.cli.output import Output
from drawwell.cli.style import Style
from drawwell.errors import ConfigError, DrawwellError, PermissionRefused
from drawwell.reports import Firmware

if TYPE_CHECKING:
    from drawwell.config.model import Config


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    parser = nouns.add_parser(
        "status",
        parents=[common],
        help="show the status of sources, reservoir, consumers, links and the kernel feed",
        allow_abbrev=False,
    )
    parser.add_argument("-w", "--watch", action="store_true", help="refresh every second until Ctrl-C")
    parser.add_argument(
        "--require", action="append", default=[], metavar="CONDITION", choices=("ready", "verified", "hardware"),
        help="exit with code 69 unless the broker is 'ready', all firmware is 'verified', or all sources are "
        "'hardware' (not simulated). Repeat the option to require several conditions",
    )  # fmt: skip
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    config = _config(args, out)
    while True:
        report = _report(config)
        text = _text(report, out.style)
        out.result(report, text, redraw=args.watch)
        _require(args.require, report)
        if not args.watch:
            return 0
        time.sleep(1)


def _text(report: dict[str, Any], style: Style) -> str:
    from drawwell.cli.render import broker_text, feed_text, link_text, own_text

    parts = []
    if "sources" in report:
        parts.append(broker_text(report, style))
    elif "upstreams" in report:
        parts.append(link_text(report, style))
    elif "consumers" in report:
        parts.append(own_text(report, style))
    if "kernel" in report:
        parts.append(style.wrap(feed_text(report["kernel"], time.time()), "  "))
    return "\n".join(parts)


def _config(args: argparse.Namespace, out: Output) -> "Config":
    """Load the configuration; if it has faults, use the default paths."""
    from drawwell.config.load import load

    try:
        return load(args.config)
    except ConfigError as error:
        if args.config:
            raise  # with -c, the default paths could be wrong
        out.say(f"{error} (run 'drawwell config check'); using the default paths")
        return load(os.devnull)


def _report(config: "Config") -> dict[str, Any]:
    """Return the state of the broker or link and of the kernel feed.

    Raises:
        NoBroker: drawwell is not running on this machine.
    """
    from drawwell.cli import client
    from drawwell.roles.kernel_process import read_report

    feed = read_report(config.broker.feed_report)
    try:
        report = _asked(config)
    except client.NoBroker as error:
        if feed is None:
            raise client.NoBroker(str(error), hint=_where_draws_go(config) or error.hint) from error
        why = f"draws are not possible: {feed['last_error'] or 'neither a broker nor a link is running'}"
        report = {"ready": False, "not_ready_because": why}
    return report | ({"kernel": feed} if feed else {})


def _where_draws_go(config: "Config") -> str:
    """Return a hint if draws go directly to remote brokers."""
    from contextlib import suppress

    from drawwell.roles.upstream import identities

    with suppress(DrawwellError, OSError):
        if addresses := [address for each in identities(config, None) for address in each.addresses]:
            return f"Draws go to {' and '.join(addresses)}. See 'drawwell link list'."
    return ""


def _asked(config: "Config") -> dict[str, Any]:
    """Return the full report for the owner, or a consumer's own account."""
    from drawwell.cli import client

    if (link := client.link_status(config)) is not None:
        return link
    try:
        return client.ask(config.control.path, "status", {})
    except PermissionRefused:
        pass
    try:
        return client.ask(config.unix.path, "status", {})
    except PermissionRefused as error:
        hint = "Run the command as root, as a member of group drawwell, or as a consumer."
        raise PermissionRefused(str(error), hint=hint) from error


def _require(wanted: list[str], report: dict[str, Any]) -> None:
    """Raise Unmet unless all conditions are true."""
    if "upstreams" in report and set(wanted) - {"ready"}:
        raise Unmet("the sources belong to a remote broker", hint="Run this on the broker's machine.")
    if "sources" not in report and set(wanted) - {"ready"}:
        raise PermissionRefused(
            "only the broker's owner may see its sources", hint="Run this as root or as the broker's user."
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
            raise Unmet(f"not {what}: {faults[what]}", hint="Run 'drawwell doctor' to find the cause.")


class Unmet(DrawwellError):
    """A condition of ``--require`` is not met."""

    exit_code = 69
