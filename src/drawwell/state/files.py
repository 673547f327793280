"""Files of state: private, read whole, replaced whole."""

import os
from typing import Final

from drawwell.errors import StateUnavailable

LIMIT_BYTES: Final = 1 << 20


def make_private_directory(path: str) -> None:
    """Make a directory of mode 0700, and what leads to it, unless it is there; a new one is its parent's owner's.

    Raises:
        StateUnavailable: it cannot be made, or something else is there.
    """
    try:
        new = not os.path.lexists(path)
        os.makedirs(path, mode=0o700, exist_ok=True)
        if new:
            give_to_owner_of(os.path.dirname(os.path.abspath(path)), path)
    except OSError as error:
        raise _unavailable(path, error) from error


def make_new_directory(path: str) -> None:
    """Make a directory of mode 0700 that was not there: what somebody else laid there is not taken for ours.

    Raises:
        StateUnavailable: it cannot be made, or something is there.
    """
    try:
        os.mkdir(path, 0o700)
    except OSError as error:
        raise _unavailable(path, error) from error


def read_file(path: str) -> bytes:
    """Read a file of at most `LIMIT_BYTES`.

    Raises:
        StateUnavailable: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read(LIMIT_BYTES)
    except OSError as error:
        raise _unavailable(path, error) from error


def replace_file(path: str, data: bytes, mode: int = 0o600) -> None:
    """Write a file so that a crash leaves the old one or the new one, whole and on disk.

    Raises:
        StateUnavailable: it could not be written; the old one is untouched.
    """
    new = f"{path}.new"
    try:
        with open(new, "wb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, mode)) as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
        sync_directory(os.path.dirname(path))
    except OSError as error:
        raise _unavailable(path, error) from error


def give_to_owner_of(parent: str, directory: str) -> None:
    """As root, who works here for the service's user, give `directory` and the files in it to whom `parent` belongs.

    Raises:
        OSError: we may not.
    """
    owner = os.stat(parent)
    if os.geteuid() == 0 and owner.st_uid != 0:
        for path in (*(entry.path for entry in os.scandir(directory)), directory):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


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
