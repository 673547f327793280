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
from drawwell.cli.style import ALWAYS, AUTO, NEVER
from drawwell.errors import UsageError

GROUPS = {
    "everyday": ("status", "draw", "init", "run", "doctor", "source", "join", "leave", "demo", "help"),
    "broker": ("config", "consumer", "onerng", "seed-file", "pki", "audit", "restore"),
    "guests": ("guest",),
    "evidence": ("check", "assess", "evidence", "receipt"),
    "plumbing": (
        "broker", "link", "kernel", "renew", "signer", "serve-stdio", "migrate", "check-health", "report-bug",
        "completion",
    ),
}  # fmt: skip
"""The commands in the order of the help."""
NOUNS = tuple(noun for group in GROUPS.values() for noun in group)
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

    def format_help(self) -> str:
        """Return the help with examples."""
        from drawwell.cli.examples import examples_text

        return super().format_help() + examples_text(self.prog.partition(" ")[2])

    def error(self, message: str) -> NoReturn:
        """Raise it as one of our own errors, with the exit code of this verb."""
        error = UsageError(message, hint=f"Try '{self.prog} --help'.")
        error.exit_code = self.exit_usage
        raise error


class _Root(Parser):
    """The whole command line: its help has the commands in groups."""

    def format_help(self) -> str:
        """Return the help."""
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        (nouns,) = (action for action in self._actions if isinstance(action, argparse._SubParsersAction))  # noqa: SLF001
        commands = {action.dest: action for action in nouns._choices_actions}  # noqa: SLF001  no other way
        for title, names in GROUPS.items():
            formatter.start_section(title)
            formatter.add_arguments([commands[name] for name in names if name in commands])
            formatter.end_section()
        formatter.start_section("options")
        formatter.add_arguments([action for action in self._actions if action is not nouns])
        formatter.end_section()
        formatter.add_text(self.epilog)
        return formatter.format_help()


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return a hint that offers the nearest name, "" when none is near."""
    import difflib

    nearest = difflib.get_close_matches(name, list(names), 1, cutoff=0.7)
    return f"; did you mean '{nearest[0]}'?" if nearest else ""


def build_parser(names: Sequence[str] = NOUNS) -> Parser:
    """Build the whole command line, or as much of it as has these nouns."""
    common = _common_options()
    parser = _Root(
        prog="drawwell",
        parents=[common],
        description="Draw true randomness from hardware you trust, once and with proof.",
        epilog="Without a command it shows the status of the running broker; 'drawwell help COMMAND' has examples.",
    )
    parser.add_argument("--version", action="version", version=f"drawwell {__version__}")
    nouns = parser.add_subparsers(metavar="COMMAND", dest="noun", parser_class=Parser)
    for name in names:
        importlib.import_module(f"drawwell.cli.{name.replace('-', '_')}").add_parser(nouns, common)
    return parser


def _common_options() -> argparse.ArgumentParser:
    """Return the options of all verbs, which may precede the command too.

    `parse` has their defaults.
    """
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--json", action="store_true", help="print the result as one JSON document")
    common.add_argument("--wide", action="store_true", help="show every column, however wide the terminal is")
    common.add_argument(
        "--color", choices=(AUTO, ALWAYS, NEVER), metavar="WHEN",
        help="colour states: auto (on a terminal, unless NO_COLOR is set; default), always or never",
    )  # fmt: skip
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
    defaults = {
        "json": False,
        "quiet": False,
        "config": os.environ.get("DRAWWELL_CONFIG"),
        "wide": False,
        "color": AUTO,
    }
    args = parser.parse_args(argv, argparse.Namespace(**defaults))
    return args if args.noun else parser.parse_args(["status"], args)
