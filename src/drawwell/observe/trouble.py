"""A problem and the command that helps."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trouble:
    """A problem.

    `critical` is true if the broker cannot serve draws or cannot prove what it does.
    """

    what: str
    type_this: str = "drawwell doctor"
    critical: bool = False
