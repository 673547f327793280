"""Completion scripts for bash, zsh and fish, out of the command tree. Nothing is run when Tab is pressed."""

import shlex
from collections.abc import Callable, Iterator
from typing import Final

from drawwell.cli.tree import Argument, Command

_BASH: Final = """\
# bash completion for drawwell, made by 'drawwell completion bash'
_drawwell() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}}
  local path= i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$path:${{COMP_WORDS[i]}}" in
{steps}
    esac
  done
  case "$path:$previous" in
{values}
  esac
  if [[ $current == -* ]]; then
    case "$path" in
{options}
    esac
    return
  fi
  case "$path" in
{words}
  esac
}}
complete -o filenames -F _drawwell drawwell
"""
_ZSH: Final = """\
#compdef drawwell
# zsh completion for drawwell, made by 'drawwell completion zsh'
_drawwell() {{
  local current=$words[CURRENT] previous=$words[CURRENT-1]
  local path= i
  for ((i = 2; i < CURRENT; i++)); do
    case "$path:$words[i]" in
{steps}
    esac
  done
  case "$path:$previous" in
{values}
  esac
  if [[ $current == -* ]]; then
    case "$path" in
{options}
    esac
    return
  fi
  case "$path" in
{words}
  esac
}}
if [[ $funcstack[1] == _drawwell ]]; then
  _drawwell "$@"
else
  compdef _drawwell drawwell
fi
"""


def bash(tree: Command) -> str:
    """A script for bash."""
    return _fill(_BASH, tree, _bash_offer)


def zsh(tree: Command) -> str:
    """A script for zsh: the same walk with zsh's own words."""
    return (
        _fill(_ZSH, tree, _zsh_offer)
        .replace("local path= i", "local command_path= i")
        .replace("$path", "$command_path")
        .replace(" path=", " command_path=")
    )


def fish(tree: Command) -> str:
    """A script for fish."""
    lines = ["# fish completion for drawwell, made by 'drawwell completion fish'", "complete -c drawwell -f"]
    lines += [line for command in tree.walk() for line in _fish_command(command)]
    return "\n".join(lines) + "\n"


def _fill(template: str, tree: Command, offer: Callable[[tuple[str, ...], bool], str]) -> str:
    parts: dict[str, list[str]] = {"steps": [], "values": [], "options": [], "words": []}
    for command in tree.walk():
        path = "/".join(command.path)
        for child in command.children:
            parts["steps"].append(f"{path}:{child.name}) path={'/'.join(child.path)} ;;")
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
    return template.format(
        **{name: "\n".join(f"      {line}" for line in lines) for name, lines in parts.items()}
    )


def _patterns(path: str, options: list[Argument]) -> str:
    return "|".join(f"{path}:{flag}" for each in options for flag in each.flags)


def _words(command: Command) -> tuple[tuple[str, ...], bool]:
    """What may stand where no option does: subcommands, choices, files."""
    words = tuple(child.name for child in command.children)
    words += tuple(choice for each in command.positionals for choice in each.choices)
    return words, any(each.takes_file for each in command.positionals)


def _bash_offer(words: tuple[str, ...], files: bool) -> str:
    kinds = [*(["-f"] if files else []), *([f"-W {shlex.quote(' '.join(words))}"] if words else [])]
    return f'COMPREPLY=($(compgen {" ".join(kinds)} -- "$current"))' if kinds else ":"


def _zsh_offer(words: tuple[str, ...], files: bool) -> str:
    calls = [
        *([f"compadd -- {' '.join(map(shlex.quote, words))}"] if words else []),
        *(["_files"] if files else []),
    ]
    return "; ".join(calls) or ":"


def _fish_command(command: Command) -> Iterator[str]:
    condition = _fish_condition(command)
    for child in command.children:
        yield f"complete -c drawwell {condition} -a {child.name} -d {_quoted(child.help)}"
    for each in command.options:
        yield f"complete -c drawwell {condition} {_fish_flags(each)} -d {_quoted(each.help)}"
    for each in command.positionals:
        if each.choices:
            yield f"complete -c drawwell {condition} -a {_quoted(' '.join(each.choices))} -d {_quoted(each.help)}"
        if each.takes_file:
            yield f"complete -c drawwell {condition} -F"


def _fish_condition(command: Command) -> str:
    """True where the words typed lead to this command and not to one below it."""
    tests = [f"__fish_seen_subcommand_from {word}" for word in command.path]
    if command.children:
        tests.append(f"not __fish_seen_subcommand_from {' '.join(child.name for child in command.children)}")
    return f"-n {_quoted('; and '.join(tests))}" if tests else ""


def _fish_flags(option: Argument) -> str:
    flags = [f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags]
    if option.choices:
        flags.append(f"-x -a {_quoted(' '.join(option.choices))}")
    elif option.value:
        flags.append("-r -F" if option.takes_file else "-x")
    return " ".join(flags)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
