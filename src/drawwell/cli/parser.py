"""The command line: nouns and verbs, parsed by argparse.

Each noun is a module with ``add_parser``. Without arguments, ``status`` runs. A handler takes
the parsed arguments and an `Output`, and returns the exit code.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from drawwell import __version__
from drawwell.cli.style import ALWAYS, AUTO, NEVER, width_of
from drawwell.errors import UsageError

GROUPS = {
    "everyday": ("status", "draw", "init", "run", "doctor", "source", "join", "leave", "demo", "help"),
    "broker": ("config", "consumer", "fleet", "onerng", "seed-file", "pki", "audit", "restore"),
    "guests": ("guest",),
    "evidence": ("check", "assess", "evidence", "receipt"),
    "plumbing": (
        "broker", "link", "kernel", "renew", "signer", "serve-stdio", "migrate", "check-health", "report-bug",
        "completion",
    ),
}  # fmt: skip
"""The commands in the order of the help text."""
NOUNS = tuple(noun for group in GROUPS.values() for noun in group)
EXIT_USAGE = 64


class _Formatter(argparse.HelpFormatter):
    """argparse's formatter, but it does not import shutil to get the width."""

    def __init__(self, prog: str) -> None:
        given = os.environ.get("COLUMNS", "")
        columns = int(given) if given.isdecimal() else 0
        super().__init__(prog, width=(columns or width_of(sys.stdout, {}) or 80) - 2)


class _Commands(argparse._SubParsersAction):  # type: ignore[type-arg]  # noqa: SLF001  no public API
    """Commands that use their line in the list as the description in --help."""

    def add_parser(self, name: str, **kwargs: Any) -> Any:
        kwargs.setdefault("description", kwargs.get("help"))
        return super().add_parser(name, **kwargs)


class Parser(argparse.ArgumentParser):
    """An argparse parser with our errors: suggestion, hint and exit code."""

    exit_usage = EXIT_USAGE

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", _Formatter)
        super().__init__(*args, **kwargs)
        self.register("action", "parsers", _Commands)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse unknown arguments here, where the verb and its help are known."""
        namespace, left_over = super().parse_known_args(args, namespace)
        if left_over:
            options = [option for action in self._actions for option in action.option_strings]
            mean = did_you_mean(left_over[0], options) or _as_unit(left_over[0])
            self.error(f"unrecognized arguments: {' '.join(left_over)}{mean}")
        return namespace, left_over

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        mean = did_you_mean(str(value), choices) or f"; choose from {', '.join(choices)}"
        what = str(action.metavar or "choice").lower()
        raise argparse.ArgumentError(None, f"unknown {what} '{value}'{mean}")

    def format_help(self) -> str:
        """Return the help text with examples."""
        from drawwell.cli.examples import examples_text

        return super().format_help() + examples_text(self.prog.partition(" ")[2])

    def error(self, message: str) -> NoReturn:
        """Raise a UsageError with the exit code of this verb."""
        error = UsageError(message, hint=f"Try '{self.prog} --help'.")
        error.exit_code = self.exit_usage
        raise error


def _as_unit(argument: str) -> str:
    """Return a hint on how to write a size with this unit, or ""."""
    from drawwell.units import parse_size

    if not argument.isalpha():
        return ""
    try:
        parse_size(f"1{argument}")
    except ValueError:
        return ""
    return f"; write number and unit together, as in 32{argument}"


class _Root(Parser):
    """The root parser, whose help lists the commands in groups."""

    def format_help(self) -> str:
        """Return the help text."""
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        (nouns,) = (action for action in self._actions if isinstance(action, argparse._SubParsersAction))  # noqa: SLF001
        commands = {action.dest: action for action in nouns._choices_actions}  # noqa: SLF001  no public API
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
    """Return a suggestion of the most similar name, or "" if none is similar."""
    import difflib

    nearest = difflib.get_close_matches(name, list(names), 1, cutoff=0.7)
    return f"; did you mean '{nearest[0]}'?" if nearest else ""


def build_parser(names: Sequence[str] = NOUNS) -> Parser:
    """Build the parser for all commands, or only for these nouns."""
    common = _common_options()
    parser = _Root(
        prog="drawwell",
        parents=[common],
        description="Draw true randomness from hardware you trust, once and with proof.",
        epilog="Without a command, drawwell shows the broker's status. 'drawwell help COMMAND' shows examples.",
    )
    parser.add_argument("--version", action="version", version=f"drawwell {__version__}")
    nouns = parser.add_subparsers(metavar="COMMAND", dest="noun", parser_class=Parser)
    for name in names:
        importlib.import_module(f"drawwell.cli.{name.replace('-', '_')}").add_parser(nouns, common)
    return parser


def _common_options() -> argparse.ArgumentParser:
    """Return the options of all verbs; they can also precede the command.

    `parse` sets their defaults.
    """
    common = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--json", action="store_true", help="print the result as one JSON document")
    common.add_argument("--wide", action="store_true", help="show all columns, even if they do not fit")
    common.add_argument(
        "--color", choices=(AUTO, ALWAYS, NEVER), metavar="WHEN",
        help="when to use colour: always, never, or auto (the default: on a terminal, unless NO_COLOR is set)",
    )  # fmt: skip
    common.add_argument("-q", "--quiet", action="store_true", help="print only results and errors, no notes")
    common.add_argument(
        "-c", "--config", metavar="FILE",
        help="configuration file (default: $DRAWWELL_CONFIG, or /etc/drawwell/drawwell.toml if it exists)",
    )  # fmt: skip
    return common


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line; without a command, the result is ``status``.

    Raises:
        UsageError: the command line is invalid.
    """
    parser = build_parser(argv[:1] if set(argv[:1]) & set(NOUNS) else NOUNS)  # import only the noun in use
    defaults = {
        "json": False,
        "quiet": False,
        "config": os.environ.get("DRAWWELL_CONFIG"),
        "wide": False,
        "color": AUTO,
    }
    args = parser.parse_args(argv, argparse.Namespace(**defaults))
    return args if args.noun else parser.parse_args(["status"], args)
