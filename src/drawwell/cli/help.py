"""``drawwell help COMMAND`` does the same as ``drawwell COMMAND --help``."""

import argparse
from typing import Any

from drawwell.cli.output import Output


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    """Declare ``drawwell help``."""
    parser = nouns.add_parser("help", parents=[common], help="show the help of a command", allow_abbrev=False)
    parser.add_argument("command", nargs="*", metavar="COMMAND", help="a command, optionally with a verb")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:  # noqa: ARG001  every verb's signature
    from drawwell.cli.parser import parse

    try:
        parse([*args.command, "--help"])
    except SystemExit as end:  # argparse has printed the help
        return int(end.code or 0)
    return 0
