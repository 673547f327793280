"""Files of state: private, read whole, replaced whole; as root, with the rights of the user whose directory it is."""

import os
from typing import Final

from drawwell.errors import StateUnavailable
from drawwell.ownership import make_directory, require_ours, rights_of_owner

LIMIT_BYTES: Final = 1 << 20


def make_private_directory(path: str) -> None:
    """Make a directory of mode 0700, and what leads to it, unless it exists.

    Raises:
        StateUnavailable: it cannot be made, or something else is there.
        PermissionRefused: others may change what leads to it, as for all functions here.
    """
    try:
        with rights_of_owner(path):
            make_directory(path)
    except OSError as error:
        raise _unavailable(path, error) from error


def make_new_directory(path: str) -> None:
    """Make a directory of mode 0700 that was not there: what somebody else laid there is not taken for ours.

    Raises:
        StateUnavailable: it cannot be made, or something is there.
    """
    try:
        with rights_of_owner(path):
            os.mkdir(path, 0o700)
    except OSError as error:
        raise _unavailable(path, error) from error


def read_file(path: str) -> bytes:
    """Read a file of at most `LIMIT_BYTES`.

    Raises:
        StateUnavailable: it cannot be read.
    """
    try:
        with rights_of_owner(path), open(path, "rb") as file:
            return file.read(LIMIT_BYTES)
    except OSError as error:
        raise _unavailable(path, error) from error


def read_secret(path: str) -> bytes:
    """Read a file that other users must be able neither to read nor to change; raises as `read_file`."""
    with rights_of_owner(path):
        require_ours(path, secret=True)
        return read_file(path)


def replace_file(path: str, data: bytes, mode: int = 0o600) -> None:
    """Write a file so that a crash leaves the old one or the new one, whole and on disk.

    Raises:
        StateUnavailable: it could not be written; the old one is untouched.
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
    """Bring a directory's names to disk; raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _unavailable(path: str, error: OSError) -> StateUnavailable:
    reason = (error.strerror or str(error)).lower()
    return StateUnavailable(
        f"{path}: {reason}", hint=f"Check {os.path.dirname(path)}: permissions and free space."
    )
