"""``drawwell completion``: the scripts that tools/completion.py writes."""

import argparse
from importlib.resources import files
from typing import Any

from drawwell.cli.output import Output

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
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help="bash, zsh or fish")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    script = script_for(args.shell)
    out.result({"shell": args.shell, "script": script}, script.rstrip("\n"))
    return 0


def script_for(shell: str) -> str:
    """Return the completion script of a shell."""
    return files(__name__).joinpath(f"drawwell.{shell}").read_text()
