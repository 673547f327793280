"""Programs that act for a guest: their output, and their limits."""

import sys

import pytest

from drawwell.errors import GuestUnavailable
from drawwell.guests import program
from drawwell.guests.model import GuestCommandResult
from drawwell.testing.waiting import DEADLINE_S

ECHO = (
    "import sys; data = sys.stdin.buffer.read(); "
    "sys.stdout.buffer.write(data[::-1]); sys.stderr.write(str(len(data)))"
)


def python(script: str) -> list[str]:
    return [sys.executable, "-c", script]


@pytest.mark.parametrize("size", [0, 1, 4096, 1_000_000])
def test_what_goes_in_and_out_is_whole(size: int) -> None:
    """More than a pipe's buffer passes both ways, and the status is returned."""
    data = bytes(index % 251 for index in range(size))
    outcome = program.run(python(ECHO + "; sys.exit(3)"), stdin=data, timeout_s=DEADLINE_S)
    assert (outcome.status, outcome.output == data[::-1], outcome.errors) == (3, True, str(size))


def test_who_does_not_read_ends_all_the_same() -> None:
    """A program that closes its standard input causes no error."""
    outcome = program.run(python("print('done')"), stdin=bytes(1_000_000), timeout_s=DEADLINE_S)
    assert (outcome.status, outcome.output) == (0, b"done\n")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_has_no_end_is_bounded(monkeypatch: pytest.MonkeyPatch, stream: str) -> None:
    """An endless answer from a guest does not fill the host's memory."""
    monkeypatch.setattr(program, "MOST_BYTES", 1_000_000)
    flood = f"import sys\nwhile True: sys.{stream}.write('x' * 65536)"
    with pytest.raises(GuestUnavailable, match="more than 1000000 bytes"):
        program.run(python(flood), timeout_s=DEADLINE_S)


@pytest.mark.parametrize("closes", ["", "os.close(0); os.close(1); os.close(2); "])
def test_what_hangs_is_killed(closes: str) -> None:
    """Silent, or with all its streams closed: it is given up."""
    with pytest.raises(GuestUnavailable, match="did not finish within"):
        # short: the time is the fact
        program.run(python(f"import os, time; {closes}time.sleep(600)"), timeout_s=1.0)


def test_a_program_that_is_not_there_is_an_outcome() -> None:
    """The error has the exit status that a shell would give."""
    assert program.run(["/nowhere/virsh"]).status == program.MISSING


def test_a_guests_last_line_move_no_terminal() -> None:
    """Terminal control characters are shown as question marks."""
    assert (
        program.last_line(GuestCommandResult(1, b"", "first\nlxc-attach: \x1b]0;x\x07"))
        == "lxc-attach: ?]0;x?"
    )
