"""What is printed for people."""

import pytest

from drawwell.cli.output import Output
from drawwell.errors import UsageError

HOSTILE = "web\x1b]0;x\x07\x9b2J\r\u202e\udc80é\tok\nnext"
SHOWN = "web?]0;x??2J???é\tok\nnext"


def test_nothing_that_others_chose_moves_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A result, a word, an error and its hint are printed without escapes, overrides and half characters."""
    out = Output()
    out.result({}, HOSTILE)
    out.say(HOSTILE)
    out.error(UsageError(HOSTILE, hint=HOSTILE))
    printed = capsys.readouterr()
    assert printed.out == f"{SHOWN}\n"
    assert printed.err == f"drawwell: {SHOWN}\ndrawwell: {SHOWN}\ndrawwell: hint: {SHOWN}\n"
