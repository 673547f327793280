"""The command line: nouns and verbs, parsed by argparse.

Each noun is one module with ``add_parser``; no arguments means ``status``. A handler takes the
parsed arguments and an `Output` and returns the exit code.
"""

import argparse
import importlib
import os
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from drawwell import __version__
from drawwell.errors import UsageError

NOUNS = (
    "status", "demo", "init", "run", "broker", "link", "kernel", "draw", "seed-file", "join", "leave", "renew",
    "consumer", "guest", "source", "onerng", "doctor", "check", "assess", "evidence", "receipt", "audit", "config",
    "migrate", "restore", "check-health", "signer", "pki", "report-bug", "completion", "serve-stdio",
)  # fmt: skip
EXIT_USAGE = 64


class Parser(argparse.ArgumentParser):
    """argparse with our errors: the nearest name, a hint, and our exit code."""

    exit_usage = EXIT_USAGE

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse what is left over here, where the verb and its help are known."""
        namespace, left_over = super().parse_known_args(args, namespace)
        if left_over:
            options = [option for action in self._actions for option in action.option_strings]
            mean = did_you_mean(left_over[0], options)
            self.error(f"unrecognized arguments: {' '.join(left_over)}{mean}")
        return namespace, left_over

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        mean = did_you_mean(str(value), choices) or f": one of {', '.join(choices)}"
        what = str(action.metavar or "choice").lower()
        raise argparse.ArgumentError(None, f"unknown {what} '{value}'{mean}")

    def error(self, message: str) -> NoReturn:
        """Raise it as one of our own errors, with the exit code of this verb."""
        error = UsageError(message, hint=f"Try '{self.prog} --help'.")
        error.exit_code = self.exit_usage
        raise error


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return a hint that offers the nearest name, "" when none is near."""
    import difflib

    nearest = difflib.get_close_matches(name, list(names), 1, cutoff=0.7)
    return f"; did you mean '{nearest[0]}'?" if nearest else ""


def build_parser(names: Sequence[str] = NOUNS) -> Parser:
    """Build the whole command line, or as much of it as has these nouns."""
    common = _common_options()
    parser = Parser(
        prog="drawwell",
        parents=[common],
        description="Draw true randomness from hardware you trust, once and with proof.",
        epilog="Without a command it shows the status of the running broker.",
    )
    parser.add_argument("--version", action="version", version=f"drawwell {__version__}")
    nouns = parser.add_subparsers(metavar="COMMAND", dest="noun")
    for name in names:
        importlib.import_module(f"drawwell.cli.{name.replace('-', '_')}").add_parser(nouns, common)
    return parser


def _common_options() -> argparse.ArgumentParser:
    """Return the options of all verbs, which may precede the command too.

    `parse` has their defaults.
    """
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--json", action="store_true", help="print the result as one JSON document")
    common.add_argument(
        "-q", "--quiet", action="store_true", help="print nothing on standard error but errors"
    )
    common.add_argument(
        "-c", "--config", metavar="FILE",
        help="configuration file (default: DRAWWELL_CONFIG, or /etc/drawwell/drawwell.toml where it exists)",
    )  # fmt: skip
    return common


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line; one without a command asks for the status.

    Raises:
        UsageError: it makes no sense.
    """
    parser = build_parser(argv[:1] if set(argv[:1]) & set(NOUNS) else NOUNS)  # the others are not imported
    defaults = {"json": False, "quiet": False, "config": os.environ.get("DRAWWELL_CONFIG")}
    args = parser.parse_args(argv, argparse.Namespace(**defaults))
    return args if args.noun else parser.parse_args(["status"], args)
