"""Running a program inside a machine by the QEMU guest agent (qemu-ga-ref(7): guest-exec, guest-exec-status).

The agent answers for the guest, which may lie or send anything: what it says is bounded and parses, or raises
GuestUnavailable. What is handed to a program goes by `input-data`, and never onto a command line.
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
_MAX_WORDS: Final = 2000
_ANSWER_S: Final = 10.0
_FIRST_LOOK_S: Final = 0.02
_LAST_LOOK_S: Final = 0.5

Ask = Callable[[str, dict[str, Any], float], Any]
"""Asks a command with its arguments, waits for so many seconds at most, and returns what the agent returned.

It raises GuestUnavailable: no agent answers, or it refuses.
"""


class Agent:
    """An `Inside`."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    @classmethod
    def at_socket(cls, path: str) -> Self:
        """Return the agent at the socket of a QEMU that nobody manages."""
        return cls(lambda command, arguments, within_s: _ask_socket(path, command, arguments, within_s))

    def ping(self, within_s: float = _ANSWER_S) -> None:
        """Return when the agent is there.

        Raises:
            GuestUnavailable: it is not.
        """
        self._ask("guest-ping", {}, within_s)

    def run(self, argv: list[str], *, stdin: bytes = b"", timeout_s: float = 30.0) -> GuestCommandResult:
        """See `Inside`. A program that does not end in time goes on in the guest."""
        deadline = time.monotonic() + timeout_s
        started = self._ask("guest-exec", _order(argv, stdin), min(timeout_s, _ANSWER_S))
        pid = _number(started.get("pid")) if isinstance(started, dict) else None
        if pid is None:
            raise _nonsense("it started a program and does not say which")
        wait_s = _FIRST_LOOK_S
        while True:
            said = self._ask("guest-exec-status", {"pid": pid}, _ANSWER_S)
            if not isinstance(said, dict) or not isinstance(said.get("exited"), bool):
                raise _nonsense("it does not say whether a program has ended")
            if said["exited"]:
                return _outcome(said)
            if time.monotonic() + wait_s > deadline:
                raise GuestUnavailable(
                    f"{argv[0]} did not end within {timeout_s:g} s in the guest",
                    hint="Look there what it waits for, or allow more time.",
                )
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, _LAST_LOOK_S)


def _order(argv: list[str], stdin: bytes) -> dict[str, Any]:
    order: dict[str, Any] = {"path": argv[0], "arg": argv[1:], "capture-output": True}
    if stdin:
        order["input-data"] = base64.b64encode(stdin).decode()
    return order


def _outcome(said: dict[str, Any]) -> GuestCommandResult:
    signal, status = _number(said.get("signal")), _number(said.get("exitcode"))
    if signal is not None:
        status = 128 + signal
    if status is None:
        raise _nonsense("a program ended without a status")
    if said.get("out-truncated"):
        raise _nonsense("what a program wrote is too long")
    errors = _decoded(said.get("err-data", ""))[-_MAX_WORDS:].decode(errors="replace")
    return GuestCommandResult(status, _decoded(said.get("out-data", "")), errors)


def _decoded(text: object) -> bytes:
    if not isinstance(text, str) or len(text) > MAX_OUTPUT_BYTES * 4 // 3 + 4:
        raise _nonsense("what a program wrote is no text, or too long")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _nonsense("what a program wrote is no base64") from None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31 else None


def _nonsense(why: str) -> GuestUnavailable:
    return GuestUnavailable(
        f"the guest's agent answers nonsense: {why}",
        hint="Somebody in the guest answers in its place, or it is broken: look there.",
    )


@contextmanager
def _blaming_the_guest() -> Iterator[None]:
    """What is no protocol at QEMU's socket of an agent was said in the guest."""
    try:
        yield
    except RemoteProtocolError as error:
        raise _nonsense(str(error)) from error


def _ask_socket(path: str, command: str, arguments: dict[str, Any], within_s: float) -> Any:
    deadline = time.monotonic() + within_s
    mark = time.monotonic_ns() % (1 << 31)
    with _blaming_the_guest(), Lines(path) as lines:
        lines.say({"execute": "guest-sync-delimited", "arguments": {"id": mark}}, prefix=b"\xff")
        while lines.hear(deadline).get("return") != mark:
            pass  # an answer that somebody else did not wait for
        lines.say({"execute": command, **({"arguments": arguments} if arguments else {})})
        return returned(command, lines.hear(deadline))


def returned(command: str, answer: dict[str, Any]) -> Any:
    """Return what an answer of the agent's holds.

    Raises:
        GuestUnavailable: it is a refusal.
    """
    if "return" in answer:
        return answer["return"]
    error = answer.get("error")
    words = error.get("desc") if isinstance(error, dict) else None
    said = words[:200] if isinstance(words, str) and words.isprintable() else "for no reason that can be read"
    raise GuestUnavailable(
        f"the guest's agent refuses {command}: {said}",
        hint="Allow guest-exec and guest-exec-status in the guest's /etc/qemu/qemu-ga.conf, where they are blocked.",
    )
