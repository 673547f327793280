"""What a broker needs of its machine: a directory for its sockets, and descriptors for its peers."""

import contextlib
import os
import resource
import stat

from drawwell.errors import PermissionRefused
from drawwell.ownership import make_directory

DESCRIPTORS = 12_288
"""For all but the sessions of the TLS door, and then some."""
_RUN_DIR_HINT = "Set run_dir in [broker] to a directory of your own."


def make_run_dir(path: str) -> None:
    """Make the directory of the sockets; others may enter that of root, where each socket has its own permissions.

    Raises:
        PermissionRefused: it cannot be made, or others could put their own sockets there.
    """
    try:
        make_directory(path, 0o755 if os.geteuid() == 0 else 0o700)
    except OSError as error:
        raise PermissionRefused(f"cannot make {path}: {error.strerror}", hint=_RUN_DIR_HINT) from None


def make_guest_directory(path: str) -> None:
    """Make the directory of one guest's socket, which everybody may pass: who may open the socket its own mode says.

    It stays ours, so that nobody else can lay anything there.

    Raises:
        PermissionRefused: it cannot be made, or somebody else made it.
    """
    for directory in (os.path.dirname(path), path):
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(directory, 0o711)
            found = os.lstat(directory)
        except OSError as error:
            raise PermissionRefused(
                f"cannot make {directory}: {error.strerror}", hint=_RUN_DIR_HINT
            ) from None
        if not _is_ours(found):
            raise PermissionRefused(
                f"{directory} is not a directory of the broker's own",
                hint=f"Look who made it, remove it, and add the guest again: ls -ld {directory}.",
            )
        os.chmod(directory, 0o711)  # noqa: S103 - to pass, and neither to list nor to write


def remove_guest_directory(path: str) -> None:
    """Remove a guest's directory with its socket, where it still is ours alone."""
    with contextlib.suppress(OSError):
        if _is_ours(os.lstat(path)):
            for name in os.listdir(path):
                os.unlink(os.path.join(path, name))
            os.rmdir(path)


def _is_ours(found: os.stat_result) -> bool:
    """Is it a directory in which nobody else lays anything?"""
    others_write = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(found.st_mode) and found.st_uid in {0, os.geteuid()} and not others_write


def allow_descriptors(wanted: int) -> None:
    """Take as many descriptors as the doors may need, or as we may have: the usual 1024 are used up by peers alone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
