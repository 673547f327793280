"""Completion for fish, from the command tree; drawwell completes names."""

from collections.abc import Iterator
from typing import Final

from command_tree import Argument, CommandNode

_HEAD: Final = """\
# fish completion for drawwell, made by tools/completion.py
function __drawwell_typed
    for word in (commandline -opc)[2..-1]
        string match -q -- '-*' $word; or echo $word
    end
end
function __drawwell_at
    set -l typed (__drawwell_typed)
    test "$typed" = "$argv"
end
function __drawwell_under
    set -l typed (__drawwell_typed)
    set -l depth (count $argv)
    test "$typed[1..$depth]" = "$argv"
end
complete -c drawwell -f"""


def fish(tree: CommandNode) -> str:
    """Return the completion script for fish."""
    lines = (line for command in tree.walk() for line in _command(command))
    return "\n".join([_HEAD, *lines]) + "\n"


def _command(command: CommandNode) -> Iterator[str]:
    path = " ".join(command.path)
    at = f"-n '__drawwell_at {path}'" if path else "-n __drawwell_at"
    under = f"-n '__drawwell_under {path}'" if path else at
    for child in command.children:
        yield f"complete -c drawwell {at} -a {child.name} -d {_quoted(child.help)}"
    for each in command.options:
        yield f"complete -c drawwell {under} {_flags(each)} -d {_quoted(each.help)}"
    for each in command.positionals:
        if each.choices:
            yield f"complete -c drawwell {under} -a {_quoted(' '.join(each.choices))} -d {_quoted(each.help)}"
        if each.names:
            yield f"complete -c drawwell {under} -a {_names(each)} -d {_quoted(each.help)}"
        if each.takes_file:
            yield f"complete -c drawwell {under} -F"


def _flags(option: Argument) -> str:
    flags = [f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags]
    if option.choices:
        flags.append(f"-x -a {_quoted(' '.join(option.choices))}")
    elif option.names:
        flags.append(f"-x -a {_names(option)}")
    elif option.value:
        flags.append("-r -F" if option.takes_file else "-x")
    return " ".join(flags)


def _names(argument: Argument) -> str:
    return _quoted(f"(drawwell completion --names {argument.names})")


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
