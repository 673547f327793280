"""``drawwell source run``: one noise source as a process of its own, which deposits with the broker.

It holds the device, so it does without whatever it can (law 10): asyncio imports ssl where there is one, and works
where there is none.
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
It ends with 69 when the device is gone, and with 65 when it is not what it claims to be or its firmware is not
verified: there is no use in starting it again then. It waits for a broker that takes deposits ('drawwell broker run').
"""


def add_verb(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb to ``drawwell source``."""
    from drawwell.cli.run import add_options

    parser = verbs.add_parser(
        "run",
        parents=[common],
        allow_abbrev=False,
        help="run one source, which deposits with the broker, until Ctrl-C",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source", nargs="?", metavar="NAME", help="a [[source]] by name (default: the only one)"
    )
    parser.add_argument("--device", metavar="PATH", help="the device's node instead, configured or not")
    parser.add_argument(
        "--stable-name",
        metavar="PORT",
        help="the port that it is plugged into instead, as udev's ID_PATH says",
    )
    parser.add_argument(
        "--socket", metavar="PATH", help="where the broker takes deposits (default: source.sock in run_dir)"
    )
    add_options(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]  # asyncio asks for it, and does without
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
        raise UsageError("which source?", hint="Say NAME, --device or --stable-name, and one of them.")
    if args.device:
        return source_by_node(config, os.path.abspath(args.device), discover())
    if args.stable_name:
        return source_by_stable_name(config, args.stable_name, discover())
    return pick_source(config, args.source)
