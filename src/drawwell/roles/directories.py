"""Directories for a broker's sockets, and its limit on descriptors."""

import contextlib
import os
import resource
import stat

from drawwell.errors import PermissionRefused
from drawwell.ownership import make_directory

DESCRIPTORS = 12_288
"""Enough for everything except the sessions at the TLS door."""
_RUN_DIR_HINT = "Set run_dir in [broker] to a directory of your own."


def make_run_dir(path: str) -> None:
    """Create the socket directory; if it is root's, anyone can enter it.

    Raises:
        PermissionRefused: it cannot be created, or other users could put sockets there.
    """
    try:
        make_directory(path, 0o755 if os.geteuid() == 0 else 0o700)
    except OSError as error:
        raise PermissionRefused(f"cannot create {path}: {error.strerror}", hint=_RUN_DIR_HINT) from None


def make_guest_directory(path: str) -> None:
    """Create the directory for one guest's socket; any user can enter it.

    The socket's mode decides who can connect. Only the broker can write to the directory.

    Raises:
        PermissionRefused: it cannot be created, or another user owns it.
    """
    for directory in (os.path.dirname(path), path):
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(directory, 0o711)
            found = os.lstat(directory)
        except OSError as error:
            raise PermissionRefused(
                f"cannot create {directory}: {error.strerror}", hint=_RUN_DIR_HINT
            ) from None
        if not _is_ours(found):
            raise PermissionRefused(
                f"{directory} does not belong to the broker alone",
                hint=f"Check its owner with 'ls -ld {directory}', remove it, and add the guest again.",
            )
        os.chmod(directory, 0o711)  # noqa: S103 - users can enter, but not list or write


def remove_guest_directory(path: str) -> None:
    """Remove a guest's directory and socket if only we can write there."""
    with contextlib.suppress(OSError):
        if _is_ours(os.lstat(path)):
            for name in os.listdir(path):
                os.unlink(os.path.join(path, name))
            os.rmdir(path)


def _is_ours(found: os.stat_result) -> bool:
    """Return whether a path is a directory that only we can write to."""
    others_write = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(found.st_mode) and found.st_uid in {0, os.geteuid()} and not others_write


def allow_descriptors(wanted: int) -> None:
    """Raise the descriptor limit to `wanted`, or to the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
