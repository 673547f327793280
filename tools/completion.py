"""Write the completion scripts for ``drawwell completion``.

shtab generates the scripts for bash and zsh; it does not support fish, so we generate that
one.

With --check the command writes nothing, and exits with 1 if a script is out of date.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import shtab
from command_tree import command_tree, names_of, takes_file
from fish import fish

from drawwell.cli.completion.names import KINDS
from drawwell.cli.parser import build_parser

FOLDER: Final = Path(__file__).resolve().parent.parent / "src" / "drawwell" / "cli" / "completion"


NAMES: Final = {
    "bash": "\n".join(
        f'_drawwell_names_{kind}() {{ compgen -W "$(drawwell completion --names {kind} 2>/dev/null)" -- "$1"; }}'
        for kind in KINDS
    ),
    "zsh": "\n".join(
        f'_drawwell_names_{kind}() {{ compadd -- ${{(f)"$(drawwell completion --names {kind} 2>/dev/null)"}} }}'
        for kind in KINDS
    ),
}
"""Functions that complete names."""


def scripts() -> dict[Path, str]:
    """Return every script by its file name."""
    parser = build_parser()
    made = {"fish": fish(command_tree(parser))}
    for action, prog in _actions(parser):
        if takes_file(action):
            action.complete = shtab.FILE
        elif kind := names_of(action, prog):
            action.complete = dict.fromkeys(("bash", "zsh"), f"_drawwell_names_{kind}")
    made |= {shell: f"{shtab.complete(parser, shell, preamble=head)}\n" for shell, head in NAMES.items()}
    return {FOLDER / f"drawwell.{shell}": text for shell, text in made.items()}


def _actions(parser: argparse.ArgumentParser) -> Iterator[tuple[Any, str]]:
    for action in parser._actions:  # noqa: SLF001  as shtab itself reads them
        yield action, parser.prog
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for child in action.choices.values():
                yield from _actions(child)


def main() -> int:
    """Write the scripts, or compare them."""
    stale = {path: text for path, text in scripts().items() if not path.is_file() or path.read_text() != text}
    checking = "--check" in sys.argv[1:]
    for path, text in stale.items():
        print(f"{'out of date' if checking else 'wrote'}: {path.name}")
        if not checking:
            path.write_text(text)
    return int(checking and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
