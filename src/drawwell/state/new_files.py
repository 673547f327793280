"""New files that are either complete or absent."""

import os
from contextlib import suppress
from typing import BinaryIO, Final, Self

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class NewFiles:
    """New files of mode 0600, deleted at the end of the block unless kept.

    Args:
        paths: The paths of the files, which are created on entering the block.

    Raises:
        OSError: a file already exists or cannot be created; then none is created.
    """

    def __init__(self, *paths: str) -> None:
        self._paths = paths
        self._files: list[BinaryIO] = []
        self._kept = False

    def __enter__(self) -> Self:
        try:
            for path in self._paths:
                self._files.append(os.fdopen(os.open(path, _NEW, 0o600), "wb"))
        except OSError:
            self.__exit__()
            raise
        return self

    def write(self, *pieces: bytes) -> None:
        """Append one piece to each file, in the paths' order; can raise OSError."""
        for file, piece in zip(self._files, pieces, strict=True):
            file.write(piece)

    def keep(self) -> None:
        """Flush the files to disk and keep them; can raise OSError."""
        for file in self._files:
            file.flush()
            os.fsync(file.fileno())
        self._kept = True

    def __exit__(self, *_: object) -> None:
        for path, file in zip(self._paths, self._files, strict=False):
            with suppress(OSError):
                file.close()
            if not self._kept:
                os.unlink(path)
