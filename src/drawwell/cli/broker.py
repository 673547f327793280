"""``drawwell broker``: run a broker with its doors but without sinks."""

import argparse
from typing import Any

from drawwell.cli.run import add_options, add_supervised, serve

_EPILOG = """\
'drawwell broker run' does not open devices. Each source runs in its own process ('drawwell source run').
"""


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    parser = nouns.add_parser(
        "broker",
        parents=[common],
        help="run the sources and doors, but no sinks, until Ctrl-C",
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
        help="run only the doors; sources run in separate processes and deposit their output",
        allow_abbrev=False,
    )
    add_options(run)
    add_supervised(run)
    run.set_defaults(run=lambda args, out: serve(args, out, consumers=False, apart=True))
