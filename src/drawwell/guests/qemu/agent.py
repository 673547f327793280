"""Runs programs in a machine with the QEMU guest agent (qemu-ga-ref(7)).

The guest can send anything, so the agent's answers are limited and checked. A program's input
is sent as `input-data`, never on a command line.
"""

import base64
import binascii
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

from drawwell.errors import GuestUnavailable, RemoteProtocolError
from drawwell.guests.model import GuestCommandResult
from drawwell.guests.qemu.qmp import Lines

MAX_OUTPUT_BYTES: Final = 1 << 20
_MAX_ERRORS: Final = 2000
_ANSWER_S: Final = 20.0
_FIRST_LOOK_S: Final = 0.02
_LAST_LOOK_S: Final = 0.5

Ask = Callable[[str, dict[str, Any], float], Any]
"""Sends a command with arguments and a timeout in seconds; returns the agent's answer.

Raises GuestUnavailable if the agent does not answer, or refuses.
"""


class Agent:
    """An `Inside`."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    @classmethod
    def at_socket(cls, path: str) -> Self:
        """Return the agent at a plain QEMU's socket."""
        return cls(lambda command, arguments, within_s: _ask_socket(path, command, arguments, within_s))

    def ping(self, within_s: float = _ANSWER_S) -> None:
        """Check that the agent answers.

        Raises:
            GuestUnavailable: the agent does not answer.
        """
        self._ask("guest-ping", {}, within_s)

    def run(self, argv: list[str], *, stdin: bytes = b"", timeout_s: float = 30.0) -> GuestCommandResult:
        """Run a program; a timeout does not end it; see `Inside`."""
        deadline = time.monotonic() + timeout_s
        started = self._ask("guest-exec", _order(argv, stdin), min(timeout_s, _ANSWER_S))
        pid = _number(started.get("pid")) if isinstance(started, dict) else None
        if pid is None:
            raise _nonsense("it started a program but returned no process ID")
        wait_s = _FIRST_LOOK_S
        while True:
            state = self._ask("guest-exec-status", {"pid": pid}, _ANSWER_S)
            if not isinstance(state, dict) or not isinstance(state.get("exited"), bool):
                raise _nonsense("it does not report whether a program has exited")
            if state["exited"]:
                return _outcome(state)
            if time.monotonic() + wait_s > deadline:
                raise GuestUnavailable(
                    f"{argv[0]} did not finish within {timeout_s:g} s in the guest",
                    hint="Check what the program waits for, or increase the timeout.",
                )
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, _LAST_LOOK_S)


def _order(argv: list[str], stdin: bytes) -> dict[str, Any]:
    order: dict[str, Any] = {"path": argv[0], "arg": argv[1:], "capture-output": True}
    if stdin:
        order["input-data"] = base64.b64encode(stdin).decode()
    return order


def _outcome(state: dict[str, Any]) -> GuestCommandResult:
    signal, status = _number(state.get("signal")), _number(state.get("exitcode"))
    if signal is not None:
        status = 128 + signal
    if status is None:
        raise _nonsense("a program exited without a status")
    if state.get("out-truncated"):
        raise _nonsense("a program's output is too long")
    errors = _decoded(state.get("err-data", ""))[-_MAX_ERRORS:].decode(errors="replace")
    return GuestCommandResult(status, _decoded(state.get("out-data", "")), errors)


def _decoded(text: object) -> bytes:
    if not isinstance(text, str) or len(text) > MAX_OUTPUT_BYTES * 4 // 3 + 4:
        raise _nonsense("a program's output is not a string, or is too long")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _nonsense("a program's output is not base64") from None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31 else None


def _nonsense(why: str) -> GuestUnavailable:
    return GuestUnavailable(
        f"the guest's agent sent an invalid answer: {why}",
        hint="The agent is broken, or another program in the guest answers. Check the guest.",
    )


@contextmanager
def _blaming_the_guest() -> Iterator[None]:
    """Convert a protocol error into an error of the guest's agent."""
    try:
        yield
    except RemoteProtocolError as error:
        raise _nonsense(str(error)) from error


def _ask_socket(path: str, command: str, arguments: dict[str, Any], within_s: float) -> Any:
    deadline = time.monotonic() + within_s
    mark = time.monotonic_ns() % (1 << 31)
    with _blaming_the_guest(), Lines(path) as lines:
        lines.send({"execute": "guest-sync-delimited", "arguments": {"id": mark}}, prefix=b"\xff")
        while lines.receive(deadline).get("return") != mark:
            pass  # an answer for a previous client
        lines.send({"execute": command, **({"arguments": arguments} if arguments else {})})
        return returned(command, lines.receive(deadline))


def returned(command: str, answer: dict[str, Any]) -> Any:
    """Return the value in an answer from the agent.

    Raises:
        GuestUnavailable: the agent refused.
    """
    if "return" in answer:
        return answer["return"]
    error = answer.get("error")
    reason = error.get("desc") if isinstance(error, dict) else None
    shown = reason[:200] if isinstance(reason, str) and reason.isprintable() else "no readable reason"
    raise GuestUnavailable(
        f"the guest's agent refused {command}: {shown}",
        hint="Allow guest-exec and guest-exec-status in the guest's /etc/qemu/qemu-ga.conf.",
    )
