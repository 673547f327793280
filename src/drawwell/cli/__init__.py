"""One program, nouns and verbs. Each noun is one module with ``add_parser``; no arguments means ``status``.

The rules of output stand in output.py. A handler takes the parsed arguments and an `Output` and returns the
exit code; errors reach `main`, which prints message and hint.
"""

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from drawwell import __version__
from drawwell.cli.output import Output
from drawwell.errors import ConfigError, DrawwellError

NOUNS = (
    "status", "demo", "run", "broker", "draw", "join", "renew", "consumer", "source", "onerng", "doctor", "check",
    "receipt", "config",
)  # fmt: skip
EXIT_USAGE = 64


class Parser(argparse.ArgumentParser):
    """argparse with our exit code and our hint."""

    exit_usage = EXIT_USAGE

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse what is left over here, where the verb and its help are known."""
        namespace, left_over = super().parse_known_args(args, namespace)
        if left_over:
            self.error(f"unrecognized arguments: {' '.join(left_over)}")
        return namespace, left_over

    def error(self, message: str) -> None:  # type: ignore[override]
        sys.stderr.write(f"{self.prog}: {message}\n{self.prog}: hint: Try '{self.prog} --help'.\n")
        raise SystemExit(self.exit_usage)


def build_parser() -> Parser:
    """Build the whole command line; each noun imports only argparse until it runs."""
    parser = Parser(
        prog="drawwell",
        description="Draw true randomness from hardware you trust, once and with proof.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"drawwell {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print the result as one JSON document")
    common.add_argument("-q", "--quiet", action="store_true", help="no words on standard error but errors")
    common.add_argument(
        "-c", "--config", metavar="FILE", default=os.environ.get("DRAWWELL_CONFIG"),
        help="configuration file (default: /etc/drawwell/drawwell.toml, where it exists)",
    )  # fmt: skip
    nouns = parser.add_subparsers(metavar="COMMAND", dest="noun")
    for name in NOUNS:
        importlib.import_module(f"drawwell.cli.{name}").add_parser(nouns, common)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(argv or ["status"])
    out = Output(as_json=args.json, quiet=args.quiet)
    try:
        return int(args.run(args, out))
    except DrawwellError as error:
        return out.error(error)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


__all__ = ["ConfigError", "build_parser", "main"]
