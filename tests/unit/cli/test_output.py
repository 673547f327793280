"""Messages, results and errors on a terminal."""

import pytest

from drawwell.cli.output import Output
from drawwell.cli.style import Style
from drawwell.errors import UsageError

HOSTILE = "web\x1b]0;x\x07\x9b2J\r\u202e\udc80é\tok\nnext"
SHOWN = "web?]0;x??2J???é\tok\nnext"


def test_output_has_no_terminal_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    """Results, messages, errors and hints are printed without escapes."""
    out = Output()
    out.result({}, HOSTILE)
    out.say(HOSTILE)
    out.error(UsageError(HOSTILE, hint=HOSTILE))
    printed = capsys.readouterr()
    assert printed.out == f"{SHOWN}\n"
    assert printed.err == f"drawwell: {SHOWN}\ndrawwell: {SHOWN}\ndrawwell: hint: {SHOWN}\n"


def test_a_message_is_broken_at_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    """Long messages are wrapped; multi-line messages are not."""
    out = Output(live_style=Style(width=24))
    out.say("a simulated stick is plugged in")
    out.say("[broker]\ndeposits = true  # " + "x" * 24)
    broken, laid_out = capsys.readouterr().err.split("drawwell: ")[1:]
    assert broken == "a simulated\n  stick is plugged in\n"
    assert laid_out == "[broker]\ndeposits = true  # " + "x" * 24 + "\n"
