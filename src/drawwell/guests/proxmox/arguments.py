"""Pure: our options in a machine's ``args``, next to the owner's text.

``args`` is split into tokens like a shell command (qm(1), "args"; PVE::Tools, split_args).
"""

import re
import shlex
from collections.abc import Set as AbstractSet
from itertools import pairwise
from typing import Final

from drawwell.errors import UsageError

_TOKEN: Final = re.compile(r"""(?:[^ \t\r\n'"\\]|\\.|'[^']*'|"(?:[^"\\]|\\.)*")+""", re.DOTALL)


def with_ours(args: str, ours: str) -> str:
    """Append our options to the owner's text."""
    return f"{args} {ours}" if args else ours


def without_ours(args: str, ids: AbstractSet[str]) -> str:
    """Remove the options that have one of these IDs, each with one blank.

    Raises:
        UsageError: the text cannot be split into tokens.
    """
    try:
        shlex.split(args)
    except ValueError as error:
        raise UsageError(
            f"the machine's args cannot be split into tokens: {error}",
            hint="Correct them with 'qm set ID --args'.",
        ) from error
    tokens = list(_TOKEN.finditer(args))
    for flag, value in reversed(list(pairwise(tokens))):
        if {f"id={each}" for each in ids} & set("".join(shlex.split(value[0])).split(",")):
            args = _cut(args, flag.start(), value.end())
    return args


def _cut(args: str, start: int, end: int) -> str:
    if args[start - 1 : start] == " ":
        start -= 1
    elif not start and args[end : end + 1] == " ":
        end += 1
    return args[:start] + args[end:]
