"""``drawwell completion``: the scripts that tools/completion.py writes."""

import argparse
from importlib.resources import files
from typing import Any

from drawwell.cli.completion.names import KINDS, names
from drawwell.cli.output import Output
from drawwell.errors import UsageError

SHELLS = ("bash", "zsh", "fish")


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    """Declare ``drawwell completion``."""
    parser = nouns.add_parser(
        "completion",
        parents=[common],
        help="print a script that completes drawwell's commands in a shell",
        description="Print a completion script. Try it with 'eval \"$(drawwell completion bash)\"' (or zsh), or install"
        " it: /usr/share/bash-completion/completions/drawwell, _drawwell in a directory of zsh's fpath, or"
        " ~/.config/fish/completions/drawwell.fish.",
        allow_abbrev=False,
    )
    parser.add_argument("shell", nargs="?", choices=SHELLS, metavar="SHELL", help="bash, zsh or fish")
    parser.add_argument(
        "--names", choices=KINDS, metavar="KIND",
        help=f"print names instead, for the scripts: one of {', '.join(KINDS)}",
    )  # fmt: skip
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    if args.names:
        found = names(args.names, args)
        out.result(found, "\n".join(found))
        return 0
    if not args.shell:
        raise UsageError("which shell?", hint=f"Name one of {', '.join(SHELLS)}.")
    script = script_for(args.shell)
    out.result({"shell": args.shell, "script": script}, script.rstrip("\n"))
    return 0


def script_for(shell: str) -> str:
    """Return the completion script of a shell."""
    return files(__name__).joinpath(f"drawwell.{shell}").read_text()
