"""Run the transcripts of tests/cli/transcripts with the real program.

A transcript is text:

    # a comment
    $ drawwell config check good.toml && echo yes     a line for the shell
    > configuration is good (*)                       its standard output; * matches anything
    > ...                                             any number of lines
    2> drawwell: *                                    its standard error
    [78]                                              its exit code; 0 if there is none
    -- good.toml --                                   a file that exists before the first line

A command without ``>`` must print nothing on standard output.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from drawwell.testing.waiting import DEADLINE_S

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))


@dataclass
class Step:
    """A shell command and its expected result."""

    line: int
    command: str
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)
    code: int = 0


def parse(text: str) -> tuple[list[Step], dict[str, str]]:
    """Parse a transcript: its steps and its files."""
    script, *sections = re.split(r"^-- (\S+) --\n", text, flags=re.MULTILINE)
    files = dict(zip(sections[::2], sections[1::2], strict=True))
    steps: list[Step] = []
    for number, line in enumerate(script.splitlines(), 1):
        mark, _blank, rest = line.partition(" ")
        if mark == "$":
            steps.append(Step(number, rest))
        elif mark in {">", "2>"}:
            (steps[-1].out if mark == ">" else steps[-1].err).append(rest)
        elif exit_code := re.fullmatch(r"\[(\d+)\]", line):
            steps[-1].code = int(exit_code[1])
        elif line.strip() and mark != "#":
            raise ValueError(f"line {number} is neither command nor expectation: {line}")
    return steps, files


def mismatch(expected: list[str], actual: str) -> str:
    """Return a description of the difference, or ""."""
    patterns = [r"(?:.*\n)*?" if line == "..." else _pattern(line) + r"\n" for line in expected]
    if re.fullmatch("".join(patterns), actual if actual.endswith("\n") or not actual else f"{actual}\n"):
        return ""
    return "\n".join(
        [
            "expected:",
            *(f"  {line}" for line in expected),
            "actual:",
            *(f"  {line}" for line in actual.splitlines()),
        ]
    )


def _pattern(line: str) -> str:
    return ".*".join(re.escape(part) for part in line.split("*"))


def _environment(directory: Path) -> dict[str, str]:
    program = directory / "bin" / "drawwell"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m drawwell "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}:/usr/local/bin:/usr/bin:/bin"
    return {"PATH": path, "HOME": str(directory), "LANG": "C.UTF-8", "TERM": "dumb", "COLUMNS": "100"}


def _failures(step: Step, cwd: Path, environment: dict[str, str]) -> Iterator[str]:
    done = subprocess.run(
        ["bash", "-c", step.command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    if done.returncode != step.code:
        yield f"exit code {done.returncode}, expected {step.code}\n{done.stderr}"
    if text := mismatch(step.out, done.stdout):
        yield f"standard output, {text}"
    if text := mismatch(step.err, done.stderr):
        yield f"standard error, {text}"


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(transcript: Path, tmp_path: Path) -> None:
    """The output and exit code of every command match the transcript."""
    steps, files = parse(transcript.read_text())
    here = tmp_path / "here"
    here.mkdir()
    for name, content in files.items():
        (here / name).write_text(content)
        os.chmod(here / name, 0o644)
    environment = _environment(tmp_path)
    for step in steps:
        problems = "\n".join(_failures(step, here, environment))
        assert not problems, f"{transcript.name}:{step.line}: {step.command}\n{problems}"


def test_a_wrong_transcript_fails() -> None:
    """A missing, extra or different line fails; ``*`` and ``...`` match."""
    assert not mismatch([], "")
    assert not mismatch(["a [*] c", "...", "z"], "a [b] c\nx\ny\nz\n")
    assert mismatch([], "a\n")
    assert mismatch(["a"], "")
    assert mismatch(["a"], "a\nb\n")
    assert mismatch(["a", "...", "z"], "a\ny\n")
