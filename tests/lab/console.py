"""A shell in a guest, over its second serial line: what libvirt's guests and our own have alike."""

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
"""How long a command may take that says nothing else: a loaded machine is slow."""
_PIECE_BYTES: Final = 4096
"""What is put at once: a serial line has no flow control, and its buffer 4,096 bytes."""


@dataclass(frozen=True)
class Ran:
    """What a command in the guest gave: its exit status, and what it wrote (both of its outputs, as they came)."""

    status: int
    output: str

    def __bool__(self) -> bool:
        return self.status == 0


class GuestFailed(AssertionError):
    """The guest did not do as it was told, or not in time."""


class Console:
    """The lab's agent in a guest, at a Unix socket that QEMU listens at. Not safe for concurrent calls."""

    def __init__(self, path: Path | str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._buffer = b""
        self._numbers = itertools.count()

    def close(self) -> None:
        """Let go of it; the guest goes on."""
        self._socket.close()

    def wait_ready(self, within_s: float) -> None:
        """Wait until the agent says that it is there; it does so once, when it starts."""
        self._until(rb"LAB-AGENT-READY\n", within_s, "the guest's agent came")

    def run(self, command: str, *, within_s: float = COMMAND_S) -> Ran:
        """Run a piece of sh in the agent's own shell: variables, descriptors and the directory stay.

        Raises:
            GuestFailed: it did not end in time, or the guest is gone.
        """
        mark = self._say(command)
        found = self._until(mark + rb" (\d+)\n", within_s, f"the guest ran: {command}")
        return Ran(int(found[1]), found.string[: found.start()].decode(errors="replace"))

    def check(self, command: str, *, within_s: float = COMMAND_S) -> str:
        """Run it and return its output, stripped.

        Raises:
            GuestFailed: as `run`, or its exit status is not 0.
        """
        ran = self.run(command, within_s=within_s)
        if ran.status:
            raise GuestFailed(f"{command}: exit status {ran.status}: {ran.output[-2000:]}")
        return ran.output.strip()

    def until(self, command: str, *, within_s: float = COMMAND_S) -> str:
        """Run it again and again until its exit status is 0; return its output, stripped.

        Raises:
            GuestFailed: it never was.
        """
        deadline = time.monotonic() + within_s
        while not (ran := self.run(command, within_s=within_s)):
            if time.monotonic() > deadline:
                raise GuestFailed(f"never succeeded: {command}: {ran.output[-2000:]}")
            time.sleep(LOOK_EVERY_S)
        return ran.output.strip()

    def read(self, command: str, *, within_s: float = COMMAND_S) -> bytes:
        """Run it and return what it wrote, byte for byte.

        Raises:
            GuestFailed: as `check`.
        """
        return base64.b64decode(self.check(f"{{ {command}\n}} | base64", within_s=within_s))

    def put(self, path: str, content: bytes) -> None:
        """Write a file in the guest, some 25 to 70 kB/s.

        Raises:
            GuestFailed: as `check`.
        """
        self.check(f": > '{path}'")
        for at in range(0, len(content), _PIECE_BYTES):
            piece = content[at : at + _PIECE_BYTES]
            mark = self._say(f"echo PUT; head -c {len(piece)} <&9 >> '{path}'")
            self._until(rb"PUT\n", COMMAND_S, f"the guest took {path}")
            self._socket.sendall(piece)
            self._until(mark + rb" 0\n", COMMAND_S, f"the guest took {path}")

    def _say(self, command: str) -> bytes:
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
                raise GuestFailed(f"never happened: {what}; last words: {self._buffer[-1000:]!r}") from None
            if not data:
                raise GuestFailed(f"the guest ended before {what}; last words: {self._buffer[-1000:]!r}")
            self._buffer += data
        self._buffer = self._buffer[found.end() :]
        return found
