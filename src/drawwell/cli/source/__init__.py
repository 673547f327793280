"""``drawwell source``: list, check, watch and capture noise sources."""

import argparse
import base64
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from drawwell.cli.output import Output
from drawwell.cli.style import Style
from drawwell.errors import DrawwellError, LinkUnavailable, SourceUnavailable, UsageError
from drawwell.reports import SourceState
from drawwell.units import format_size, parse_size

if TYPE_CHECKING:
    from drawwell.config.model import Config
    from drawwell.drivers.discovery import UsbDevice

PIECE_BYTES = 32_768


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    from drawwell.cli.source import history, simulate, units
    from drawwell.cli.source import run as source_run

    parser = nouns.add_parser(
        "source",
        help="list, run, verify, watch, capture and simulate noise sources",
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def verb(name: str, run: Any, summary: str, *, source: bool = True) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = verbs.add_parser(
            name, parents=[common], help=summary, allow_abbrev=False
        )
        if source:
            made.add_argument("source", nargs="?", help="name or device node (default: the only source)")
        made.set_defaults(run=run)
        return made

    verb("list", _list, "list running sources and connected devices", source=False)
    verb("verify", _verify, "verify the firmware signature and run the start-up health tests now")
    watch = verb(
        "watch", _watch, "show rate, min-entropy and health-test margins every second until Ctrl-C; this"
        " captures a little raw noise",
    )  # fmt: skip
    watch.add_argument("--once", action="store_true", help="show the values once and exit")
    capture = verb("capture", _capture, "write raw samples to a file for an assessment")
    capture.add_argument(
        "-n", "--bytes", default="1MB", metavar="SIZE", help="number of samples (default: 1MB)"
    )
    capture.add_argument("-o", "--output", required=True, metavar="FILE", help="the new file, mode 0600")
    verb("history", history.show, "show how close health tests came to their cutoffs over a day and a year")
    verb("reset", _reset, "restart a source after a permanent failure; find the cause first")
    simulate.add_verb(verbs, common)
    source_run.add_verb(verbs, common)
    units.add_verb(verbs, common)


def _running(args: argparse.Namespace) -> dict[str, Any] | None:
    from drawwell.cli import client

    try:
        return client.call(args, "status", {})
    except client.NoBroker:
        return None


def _list(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.render import sources_table
    from drawwell.config.load import load
    from drawwell.drivers.discovery import discover
    from drawwell.reports import as_json

    report = _running(args)
    sources = report["sources"] if report else []
    devices = discover()
    used = in_use(load(args.config), sources, devices) if sources else set()
    lines = [sources_table(sources, out.style) if sources else "no source is running"]
    if devices:
        rows = [("DEVICE", "NODE", "STABLE NAME", "IN USE")]
        rows += [(d.kind, d.path, d.stable_name, "yes" if d in used else "no") for d in devices]
        lines += ["", out.style.table(rows, drop=("STABLE NAME",))]
    elif not sources:
        lines.append("no known device is connected; see 'drawwell doctor'")
    documents = [as_json(device) | {"in_use": device in used} for device in devices]
    out.result({"sources": sources, "devices": documents}, "\n".join(lines))
    return 0


def in_use(
    config: "Config", sources: Sequence[Mapping[str, Any]], devices: Sequence["UsbDevice"]
) -> set["UsbDevice"]:
    """Return the devices that running sources read, by a node or by a program."""
    from drawwell.config.devices import DEVICES

    sources = [source for source in sources if source["state"] != SourceState.OFF]
    names = {source["identity"]["name"] for source in sources}
    nodes = {os.path.realpath(source["identity"]["path"]) for source in sources}
    commands = [each.command for each in config.sources if each.name in names]
    return {
        device
        for device in devices
        if device.path in nodes or any(map(DEVICES[device.kind].is_read_by, commands))
    }


def _verify(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.render import identity_text, state_word, tests_table
    from drawwell.cli.source.direct import verify_directly

    with out.working(lambda: _start_up(args)):
        report = _through_broker(args, "test", {})
    report = report or verify_directly(args, out)
    lines = [
        identity_text(report["identity"], out.style),
        f"{'health':<12} {out.style.state(state_word(report))}",
        "",
        tests_table(report["tests"], out.style),
    ]
    out.result(report, "\n".join(lines))
    good = report["state"] == "healthy" and report["identity"]["firmware"] != "not verified"
    return 0 if good else 1


def _start_up(args: argparse.Namespace) -> str:
    """Return the progress of a running source's start-up tests."""
    from drawwell.cli.render import startup_text

    sources: list[dict[str, Any]] = []
    with suppress(DrawwellError):
        sources = (_running(args) or {"sources": []})["sources"]
    chosen = [each for each in sources if args.source in {None, *each["identity"].values()}]
    return next(filter(None, map(startup_text, chosen)), "start-up tests")


def _through_broker(
    args: argparse.Namespace, verb: str, arguments: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Send a command to the running source; return None if it is not running."""
    from drawwell.cli import client

    return client.source_command(args, args.source, verb, dict(arguments))


def _capture(args: argparse.Namespace, out: Output) -> int:
    try:
        wanted = parse_size(args.bytes)
    except ValueError as error:
        raise UsageError(str(error), hint="Example: --bytes 1MB.") from error
    fd = os.open(args.output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        try:
            what = _capture_into(file.write, args, out, wanted)
        except BaseException:
            if not file.tell():
                os.unlink(args.output)
            raise
    simulated = ", simulated" if what["simulated"] else ""
    out.result(
        {"file": args.output, "bytes": wanted, **what},
        f"{wanted} raw samples in {args.output} ({what['noise']}{simulated}); drawwell does not use them elsewhere",
    )
    return 0


def _capture_into(
    write: Callable[[bytes], int], args: argparse.Namespace, out: Output, wanted: int
) -> dict[str, Any]:
    """Write samples from the source or the device; return facts about them."""
    from drawwell.cli.source.direct import capture_directly

    written, piece = 0, None
    while written < wanted:
        piece = _through_broker(args, "capture", {"bytes": min(PIECE_BYTES, wanted - written)})
        if piece is None and written:
            raise LinkUnavailable("the broker disconnected", hint="Restart it, or capture without it.")
        if piece is None:
            identity = capture_directly(args, out, wanted, write)
            return {"noise": identity.noise, "simulated": identity.simulated}
        written += write(base64.b64decode(piece["data"]))
        out.progress(f"{format_size(written)} of {format_size(wanted)}")
    return {key: piece[key] for key in ("noise", "simulated")} if piece else {}


def _reset(args: argparse.Namespace, out: Output) -> int:
    result = _through_broker(args, "reset", {})
    if result is None:
        raise LinkUnavailable("no broker is running here", hint="Start the source first: 'drawwell run'.")
    out.result(result, f"{result['reset']}: restarting")
    return 0


def _watch(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.source.entropy_window import Window

    before: dict[str, Any] | None = None
    windows: dict[str, Window] = {}
    while True:
        report = _running(args)
        if report is None:
            raise LinkUnavailable("no broker is running here", hint="Start a broker with 'drawwell run'.")
        sources = [
            s
            for s in report["sources"]
            if args.source in {None, s["identity"]["name"], s["identity"]["path"]}
        ]
        if not sources:
            raise UsageError(f"source {args.source!r} is not running", hint="See 'drawwell source list'.")
        live = os.isatty(1) and not args.once and not out.as_json
        shown = [
            _watched(source, before, out.style) + _window(args, source, windows, live=live)
            for source in sources
        ]
        out.result({"sources": sources}, "\n\n".join(shown), redraw=live)
        before = {source["identity"]["name"]: source["raw_bytes"] for source in sources}
        if args.once:
            return 0
        time.sleep(1)


def _window(args: argparse.Namespace, source: dict[str, Any], windows: dict[str, Any], *, live: bool) -> str:
    """Measure a little noise, add the result to `source`, and return a text."""
    from drawwell.cli import client
    from drawwell.cli.source.entropy_window import PIECE_BYTES, Window, describe

    if source["state"] != "healthy" or source["paused"] or not source["tests"]:
        return ""
    name = source["identity"]["name"]
    try:
        piece = client.source_command(args, name, "capture", {"bytes": PIECE_BYTES})
    except SourceUnavailable:
        return ""
    window = windows.setdefault(name, Window())
    if piece:
        window.add(base64.b64decode(piece["data"]))
    source["window"] = window.report(source["tests"][0]["min_entropy"])
    return f"\n{describe(source['window'])}" + (f"\n{window.bitmap()}" if live else "")


def _watched(source: Mapping[str, Any], before: Mapping[str, int] | None, style: Style) -> str:
    from drawwell.cli.render import state_word, tests_table

    name = source["identity"]["name"]
    rate = source["raw_rate_bytes_per_s"] if source["state"] == "healthy" and not source["paused"] else 0
    now = source["raw_bytes"] - before[name] if before and name in before else rate
    simulated = " (simulated)" if source["identity"]["simulated"] else ""
    heading = f"{name}{simulated}: {style.state(state_word(source))}, {format_size(int(now))}/s raw"
    return f"{heading}\n{tests_table(source['tests'], style)}"
