"""What ``drawwell check`` reads: a file, a pipe, or conditioned bytes out of the running broker."""

import argparse
import asyncio
import os
import select
import stat
import time
from typing import Final, Protocol

from drawwell.assess.fips140 import BLOCK_BYTES
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import Refused, UsageError
from drawwell.ports import Upstream

EXIT_OS: Final = 12  # rngtest(1), "exit status"


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


class BrokerInput:
    """Conditioned bytes of the running broker: drawn, and so gone from it.

    Raises:
        UsageError: the broker has no source of that name.
    """

    size_bytes: int | None = None

    def __init__(self, name: str, args: argparse.Namespace) -> None:
        from drawwell.cli.control import upstream

        self._upstream: Upstream = upstream(args)
        self._runner = asyncio.Runner()
        status = self._runner.run(self._upstream.call("status", {}))
        names = [source["identity"]["name"] for source in status["sources"]]
        if name not in names:
            self.close()
            raise UsageError(
                f"the broker at {self._upstream.name} has no source {name!r}",
                hint=f"Its sources are: {', '.join(names) or 'none'}.",
            )
        self.words = f"conditioned bytes drawn from {self._upstream.name}, which source {name} feeds"

    def read(self, max_bytes: int) -> bytes:
        """Draw at most a block; when refused for a while, wait that long."""
        while True:
            try:
                draw = self._upstream.draw(min(max_bytes, BLOCK_BYTES), DrawClass.FULL)
                return self._runner.run(draw).data
            except Refused as refusal:
                if refusal.retry_after_s is None:
                    raise
                time.sleep(refusal.retry_after_s)

    def close(self) -> None:
        """Close the link."""
        self._runner.run(self._upstream.aclose())
        self._runner.close()
