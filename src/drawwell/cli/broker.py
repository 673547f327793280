"""``drawwell broker``: sources and doors, without the sinks; ``drawwell broker run``: the doors alone."""

import argparse
from typing import Any

from drawwell.cli.run import add_options, add_supervised, serve

_EPILOG = """\
'drawwell broker run' opens no device: each source runs in a process of its own ('drawwell source run') and deposits.
"""


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    """Add the noun."""
    parser = nouns.add_parser(
        "broker",
        parents=[common],
        help="run only sources and doors, no sinks, until Ctrl-C",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    add_options(parser)
    add_supervised(parser)
    parser.set_defaults(run=lambda args, out: serve(args, out, consumers=False))
    verbs = parser.add_subparsers(metavar="VERB")
    run = verbs.add_parser(
        "run",
        parents=[common],
        help="run the doors alone; sources deposit from processes of their own",
        allow_abbrev=False,
    )
    add_options(run)
    add_supervised(run)
    run.set_defaults(run=lambda args, out: serve(args, out, consumers=False, apart=True))
