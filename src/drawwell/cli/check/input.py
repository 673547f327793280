"""The input of ``drawwell check``: a file, a pipe or a running source."""

import argparse
import base64
import os
import select
import stat
from typing import Final, Protocol

from drawwell.assess.fips140.verdict import BLOCK_BYTES
from drawwell.errors import UsageError

EXIT_OS: Final = 12  # rngtest(1), "exit status"
SAMPLE_BLOCKS: Final = 12
"""The size of one request, below the 32 KiB limit of a running source."""


class CannotOpen(UsageError):
    """The input cannot be opened. The exit code is rngtest's for an OS error."""

    exit_code = EXIT_OS


class Input(Protocol):
    """An input to test."""

    title: str
    """The displayed name of the input."""
    size_bytes: int | None
    """The size of the input in bytes, if known."""

    def read(self, max_bytes: int) -> bytes:
        """Wait for bytes and return the available ones; return b"" at the end.

        Raises:
            OSError: the input cannot be read.
        """

    def close(self) -> None:
        """Close the input."""


class FileInput:
    """A file, a device or a pipe; ``-`` is standard input."""

    def __init__(self, path: str) -> None:
        self.title = "standard input" if path == "-" else path
        try:
            self._fd = 0 if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            status = os.fstat(self._fd)
        except OSError as error:
            raise CannotOpen(
                f"cannot open {self.title}: {error.strerror}", hint="Choose a file that you can read."
            ) from None
        self.size_bytes = status.st_size if stat.S_ISREG(status.st_mode) else None

    def read(self, max_bytes: int) -> bytes:
        """Read as `Input.read` does, even from a non-blocking file descriptor."""
        while True:
            try:
                return os.read(self._fd, max_bytes)
            except BlockingIOError:
                select.select([self._fd], [], [])

    def close(self) -> None:
        """Close the file, unless it is standard input."""
        if self._fd:
            os.close(self._fd)


class SourceInput:
    """Conditioned bytes from a running source, produced for this request only."""

    size_bytes: int | None = None

    def __init__(self, name: str, args: argparse.Namespace) -> None:
        self.title = f"conditioned bytes of source {name}"
        self._name = name
        self._args = args

    def read(self, max_bytes: int) -> bytes:
        """Request bytes from the running source.

        Raises:
            LinkUnavailable: no broker is running.
            SourceUnavailable: the source does not exist or is not healthy.
        """
        from drawwell.cli.client import call

        wanted = {"bytes": min(max_bytes, SAMPLE_BLOCKS * BLOCK_BYTES)}
        reply = call(self._args, "source.command", {"source": self._name, "verb": "sample", "args": wanted})
        return base64.b64decode(reply["data"])

    def close(self) -> None:
        """Do nothing, because no resource is open."""
