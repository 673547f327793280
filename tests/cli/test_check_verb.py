"""Features of ``drawwell check`` beyond rngtest."""

import base64
import contextlib
import json
import os
import pty
import random
import signal
import subprocess
import sys

import pytest

import drawwell.cli.check as check_verb
import drawwell.cli.client as control
from drawwell.cli import main
from drawwell.errors import SourceUnavailable

GOOD = random.Random(30).randbytes(100_004)
BAD = bytes(100_004)


@pytest.fixture
def file(tmp_path):
    def write(data: bytes) -> str:
        (tmp_path / "input").write_bytes(data)
        return str(tmp_path / "input")

    return write


def test_a_good_file_exits_zero_and_prints_no_result(file, capfd):
    """The summary is a message on standard error."""
    assert main(["check", file(GOOD)]) == 0

    written = capfd.readouterr()
    assert written.out == ""
    assert "rngtest: FIPS 140-2 successes: 40\n" in written.err


def test_a_bad_file_exits_one(file):
    """A failed block makes the exit code 1."""
    assert main(["check", "-q", file(BAD)]) == 1


def test_json_is_one_document_on_standard_output(file, capfd):
    """With --json, counts, exit code and limits are one document."""
    assert main(["check", "--json", file(BAD)]) == 1

    written = capfd.readouterr()
    document = json.loads(written.out)
    assert (document["blocks"], document["failures"], document["exit_code"]) == (40, 40, 1)
    assert document["failed"] == {
        "monobit": 40, "poker": 40, "runs": 40, "long_run": 40, "continuous_run": 40
    }  # fmt: skip
    assert "loop of 4096 bytes" in document["limits"]
    assert written.err == ""


def test_json_without_a_whole_block_is_still_a_document(file, capfd):
    """An input shorter than the bootstrap is reported, with exit code 1."""
    assert main(["check", "--json", file(b"abc")]) == 1

    assert json.loads(capfd.readouterr().out)["received_bytes"] == 3


def test_quiet_leaves_the_exit_code_to_speak(file, capfd):
    """With --quiet a pass prints nothing."""
    assert main(["check", "--quiet", file(GOOD)]) == 0

    assert capfd.readouterr() == ("", "")


def test_pipe_and_json_together_are_refused(file, capfd):
    """Both options use standard output; the exit code is for bad parameters."""
    assert main(["check", "--pipe", "--json", file(GOOD)]) == 10

    assert json.loads(capfd.readouterr().err)["exit_code"] == 10


def test_a_missing_file_exits_twelve_with_a_hint(capfd):
    """An error before the first byte has rngtest's exit code."""
    assert main(["check", "/does/not/exist"]) == 12

    assert "drawwell: hint: " in capfd.readouterr().err


def test_blocks_never_go_to_a_terminal(file):
    """Pipe mode to a terminal is refused before input is read."""
    screen, terminal = pty.openpty()
    ended = subprocess.run(
        [sys.executable, "-m", "drawwell", "check", "-p", file(GOOD)],
        stdout=terminal,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(terminal)
    os.close(screen)

    assert ended.returncode == 10
    assert b"standard output is a terminal" in ended.stderr


def test_progress_is_drawn_on_a_terminal_and_erased(file, monkeypatch):
    """The progress of a long input is erased before the summary."""
    screen, terminal = pty.openpty()
    monkeypatch.setattr(check_verb, "PROGRESS_S", 0)
    monkeypatch.setenv("TERM", "vt100")
    with open(terminal, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        main(["check", file(GOOD[:30_004])])
    shown = b""
    with contextlib.suppress(OSError):  # EIO: all output has been read
        while piece := os.read(screen, 100_000):
            shown += piece
    os.close(screen)

    assert b"check: 29.3KiB of 29.3KiB (100%), " in shown
    assert b"0 of 12 blocks failed" in shown
    assert shown.rpartition(b"\x1b[K")[2].startswith(b"rngtest: entropy source exhausted!")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_prints_the_summary_so_far(number):
    """Ctrl-C during endless input prints the counts, with their exit code."""
    process = subprocess.Popen(
        [sys.executable, "-m", "drawwell", "check", "-b", "4"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin
    assert process.stderr
    process.stdin.write(GOOD[:10_004])
    process.stdin.flush()
    while b"run time" not in process.stderr.readline():
        pass
    process.send_signal(number)
    printed = process.stderr.read()
    process.stdin.close()
    process.stderr.close()

    assert process.wait() == 0
    assert b"rngtest: FIPS 140-2 successes: 4\n" in printed


@pytest.fixture
def asked(monkeypatch):
    """Run a source "stick" behind the control socket; return its requests."""
    questions = []

    def call(_args, verb, arguments):
        if arguments["source"] != "stick":
            raise SourceUnavailable("no source runs here", hint="Running sources: stick.")
        questions.append((verb, arguments["verb"], arguments["args"]["bytes"]))
        noise = random.Random(len(questions)).randbytes(arguments["args"]["bytes"])
        return {"data": base64.b64encode(noise).decode()}

    monkeypatch.setattr(control, "call", call)
    return questions


def test_a_source_is_judged_by_its_conditioned_bytes(asked, capfd):
    """source:NAME tests exactly the needed bytes, after conditioning."""
    assert main(["check", "source:stick", "-c", "30"]) == 0

    assert {question[:2] for question in asked} == {("source.command", "sample")}
    assert sum(n_bytes for _, _, n_bytes in asked) == 4 + 30 * 2500
    assert max(n_bytes for _, _, n_bytes in asked) <= 32_768
    printed = capfd.readouterr().err
    assert "testing conditioned bytes of source stick, because raw noise" in printed


def test_a_source_without_a_count_is_judged_by_a_hundred_blocks(asked, capfd):
    """A source never ends, so the number of blocks is limited."""
    assert main(["check", "--json", "source:stick"]) == 0

    assert json.loads(capfd.readouterr().out)["blocks"] == 100


@pytest.mark.usefixtures("asked")
def test_an_unknown_source_is_refused_with_the_known_names(capfd):
    """A wrong NAME is an error with a hint, not a verdict."""
    assert main(["check", "source:other"]) == 69

    assert "drawwell: hint: Running sources: stick." in capfd.readouterr().err


def test_the_config_option_of_other_verbs_keeps_its_short_form():
    """Only `check` uses -c for the block count."""
    from drawwell.cli.parser import build_parser

    assert build_parser().parse_args(["check", "-c", "5"]).blockcount == 5
    assert build_parser().parse_args(["status", "-c", "x"]).config == "x"
