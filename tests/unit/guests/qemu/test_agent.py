"""The guest agent: strictly parsed answers, no secrets in arguments."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.errors import GuestUnavailable, UsageError
from drawwell.guests.inside.reseed import reseed
from drawwell.guests.model import GuestCommandResult, GuestFinding, GuestVerdict, Inside
from drawwell.guests.qemu.agent import Agent
from drawwell.testing.waiting import DEADLINE_S

PLAIN = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=20) | st.binary(max_size=9).map(
    lambda data: base64.b64encode(data).decode()
)  # fmt: skip
ANSWERS = PLAIN | st.dictionaries(
    st.sampled_from(["pid", "exited", "exitcode", "signal", "out-data", "err-data", "out-truncated"]), PLAIN
)
FRESH = bytes(range(64))


def answering(*answers: Any) -> Agent:
    left = iter(answers)
    return Agent(lambda _command, _arguments, _within_s: next(left))


@given(started=ANSWERS, ended=ANSWERS)
def test_any_answer_of_the_agent_parses_or_is_refused(started: Any, ended: Any) -> None:
    """Any answer gives a status and bytes, or raises GuestUnavailable."""
    try:
        outcome = answering(started, ended).run(["true"], timeout_s=0)
    except GuestUnavailable:
        return
    assert (type(outcome.status), type(outcome.output), type(outcome.errors)) == (int, bytes, str)


def test_a_program_s_end_is_read() -> None:
    """The result has the status, the signal as in a shell, and both outputs."""
    text = base64.b64encode(b"\0hello").decode()
    ended = answering(
        {"pid": 3}, {"exited": False}, {"exited": True, "exitcode": 7, "out-data": text, "err-data": text}
    )
    assert ended.run(["x"]) == GuestCommandResult(7, b"\0hello", "\0hello")
    assert answering({"pid": 3}, {"exited": True, "signal": 9}).run(["x"]).status == 137


def test_standard_input_is_no_argument_of_the_program() -> None:
    """Standard input has its own field."""
    asked: list[Any] = []

    def ask(command: str, arguments: dict[str, Any], _within_s: float) -> Any:
        asked.append((command, arguments))
        return {"pid": 1} if command == "guest-exec" else {"exited": True, "exitcode": 0}

    Agent(ask).run(["sh", "-c", "cat"], stdin=FRESH)
    assert asked[0] == (
        "guest-exec",
        {
            "path": "sh",
            "arg": ["-c", "cat"],
            "capture-output": True,
            "input-data": base64.b64encode(FRESH).decode(),
        },
    )


class _Guest(Inside):
    def __init__(self, outcome: GuestCommandResult) -> None:
        self.outcome = outcome
        self.given: list[Any] = []

    def run(
        self, argv: list[str], *, stdin: bytes = b"", timeout_s: float = DEADLINE_S
    ) -> GuestCommandResult:
        self.given.append((argv, stdin, timeout_s))
        return self.outcome


def reseeded(status: int, errors: str = "") -> list[GuestFinding]:
    return reseed(_Guest(GuestCommandResult(status, b"", errors)), FRESH, 8.0)


def test_each_result_of_a_reseeding_has_its_findings() -> None:
    """Reseeded, only added, not added, and no interpreter."""
    verdicts = {status: [each.verdict for each in reseeded(status)] for status in (0, 4, 3, 9, 127)}
    fails, holds = GuestVerdict.FAILS, GuestVerdict.HOLDS
    assert verdicts == {0: [holds, holds], 4: [holds, fails], 3: [fails], 9: [fails], 127: [fails]}


def test_fresh_bytes_are_in_no_finding_and_on_no_command_line() -> None:
    """Fresh bytes are only passed through standard input."""
    inside = _Guest(GuestCommandResult(0, b""))
    findings = reseed(inside, FRESH, 8.0)
    ((argv, stdin, _),) = inside.given
    assert stdin == FRESH
    assert not any(FRESH.hex() in text or "\\x00\\x01" in text for text in (*argv, repr(findings)))


@pytest.mark.parametrize(("credit", "bits"), [(8.0, "256"), (2.0, "128"), (0.0, "0")])
def test_a_guests_kernel_is_credited_what_the_bytes_earned(credit: float, bits: str) -> None:
    """The credit is the result of `credit`, at most one pool."""
    inside = _Guest(GuestCommandResult(0, b""))
    reseed(inside, bytes(64), credit)
    assert inside.given[0][0][-1] == bits


@pytest.mark.parametrize("size", [0, 31, 513])
def test_too_few_bytes_or_too_many_are_refused(size: int) -> None:
    """Fewer than 32 bytes are too few to make two guests differ."""
    with pytest.raises(UsageError):
        reseed(_Guest(GuestCommandResult(0, b"")), bytes(size), 8.0)
