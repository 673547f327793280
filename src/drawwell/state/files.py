"""Private state files, accessed with the rights of the directory's owner."""

import os
from typing import Final

from drawwell.errors import StateUnavailable
from drawwell.ownership import make_directory, require_ours, rights_of_owner

LIMIT_BYTES: Final = 1 << 20


def make_private_directory(path: str) -> None:
    """Create a directory of mode 0700 and its parents, unless it exists.

    Raises:
        StateUnavailable: it cannot be created, or the path is not a directory.
        PermissionRefused: other users can change its parents (checked by most functions here).
    """
    try:
        with rights_of_owner(path):
            make_directory(path)
    except OSError as error:
        raise _unavailable(path, error) from error


def make_new_directory(path: str) -> None:
    """Create a new directory of mode 0700; never accept an existing one.

    Raises:
        StateUnavailable: it cannot be created, or the path already exists.
    """
    try:
        with rights_of_owner(path):
            os.mkdir(path, 0o700)
    except OSError as error:
        raise _unavailable(path, error) from error


def read_file(path: str) -> bytes:
    """Read a file of at most `LIMIT_BYTES`.

    Raises:
        StateUnavailable: the file cannot be read.
    """
    try:
        with rights_of_owner(path), open(path, "rb") as file:
            return file.read(LIMIT_BYTES)
    except OSError as error:
        raise _unavailable(path, error) from error


def read_secret(path: str) -> bytes:
    """Read a file that other users cannot read or change; see `read_file`."""
    with rights_of_owner(path):
        require_ours(path, secret=True)
        return read_file(path)


def replace_file(path: str, data: bytes, mode: int = 0o600) -> None:
    """Replace a file atomically: a crash leaves the old or the new version.

    Raises:
        StateUnavailable: the file cannot be written; the old one is unchanged.
    """
    try:
        with rights_of_owner(path):
            _replace(path, data, mode)
    except OSError as error:
        raise _unavailable(path, error) from error


def _replace(path: str, data: bytes, mode: int) -> None:
    new = f"{path}.new"
    with open(new, "wb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, mode)) as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
    sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    """Flush a directory to disk; raise OSError on failure."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _unavailable(path: str, error: OSError) -> StateUnavailable:
    reason = (error.strerror or str(error)).lower()
    return StateUnavailable(
        f"{path}: {reason}", hint=f"Check the permissions and the free space of {os.path.dirname(path)}."
    )
