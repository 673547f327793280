"""A finding of the doctor."""

import re
from dataclasses import asdict, dataclass
from typing import Final, Self

from drawwell.errors import DrawwellError

_RUN: Final = re.compile(r"Run '([^']+)'")
"""Matches the start of a hint that begins with a command to run."""


@dataclass(frozen=True, slots=True)
class DoctorFinding:
    """A finding: `level` is good, note or problem; `hint` describes the fix.

    `command` is the next command to run, or "".
    """

    level: str
    subject: str
    words: str  # wording: a JSON key
    hint: str = ""
    command: str = ""

    @classmethod
    def of_error(cls, subject: str, error: Exception) -> Self:
        """Create the finding for an error."""
        hint = (error.hint if isinstance(error, DrawwellError) else "") or ""
        found = _RUN.match(hint)
        return cls("problem", subject, str(error), hint, found[1] if found else "")

    @property
    def line(self) -> str:
        return f"{self.subject}: {self.words}"  # wording: a JSON key

    def document(self) -> dict[str, str]:
        return asdict(self)
