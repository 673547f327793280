"""QEMU's machine protocol: JSON lines on a Unix socket (qmp-spec)."""

import json
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drawwell.testing.waiting import DEADLINE_S, LOOK_EVERY_S


class QmpError(Exception):
    """QEMU refused a command; the message is the reason."""


class Qmp:
    """A QMP monitor; not safe for concurrent calls."""

    def __init__(self, path: Path | str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(DEADLINE_S)
        _connect(self._socket, str(path))
        self._file = self._socket.makefile("rwb")
        self.events: list[dict[str, Any]] = []
        """The events received, oldest first."""
        self._read()
        self("qmp_capabilities")

    def __call__(self, command: str, /, **arguments: Any) -> Any:
        """Run a command; underscores in argument names stand for hyphens.

        Raises:
            QmpError: QEMU refused.
        """
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        return self.execute(command, named)

    def execute(self, command: str, arguments: Mapping[str, Any]) -> Any:
        """Run a command with its arguments' exact names."""
        self._file.write(json.dumps({"execute": command, "arguments": dict(arguments)}).encode() + b"\n")
        self._file.flush()
        while True:
            answer = self._read()
            if "error" in answer:
                raise QmpError(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def wait_event(self, name: str, within_s: float = DEADLINE_S, **data: Any) -> dict[str, Any]:
        """Wait for an event with this `data`; drop it and all earlier events."""
        deadline = time.monotonic() + within_s
        while True:
            for at, event in enumerate(self.events):
                if event["event"] == name and data.items() <= event.get("data", {}).items():
                    del self.events[: at + 1]
                    return event
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                self._read()
            finally:
                self._socket.settimeout(DEADLINE_S)

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self._socket.close()

    def _read(self) -> dict[str, Any]:
        line = self._file.readline()
        if not line:
            raise EOFError("QEMU ended")
        message: dict[str, Any] = json.loads(line)
        if "event" in message:
            self.events.append(message)
        return message


def _connect(sock: socket.socket, path: str) -> None:
    """Connect when QEMU listens; it creates the file slightly earlier."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return sock.connect(path)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(LOOK_EVERY_S)
