"""A shell in a guest, over its second serial line."""

import base64
import itertools
import re
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from drawwell.testing.waiting import DEADLINE_S, LOOK_EVERY_S

COMMAND_S: Final = DEADLINE_S
"""Default time limit of a command; a loaded machine is slow."""
_PIECE_BYTES: Final = 4096
"""Most bytes sent at once: a serial line has no flow control, only a 4,096-byte buffer."""


@dataclass(frozen=True)
class Ran:
    """The result of a command: exit status, and stdout with stderr."""

    status: int
    output: str

    def __bool__(self) -> bool:
        return self.status == 0


class GuestFailed(AssertionError):
    """The guest failed to do something, or was too slow."""


class Console:
    """The lab's agent at QEMU's Unix socket; not safe for concurrent calls."""

    def __init__(self, path: Path | str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._buffer = b""
        self._numbers = itertools.count()

    def close(self) -> None:
        """Close the connection; the guest keeps running."""
        self._socket.close()

    def wait_ready(self, within_s: float) -> None:
        """Wait for the agent's message, sent once, that it is ready."""
        self._until(rb"LAB-AGENT-READY\n", within_s, "the guest's agent came")

    def run(self, command: str, *, within_s: float = COMMAND_S) -> Ran:
        """Run sh code in the agent's shell, which keeps its state.

        Raises:
            GuestFailed: it timed out, or the guest is gone.
        """
        mark = self._send(command)
        found = self._until(mark + rb" (\d+)\n", within_s, f"the guest ran: {command}")
        return Ran(int(found[1]), found.string[: found.start()].decode(errors="replace"))

    def check(self, command: str, *, within_s: float = COMMAND_S) -> str:
        """Run a command and return its output, stripped.

        Raises:
            GuestFailed: as `run`, or its exit status is not 0.
        """
        ran = self.run(command, within_s=within_s)
        if ran.status:
            raise GuestFailed(f"{command}: exit status {ran.status}: {ran.output[-2000:]}")
        return ran.output.strip()

    def until(self, command: str, *, within_s: float = COMMAND_S) -> str:
        """Repeat a command until its exit status is 0; return its output.

        Raises:
            GuestFailed: it never was 0.
        """
        deadline = time.monotonic() + within_s
        while not (ran := self.run(command, within_s=within_s)):
            if time.monotonic() > deadline:
                raise GuestFailed(f"never succeeded: {command}: {ran.output[-2000:]}")
            time.sleep(LOOK_EVERY_S)
        return ran.output.strip()

    def read(self, command: str, *, within_s: float = COMMAND_S) -> bytes:
        """Run a command and return its exact output.

        Raises:
            GuestFailed: as `check`.
        """
        return base64.b64decode(self.check(f"{{ {command}\n}} | base64", within_s=within_s))

    def put(self, path: str, content: bytes) -> None:
        """Write a file in the guest, at about 25 to 70 kB/s.

        Raises:
            GuestFailed: as `check`.
        """
        self.check(f": > '{path}'")
        for at in range(0, len(content), _PIECE_BYTES):
            piece = content[at : at + _PIECE_BYTES]
            mark = self._send(f"echo PUT; head -c {len(piece)} <&9 >> '{path}'")
            self._until(rb"PUT\n", COMMAND_S, f"the guest took {path}")
            self._socket.sendall(piece)
            self._until(mark + rb" 0\n", COMMAND_S, f"the guest took {path}")

    def _send(self, command: str) -> bytes:
        mark = f"lab-{id(self):x}-{next(self._numbers)}"
        self._socket.sendall(f"{mark} {base64.b64encode(command.encode()).decode()}\n".encode())
        return mark.encode()

    def _until(self, pattern: bytes, within_s: float, what: str) -> re.Match[bytes]:
        deadline = time.monotonic() + within_s
        while not (found := re.search(pattern, self._buffer)):
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                raise GuestFailed(f"never happened: {what}; last output: {self._buffer[-1000:]!r}") from None
            if not data:
                raise GuestFailed(f"the guest ended before {what}; last output: {self._buffer[-1000:]!r}")
            self._buffer += data
        self._buffer = self._buffer[found.end() :]
        return found
