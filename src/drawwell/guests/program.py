"""Programs of the software that runs guests: lists of words, never a shell, and always a time limit."""

import os
import subprocess
from typing import Final

from drawwell.errors import GuestUnavailable
from drawwell.guests.model import Outcome

ANSWER_S: Final = 60.0
"""A loaded host takes its time to say what runs on it."""
MISSING: Final = 127
"""The status of a program that is not installed, as a shell has it."""


def run(
    argv: list[str],
    *,
    stdin: bytes = b"",
    timeout_s: float = ANSWER_S,
    more_env: dict[str, str] | None = None,
) -> Outcome:
    """Run a program to its end; one that is not installed is an outcome as well (`MISSING`).

    Raises:
        GuestUnavailable: it did not end in time; it was killed then.
    """
    env = os.environ | {"LC_ALL": "C.UTF-8"} | (more_env or {})
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, check=False, timeout=timeout_s, env=env)
    except FileNotFoundError:
        return Outcome(MISSING, b"", f"{argv[0]} is not installed")
    except subprocess.TimeoutExpired as error:
        raise GuestUnavailable(
            f"{argv[0]} did not end within {timeout_s:g} s", hint="See whether the guest or its host hangs."
        ) from error
    return Outcome(done.returncode, done.stdout, done.stderr.decode("utf-8", "replace").strip())


def last_words(outcome: Outcome) -> str:
    """What a program said at the end, for a message."""
    lines = outcome.errors.splitlines() or [f"it ended with status {outcome.status}"]
    return lines[-1][:200]
