"""Completion scripts for bash, zsh and fish, out of the command tree. Nothing is run when Tab is pressed."""

import shlex
from collections.abc import Callable, Iterator
from typing import Final

from drawwell.cli.command_tree import Argument, Command

_WALK: Final = """\
{head}
  local i current=${{{typed}[{cursor}]}} previous=${{{typed}[{cursor}-1]}} verb=
  for ((i = {first}; i < {cursor}; i++)); do
    case "${{verb}}:${{{typed}[i]}}" in
{steps}
    esac
  done
  case "${{verb}}:${{previous}}" in
{values}
  esac
  if [[ $current == -* ]]; then
    case "$verb" in
{options}
    esac
    return
  fi
  case "$verb" in
{words}
  esac
{tail}
"""
_BASH_HEAD: Final = """\
# bash completion for drawwell, made by 'drawwell completion bash'
_drawwell() {
  COMPREPLY=()"""
_BASH_TAIL: Final = """\
}
complete -F _drawwell drawwell"""
_ZSH_HEAD: Final = """\
#compdef drawwell
# zsh completion for drawwell, made by 'drawwell completion zsh'
_drawwell() {"""
_ZSH_TAIL: Final = """\
}
if [[ $funcstack[1] == _drawwell ]]; then
  _drawwell
else
  compdef _drawwell drawwell
fi"""
_FISH_HEAD: Final = """\
# fish completion for drawwell, made by 'drawwell completion fish'
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


def bash(tree: Command) -> str:
    """A script for bash."""
    typed = {"typed": "COMP_WORDS", "cursor": "COMP_CWORD", "first": "1"}
    return _fill(tree, _bash_offer, {"head": _BASH_HEAD, "tail": _BASH_TAIL, **typed})


def zsh(tree: Command) -> str:
    """A script for zsh: the same walk with zsh's own words."""
    typed = {"typed": "words", "cursor": "CURRENT", "first": "2"}
    return _fill(tree, _zsh_offer, {"head": _ZSH_HEAD, "tail": _ZSH_TAIL, **typed})


def fish(tree: Command) -> str:
    """A script for fish."""
    lines = (line for command in tree.walk() for line in _fish_command(command))
    return "\n".join([_FISH_HEAD, *lines]) + "\n"


def _fill(tree: Command, offer: Callable[[tuple[str, ...], bool], str], shell: dict[str, str]) -> str:
    parts: dict[str, list[str]] = {"steps": [], "values": [], "options": [], "words": []}
    for command in tree.walk():
        path = "/".join(command.path)
        for child in command.children:
            parts["steps"].append(f"{path}:{child.name}) verb={'/'.join(child.path)} ;;")
        valued = [each for each in command.options if each.value]
        if valued:
            parts["steps"].append(f"{_patterns(path, valued)}) ((i++)) ;;")
        for each in valued:
            parts["values"].append(
                f"{_patterns(path, [each])}) {offer(each.choices, each.takes_file)}; return ;;"
            )
        flags = tuple(flag for each in command.options for flag in each.flags)
        parts["options"].append(f'"{path}") {offer(flags, False)} ;;')
        words, files = _words(command)
        if words or files:
            parts["words"].append(f'"{path}") {offer(words, files)} ;;')
    blocks = {name: "\n".join(f"      {line}" for line in lines) for name, lines in parts.items()}
    return _WALK.format(**shell, **blocks)


def _patterns(path: str, options: list[Argument]) -> str:
    return "|".join(f"{path}:{flag}" for each in options for flag in each.flags)


def _words(command: Command) -> tuple[tuple[str, ...], bool]:
    """What may stand where no option does: subcommands, choices, files."""
    words = tuple(child.name for child in command.children)
    words += tuple(choice for each in command.positionals for choice in each.choices)
    return words, any(each.takes_file for each in command.positionals)


def _bash_offer(words: tuple[str, ...], files: bool) -> str:
    kinds = [*(["-f"] if files else []), *([f"-W {shlex.quote(' '.join(words))}"] if words else [])]
    if not kinds:
        return ":"
    as_files = "compopt -o filenames 2>/dev/null; " if files else ""
    return f'{as_files}mapfile -t COMPREPLY < <(compgen {" ".join(kinds)} -- "$current")'


def _zsh_offer(words: tuple[str, ...], files: bool) -> str:
    calls = [
        *([f"compadd -- {' '.join(map(shlex.quote, words))}"] if words else []),
        *(["_files"] if files else []),
    ]
    return "; ".join(calls) or ":"


def _fish_command(command: Command) -> Iterator[str]:
    path = " ".join(command.path)
    at = f"-n '__drawwell_at {path}'" if path else "-n __drawwell_at"
    under = f"-n '__drawwell_under {path}'" if path else at
    for child in command.children:
        yield f"complete -c drawwell {at} -a {child.name} -d {_quoted(child.help)}"
    for each in command.options:
        yield f"complete -c drawwell {under} {_fish_flags(each)} -d {_quoted(each.help)}"
    for each in command.positionals:
        if each.choices:
            yield f"complete -c drawwell {under} -a {_quoted(' '.join(each.choices))} -d {_quoted(each.help)}"
        if each.takes_file:
            yield f"complete -c drawwell {under} -F"


def _fish_flags(option: Argument) -> str:
    flags = [f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags]
    if option.choices:
        flags.append(f"-x -a {_quoted(' '.join(option.choices))}")
    elif option.value:
        flags.append("-r -F" if option.takes_file else "-x")
    return " ".join(flags)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
