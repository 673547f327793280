"""``drawwell completion``: print a generated completion script."""

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
        help="print a shell completion script",
        description="Print a shell completion script. To try it, run 'eval \"$(drawwell completion bash)\"' (or zsh)."
        " To install it, save it as /usr/share/bash-completion/completions/drawwell, as _drawwell in a directory of"
        " zsh's fpath, or as ~/.config/fish/completions/drawwell.fish.",
        allow_abbrev=False,
    )
    parser.add_argument("shell", nargs="?", choices=SHELLS, metavar="SHELL", help="bash, zsh or fish")
    parser.add_argument(
        "--names", choices=KINDS, metavar="KIND",
        help=f"print names of one kind, for use by the scripts: {', '.join(KINDS)}",
    )  # fmt: skip
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    if args.names:
        found = names(args.names, args)
        out.result(found, "\n".join(found))
        return 0
    if not args.shell:
        raise UsageError("a shell is required", hint=f"Choose one of {', '.join(SHELLS)}.")
    script = script_for(args.shell)
    out.result({"shell": args.shell, "script": script}, script.rstrip("\n"))
    return 0


def script_for(shell: str) -> str:
    """Return the completion script for a shell."""
    return files(__name__).joinpath(f"drawwell.{shell}").read_text()
