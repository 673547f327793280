"""``drawwell broker``: sources and doors, without the sinks; needs no privilege but the device."""

import argparse
from typing import Any

from drawwell.cli.run import add_options, serve


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    """Add the noun."""
    parser = nouns.add_parser(
        "broker",
        parents=[common],
        help="run only sources and doors, no sinks, until Ctrl-C",
        allow_abbrev=False,
    )
    add_options(parser)
    parser.set_defaults(run=lambda args, out: serve(args, out, consumers=False))
