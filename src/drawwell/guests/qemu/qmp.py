"""QEMU's machine protocol: a line of JSON each way, on a Unix socket (docs/interop/qmp-spec.txt of QEMU).

The guest agent speaks the same without greeting and events. What QEMU says is bounded, and parses or raises: a process
of some user may sit behind the socket.
"""

import json
import socket
import struct
import time
from typing import Any, Final, Self

from drawwell.errors import GuestUnavailable, PermissionRefused, RemoteProtocolError

MAX_LINE_BYTES: Final = 4 << 20
ANSWER_S: Final = 10.0
_MAX_EVENTS: Final = 1000


class QmpError(GuestUnavailable):
    """QEMU answered a command with an error."""


class Lines:
    """One JSON object a line, over a Unix socket.

    Raises:
        GuestUnavailable: nobody listens there, or does not answer in time, or hangs up.
        PermissionRefused: this user may not connect.
        RemoteProtocolError: what comes is no JSON object, or too long.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._buffer = bytearray()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(ANSWER_S)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise _unreachable(path, error) from error

    @property
    def peer_pid(self) -> int:
        """The process that listens there (SO_PEERCRED, unix(7))."""
        return int(struct.unpack("3i", self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up."""
        self._socket.close()

    def say(self, document: dict[str, Any], prefix: bytes = b"") -> None:
        """Send one object."""
        try:
            self._socket.sendall(prefix + json.dumps(document).encode() + b"\n")
        except OSError as error:
            raise _unreachable(self._path, error) from error

    def hear(self, deadline: float) -> dict[str, Any]:
        """Return the next object; `deadline` is a time of `time.monotonic`, also for a peer that says other things."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > MAX_LINE_BYTES:
                raise self._nonsense("a line has no end")
            self._receive(deadline)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            document = json.loads(line.lstrip(b"\xff"))
        except (ValueError, RecursionError) as error:
            raise self._nonsense("a line is no JSON") from error
        if not isinstance(document, dict):
            raise self._nonsense("a line is no object")
        return document

    def _receive(self, deadline: float) -> None:
        left_s = deadline - time.monotonic()
        try:
            self._socket.settimeout(max(left_s, 0.001))
            data = self._socket.recv(65536) if left_s > 0 else None
        except TimeoutError:
            data = None
        except OSError as error:
            raise _unreachable(self._path, error) from error
        if data is None:
            raise GuestUnavailable(
                f"no answer on {self._path}",
                hint="It serves one at a time: is another program connected to it?",
            )
        if not data:
            raise GuestUnavailable(f"{self._path} was closed", hint="Does the machine still run?")
        self._buffer += data

    def _nonsense(self, why: str) -> RemoteProtocolError:
        return RemoteProtocolError(
            f"what is said on {self._path} is not QEMU's protocol: {why}",
            hint="Name the socket that QEMU made.",
        )


def _unreachable(path: str, error: OSError) -> GuestUnavailable | PermissionRefused:
    words = f"cannot reach {path}: {(error.strerror or str(error)).lower()}"
    if isinstance(error, PermissionError):
        return PermissionRefused(words, hint="Ask as root, or as the user who runs the machine.")
    return GuestUnavailable(
        words, hint="Start the machine; QEMU makes it with '-qmp unix:PATH,server=on,wait=off'."
    )


class Monitor:
    """A QMP session. `with` it: QEMU talks to one client at a time."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lines = Lines(path)
        self._events: list[dict[str, Any]] = []
        try:
            greeting = self._lines.hear(time.monotonic() + ANSWER_S)
            self.version = _version(greeting)
            self.execute("qmp_capabilities")
        except BaseException:
            self._lines.__exit__()
            raise

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up."""
        self._lines.__exit__()

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run a command; return what it returns.

        Raises:
            Refusal: QEMU says no.
            GuestUnavailable: it does not answer.
            RemoteProtocolError: it answers something else.
        """
        self._lines.say({"execute": command, **({"arguments": arguments} if arguments else {})})
        deadline = time.monotonic() + ANSWER_S
        while True:
            answer = self._lines.hear(deadline)
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise _refusal(command, answer["error"])
            self._keep(answer)

    @property
    def pid(self) -> int:
        """QEMU's process."""
        return self._lines.peer_pid

    def wait_for(self, event: str, device: str, within_s: float) -> bool:
        """Wait until QEMU tells that of a device; False when it does not in time."""
        deadline = time.monotonic() + within_s
        while True:
            for told in self._events:
                if told.get("event") == event and _device(told) == device:
                    return True
            self._events.clear()
            try:
                self._keep(self._lines.hear(deadline))
            except GuestUnavailable:
                if time.monotonic() >= deadline:
                    return False
                raise

    def _keep(self, told: dict[str, Any]) -> None:
        if len(self._events) < _MAX_EVENTS:
            self._events.append(told)


def _device(event: dict[str, Any]) -> object:
    data = event.get("data")
    return data.get("device") if isinstance(data, dict) else None


def _version(greeting: dict[str, Any]) -> tuple[int, int]:
    try:
        version = greeting["QMP"]["version"]["qemu"]
        return int(version["major"]), int(version["minor"])
    except (KeyError, TypeError, ValueError) as error:
        raise RemoteProtocolError(
            "the greeting is not QEMU's", hint="Name the socket of '-qmp', not that of '-monitor'."
        ) from error


def _refusal(command: str, error: object) -> QmpError:
    words = error.get("desc") if isinstance(error, dict) else None
    said = words[:200] if isinstance(words, str) and words.isprintable() else "for no reason that can be read"
    return QmpError(f"QEMU refuses {command}: {said}", hint="Compare with 'drawwell guest plan'.")
