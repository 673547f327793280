"""QEMU's machine protocol: JSON lines on a Unix socket (qmp-spec.txt).

The guest agent uses this protocol too, without a greeting or events. The socket may belong to
any user's process, so its answers are limited and checked.
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
    """JSON objects, one per line, over a Unix socket.

    Raises:
        GuestUnavailable: nothing listens on the socket, or the peer times out or closes it.
        PermissionRefused: this user cannot connect.
        RemoteProtocolError: a line is too long, or is not a JSON object.
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
        """The process that listens on the socket (SO_PEERCRED, unix(7))."""
        return int(struct.unpack("3i", self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])

    def __enter__(self) -> Self:
        """Return the connection."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self._socket.close()

    def send(self, document: dict[str, Any], prefix: bytes = b"") -> None:
        """Send one object."""
        try:
            self._socket.sendall(prefix + json.dumps(document).encode() + b"\n")
        except OSError as error:
            raise _unreachable(self._path, error) from error

    def receive(self, deadline: float) -> dict[str, Any]:
        """Return the next object; time out at `deadline` (`time.monotonic`)."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > MAX_LINE_BYTES:
                raise self._nonsense("a line is too long")
            self._receive(deadline)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            document = json.loads(line.lstrip(b"\xff"))
        except (ValueError, RecursionError) as error:
            raise self._nonsense("a line is not JSON") from error
        if not isinstance(document, dict):
            raise self._nonsense("a line is not an object")
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
                hint="The socket serves one client at a time. Disconnect the other client, or add a second socket.",
            )
        if not data:
            raise GuestUnavailable(f"{self._path} was closed", hint="Check that the machine still runs.")
        self._buffer += data

    def _nonsense(self, why: str) -> RemoteProtocolError:
        return RemoteProtocolError(
            f"the peer on {self._path} does not use QEMU's protocol: {why}",
            hint="Use the socket that QEMU created.",
        )


def _unreachable(path: str, error: OSError) -> GuestUnavailable | PermissionRefused:
    message = f"cannot reach {path}: {(error.strerror or str(error)).lower()}"
    if isinstance(error, PermissionError):
        return PermissionRefused(message, hint="Run this as root, or as the user who runs the machine.")
    return GuestUnavailable(
        message, hint="Start the machine; QEMU creates the socket with '-qmp unix:PATH,server=on,wait=off'."
    )


class Monitor:
    """A QMP session (`with` statement); QEMU serves one client at a time."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lines = Lines(path)
        self._events: list[dict[str, Any]] = []
        try:
            greeting = self._lines.receive(time.monotonic() + ANSWER_S)
            self.version = _version(greeting)
            self.execute("qmp_capabilities")
        except BaseException:
            self._lines.__exit__()
            raise

    def __enter__(self) -> Self:
        """Return the session."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the session."""
        self._lines.__exit__()

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run a command and return its result.

        Raises:
            QmpError: QEMU refused the command.
            GuestUnavailable: QEMU does not answer.
            RemoteProtocolError: the answer is malformed.
        """
        self._lines.send({"execute": command, **({"arguments": arguments} if arguments else {})})
        deadline = time.monotonic() + ANSWER_S
        while True:
            answer = self._lines.receive(deadline)
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise _refusal(command, answer["error"])
            self._keep(answer)

    @property
    def pid(self) -> int:
        """The process ID of QEMU."""
        return self._lines.peer_pid

    def wait_for(self, event: str, device: str, within_s: float) -> bool:
        """Wait for an event of a device; return False on timeout."""
        deadline = time.monotonic() + within_s
        while True:
            for each in self._events:
                if each.get("event") == event and _device(each) == device:
                    return True
            self._events.clear()
            try:
                self._keep(self._lines.receive(deadline))
            except GuestUnavailable:
                if time.monotonic() >= deadline:
                    return False
                raise

    def _keep(self, event: dict[str, Any]) -> None:
        if len(self._events) < _MAX_EVENTS:
            self._events.append(event)


def _device(event: dict[str, Any]) -> object:
    data = event.get("data")
    return data.get("device") if isinstance(data, dict) else None


def _version(greeting: dict[str, Any]) -> tuple[int, int]:
    try:
        version = greeting["QMP"]["version"]["qemu"]
        return int(version["major"]), int(version["minor"])
    except (KeyError, TypeError, ValueError) as error:
        raise RemoteProtocolError(
            "the greeting is not QEMU's", hint="Use the socket of '-qmp', not of '-monitor'."
        ) from error


def _refusal(command: str, error: object) -> QmpError:
    reason = error.get("desc") if isinstance(error, dict) else None
    shown = reason[:200] if isinstance(reason, str) and reason.isprintable() else "no readable reason"
    return QmpError(f"QEMU refused {command}: {shown}", hint="Compare with 'drawwell guest plan'.")
