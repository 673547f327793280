"""What ``drawwell check`` reads: a file, a pipe, or conditioned bytes of a running source."""

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
"""Asked for at a time: under the 32 KiB that a running source hands out at once."""


class CannotOpen(UsageError):
    """The input cannot be opened; the exit code is rngtest's for an operating system error."""

    exit_code = EXIT_OS


class Input(Protocol):
    """Where the bytes come from."""

    words: str
    """What it is, for people."""
    size_bytes: int | None
    """How much there will be, when that is known."""

    def read(self, max_bytes: int) -> bytes:
        """Wait for bytes and return what there is; nothing at the end.

        Raises:
            OSError: the input failed.
        """

    def close(self) -> None:
        """Let go of it."""


class FileInput:
    """A file, a device, a pipe; ``-`` is standard input."""

    def __init__(self, path: str) -> None:
        self.words = "standard input" if path == "-" else path
        try:
            self._fd = 0 if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            status = os.fstat(self._fd)
        except OSError as error:
            raise CannotOpen(
                f"cannot open {self.words}: {error.strerror}", hint="Name a file that you may read."
            ) from None
        self.size_bytes = status.st_size if stat.S_ISREG(status.st_mode) else None

    def read(self, max_bytes: int) -> bytes:
        """Read as `Input.read`; also from a descriptor that somebody made non-blocking."""
        while True:
            try:
                return os.read(self._fd, max_bytes)
            except BlockingIOError:
                select.select([self._fd], [], [])

    def close(self) -> None:
        """Close what was opened here."""
        if self._fd:
            os.close(self._fd)


class SourceInput:
    """Conditioned bytes of one running source, made for this and given to nobody else."""

    size_bytes: int | None = None

    def __init__(self, name: str, args: argparse.Namespace) -> None:
        self.words = f"conditioned bytes of source {name}"
        self._name = name
        self._args = args

    def read(self, max_bytes: int) -> bytes:
        """Have the running source make them.

        Raises:
            LinkUnavailable: no broker runs here.
            SourceUnavailable: no source of that name, or it is not healthy.
        """
        from drawwell.cli.client import call

        wanted = {"bytes": min(max_bytes, SAMPLE_BLOCKS * BLOCK_BYTES)}
        reply = call(self._args, "source.command", {"source": self._name, "verb": "sample", "args": wanted})
        return base64.b64decode(reply["data"])

    def close(self) -> None:
        """Nothing is held open."""
