"""``drawwell completion``: what the shell offers after Tab, made from the command line itself."""

import argparse
from typing import Any

from drawwell.cli.output import Output

SHELLS = ("bash", "zsh", "fish")


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    """Add the noun."""
    parser = nouns.add_parser(
        "completion",
        parents=[common],
        help="print a script that completes drawwell's commands in a shell",
        description="Print a completion script: 'source <(drawwell completion bash)', or put it where the shell"
        " looks: /usr/share/bash-completion/completions/drawwell, a directory of zsh's fpath as _drawwell, or"
        " ~/.config/fish/completions/drawwell.fish.",
        allow_abbrev=False,
    )
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help="bash, zsh or fish")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli import build_parser
    from drawwell.cli.command_tree import command_tree

    script = _script(args.shell, command_tree(build_parser()))
    out.result({"shell": args.shell, "script": script}, script.rstrip("\n"))
    return 0


def _script(shell: str, tree: Any) -> str:
    from drawwell.cli.completion import shells

    return {"bash": shells.bash, "zsh": shells.zsh, "fish": shells.fish}[shell](tree)
