"""``drawwell source run``: run one noise source in its own process.

The process has access to the device, so it loads as little code as possible (law 10).
"""

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from drawwell.cli.output import Output
from drawwell.errors import UsageError

if TYPE_CHECKING:
    from drawwell.config.broker_side import SourceSection
    from drawwell.config.model import Config

_EPILOG = """\
Exit codes: 69 the device is missing; 65 the device is not genuine or its firmware is not verified (a restart does
not help). If necessary, the process waits for a broker that accepts deposits ('drawwell broker run').
"""


def add_verb(verbs: Any, common: argparse.ArgumentParser) -> None:
    from drawwell.cli.run import add_options

    parser = verbs.add_parser(
        "run",
        parents=[common],
        allow_abbrev=False,
        help="run one source until Ctrl-C, and deposit its output with the broker",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source", nargs="?", metavar="NAME", help="name of a [[source]] (default: the only source)"
    )
    parser.add_argument("--device", metavar="PATH", help="use this device node, configured or not")
    parser.add_argument(
        "--stable-name",
        metavar="PORT",
        help="use the device at this port instead (udev's ID_PATH)",
    )
    parser.add_argument(
        "--socket", metavar="PATH", help="the broker's socket for deposits (default: source.sock in run_dir)"
    )
    add_options(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]  # asyncio works without ssl
    from drawwell.cli.run import run_until_stopped, set_up_logging
    from drawwell.config.load import load
    from drawwell.roles.make_driver import make_driver
    from drawwell.roles.source_process import LoneSource
    from drawwell.service.systemd import Manager

    set_up_logging(verbose=args.verbose, quiet=out.quiet)
    config = load(args.config)
    section = _section(args, config)
    socket = os.path.abspath(args.socket) if args.socket else config.broker.source_socket
    driver, claim = make_driver(section)
    manager = Manager(os.environ)
    what = section.path or " ".join(section.command)
    out.say(f"starting {section.name} ({section.driver} {what}) for the broker at {socket}; Ctrl-C stops")
    return run_until_stopped(LoneSource(driver, claim, socket, manager).run, out)


def _section(args: argparse.Namespace, config: "Config") -> "SourceSection":
    from drawwell.drivers.discovery import discover
    from drawwell.roles.make_driver import pick_source, source_by_node, source_by_stable_name

    if sum(each is not None for each in (args.source, args.device, args.stable_name)) > 1:
        raise UsageError(
            "several sources were specified", hint="Use only one of NAME, --device and --stable-name."
        )
    if args.device:
        return source_by_node(config, os.path.abspath(args.device), discover())
    if args.stable_name:
        return source_by_stable_name(config, args.stable_name, discover())
    return pick_source(config, args.source)
