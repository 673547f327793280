"""The command line as data, for fish completion and the manual page."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

_FILES: Final = ("FILE", "PATH", "DIR", "INPUT", "OUTPUT", "DEVICE")


@dataclass(frozen=True, slots=True)
class Argument:
    """An option (with `flags`) or a positional; `value` is its placeholder."""

    flags: tuple[str, ...]
    value: str
    help: str
    choices: tuple[str, ...]
    optional: bool
    many: bool
    takes_file: bool
    names: str
    """The kind of names that the argument accepts, or ""."""


@dataclass(frozen=True, slots=True)
class CommandNode:
    """A command and its arguments; `path` is the part after ``drawwell``."""

    path: tuple[str, ...]
    help: str
    description: str
    epilog: str
    arguments: tuple[Argument, ...]
    children: tuple["CommandNode", ...]

    @property
    def name(self) -> str:
        """The command's own name."""
        return self.path[-1] if self.path else "drawwell"

    @property
    def options(self) -> tuple[Argument, ...]:
        """Arguments with flags."""
        return tuple(each for each in self.arguments if each.flags)

    @property
    def positionals(self) -> tuple[Argument, ...]:
        """Arguments without flags."""
        return tuple(each for each in self.arguments if not each.flags)

    def walk(self) -> Iterator["CommandNode"]:
        """Yield this command and all its subcommands, in the order of the help."""
        yield self
        for child in self.children:
            yield from child.walk()


def command_tree(
    parser: argparse.ArgumentParser, path: tuple[str, ...] = (), summary: str = ""
) -> CommandNode:
    """Read a parser and all its subcommands, except hidden ones."""
    arguments: list[Argument] = []
    children: list[CommandNode] = []
    for action in parser._actions:  # noqa: SLF001  argparse offers no other way
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            children += _children(action, path)
        elif action.help != argparse.SUPPRESS:
            arguments.append(_argument(action, parser.prog))
    description = _plain(parser.description, parser.prog)
    return CommandNode(
        path, summary, description, _plain(parser.epilog, parser.prog), tuple(arguments), tuple(children)
    )


def _children(action: Any, path: tuple[str, ...]) -> Iterator[CommandNode]:
    summaries = {each.dest: each.help or "" for each in action._choices_actions}  # noqa: SLF001
    for name, parser in action.choices.items():
        if name in summaries:
            yield command_tree(parser, (*path, name), summaries[name])


def _argument(action: argparse.Action, prog: str) -> Argument:
    value = _value(action)
    text = action.help or ""
    for name, content in (("default", action.default), ("prog", prog), ("metavar", value)):
        text = text.replace(f"%({name})s", str(content))
    return Argument(
        tuple(action.option_strings),
        value,
        _plain(text, prog),
        tuple(map(str, action.choices or ())),
        optional=not action.required or action.nargs == "*",
        many=action.nargs in {"*", "+", argparse.REMAINDER},
        takes_file=takes_file(action),
        names=names_of(action, prog),
    )


def takes_file(action: argparse.Action) -> bool:
    """Return whether an argument's value is a file name."""
    return any(word in _FILES for word in _value(action).replace("|", " ").split())


def names_of(action: argparse.Action, prog: str) -> str:
    """Return the kind of names it accepts: link, source, consumer, guest."""
    noun, verb = (*prog.split()[1:], "", "")[:2]
    if _value(action) == "LINK" and action.dest != "name":
        return "link"
    if action.dest == "source" and noun in {"source", "evidence"}:
        return "source"
    if action.dest == "name" and not action.option_strings and verb != "invite":
        return noun if noun in {"consumer", "guest"} else ""
    return ""


def _value(action: argparse.Action) -> str:
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    shown = metavar or "|".join(map(str, action.choices or ())) or action.dest.upper()
    return "" if action.nargs == 0 else shown


def _plain(text: str | None, prog: str) -> str:
    return " ".join((text or "").replace("%(prog)s", prog).replace("%%", "%").split())
