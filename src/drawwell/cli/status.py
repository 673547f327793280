"""``drawwell status``: what the running broker has to say of itself; also the answer to no arguments."""

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
    """Add the noun."""
    parser = nouns.add_parser(
        "status",
        parents=[common],
        help="show what runs here: sources, reservoir, consumers, links, the kernel's feed",
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
    config = _config(args, out)
    while True:
        report = _report(config)
        text = _text(report, out.style)
        out.result(report, text, anew=args.watch)
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
    """Read the configuration; a broken one stops nobody from looking at what still runs with the one before."""
    from drawwell.config.load import load

    try:
        return load(args.config)
    except ConfigError as error:
        if args.config or "DRAWWELL_CONFIG" in os.environ:
            raise  # somebody's own file: what runs by it need not be where it is by default
        out.say(f"{error}: see 'drawwell config check'; what runs is looked for where it is by default")
        return load(os.devnull)


def _report(config: "Config") -> dict[str, Any]:
    """Ask the broker, or the link of a machine that only draws; and look at what feeds the kernel. Nothing is drawn.

    Raises:
        NoBroker: nothing of ours runs here.
    """
    from drawwell.cli import client
    from drawwell.roles.kernel_process import read_report

    feed = read_report(config.broker.feed_report)
    try:
        report = _asked(config)
    except client.NoBroker as error:
        if feed is None:
            raise client.NoBroker(str(error), hint=_where_draws_go(config) or error.hint) from error
        why = f"nothing that could be drawn from runs here: {feed['last_error'] or 'no broker and no link'}"
        report = {"ready": False, "not_ready_because": why}
    return report | ({"kernel": feed} if feed else {})


def _where_draws_go(config: "Config") -> str:
    """Return the hint of a machine that draws from other machines' brokers and runs no link."""
    from contextlib import suppress

    from drawwell.roles.upstream import identities

    with suppress(DrawwellError, OSError):
        if addresses := [address for each in identities(config, None) for address in each.addresses]:
            return f"Draws go to {' and '.join(addresses)}: see 'drawwell link list'."
    return ""


def _asked(config: "Config") -> dict[str, Any]:
    """Ask as the owner; whoever is not, is told of himself."""
    from drawwell.cli import client
    from drawwell.roles.upstream import listens

    if not config.serves and listens(config.broker.link_socket):
        return client.ask(config.broker.link_socket, "status", {})
    try:
        return client.ask(config.control.path, "status", {})
    except PermissionRefused:
        pass
    try:
        return client.ask(config.unix.path, "status", {})
    except PermissionRefused as error:
        hint = "Root, members of the group drawwell and consumers may look: ask as one of them."
        raise PermissionRefused(str(error), hint=hint) from error


def _require(wanted: list[str], report: dict[str, Any]) -> None:
    """Raise unless everything wanted is so."""
    if "upstreams" in report and set(wanted) - {"ready"}:
        raise Unmet("the sources are elsewhere", hint="Ask the broker's operator for 'drawwell status'.")
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
