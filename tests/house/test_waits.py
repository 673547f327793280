"""Tests set no time limits of their own, which a busy machine exceeds."""

import re
from pathlib import Path

import pytest

from drawwell.testing.waiting import DEADLINE_S

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(
    path
    for folder in ("tests", "src/drawwell/testing")
    for path in (ROOT / folder).rglob("*.py")
    if path not in {Path(__file__), ROOT / "src/drawwell/testing/waiting.py"}
    and "virtual_time" not in path.read_text()  # its seconds are virtual
)
NUMBER = r"(\d[\d_]*\.?\d*)(?![\d.]| \*)"
WAIT = re.compile(
    rf"""(?: \b(?:timeout|settimeout|sleep|wait|create_connection)\((?:.*,\ )?{NUMBER}\)
           | (?:timeout|timeout_s|within_s|deadline_s|stall_s|patience_s)"?(?::\ float)?\ ?[:=]\ ?{NUMBER}
           | "--(?:timeout|wait)",\ "{NUMBER}(?:ms|s)"
           | ^\w+_S(?::\ Final)?\ =\ {NUMBER}$ )""",
    re.VERBOSE,
)
MARK = "# short: "
"""At the end of the line or above it, with the reason, such as a test of a time limit."""


def short_waits(text: str) -> list[str]:
    """Return lines that limit a wait below `DEADLINE_S` without a reason."""
    lines = text.splitlines()
    return [
        line.strip()
        for above, line in zip(["", *lines], lines, strict=False)
        if MARK not in f"{above}{line}"
        and any(0 < float(number) < DEADLINE_S for found in WAIT.findall(line) for number in found if number)
    ]


def test_no_test_waits_for_less_than_the_limit() -> None:
    """A test waits up to DEADLINE_S, unless the line has a reason."""
    found = {str(path.relative_to(ROOT)): short_waits(path.read_text()) for path in FILES}
    listed = [f"{name}: {line}" for name, lines in found.items() for line in lines]
    assert listed == [], f"wait for DEADLINE_S, or give the reason: '{MARK}reason'"


@pytest.mark.parametrize(
    "line",
    [
        "async with asyncio.timeout(20):",
        "peer.settimeout(0.5)",
        "subprocess.run(command, timeout=60, check=False)",
        "Limits(handshake_deadline_s=0.05)",
        'ask("guest.remove", {"name": "vm1", "timeout_s": 5})',
        'command("verify", "--timeout", "10s")',
        "PATIENCE_S = 20.0",
        "await asyncio.sleep(0.3)",
    ],
)
def test_a_short_wait_is_found(line: str) -> None:
    """Every form of time limit is found, unless it is marked."""
    assert short_waits(line) == [line]
    assert short_waits(f"{line}  {MARK}nothing arrives") == []


def test_a_long_wait_and_no_wait_are_allowed() -> None:
    """The limit, a longer wait and one iteration of the loop are allowed."""
    assert short_waits("sock.settimeout(DEADLINE_S)\nwait(900)\nsleep(0)\nYEAR_S = 365 * 86400.0") == []
