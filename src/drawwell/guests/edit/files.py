"""Edits other programs' text files: atomically, with mode and backup.

In a user's own directory, root acts with that user's rights. A symbolic link that the user
creates there can therefore reach only files that the user can read and write.
"""

import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from drawwell.errors import ConfigError, GuestUnavailable, PermissionRefused
from drawwell.guests.edit.block import Block, has_block, with_block, without_block
from drawwell.guests.model import Change
from drawwell.ownership import acting_as

_MOST_BYTES: Final = 1 << 20
BACKUP: Final = ".before-drawwell"


def read(path: str) -> str:
    """Return a file's text; invalid UTF-8 survives a later write.

    Raises:
        GuestUnavailable: the file is missing, or not a regular file.
        PermissionRefused: this user cannot read the file.
        ConfigError: the file is far too large for a configuration file.
    """
    try:
        with _rights_for(path), open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            text = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise refused(path, error) from error
    if len(text) > _MOST_BYTES:
        raise ConfigError(f"{path} has more than {_MOST_BYTES} characters", hint="Check the path.")
    return text


def put_block(path: str, old: str, block: Block) -> list[Change]:
    """Write a guest's block into the file; back up a file that had no block.

    Raises:
        ConfigError: the old block is damaged.
        GuestUnavailable: the file cannot be written; the old file is unchanged.
        PermissionRefused: this user cannot write the file.
    """
    new = with_block(old, block)
    if new == old:
        return []
    backup = [] if has_block(old, block.name) else [write(path + BACKUP, old, like=path)]
    return [*backup, write(path, new, like=path)]


def take_block(path: str, old: str, name: str) -> list[Change]:
    """Remove a guest's block and the backup; same errors as `put_block`."""
    new = without_block(old, name)
    changes = [] if new == old else [write(path, new, like=path)]
    return changes + delete(path + BACKUP)


def write(path: str, text: str, *, like: str = "", mode: int = 0o644) -> Change:
    """Write a file with `like`'s owner and mode; same errors as `put_block`."""
    with _rights_for(path):
        path = os.path.realpath(path)
        try:
            _replace(path, text, os.stat(like) if like else None, mode)
        except OSError as error:
            raise refused(path, error) from error
    return Change("wrote", path)


def _replace(path: str, text: str, model: os.stat_result | None, mode: int) -> None:
    new = f"{path}.new-drawwell"
    with suppress(FileNotFoundError):
        os.unlink(new)
    try:
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            file.write(text)
            if model:
                os.fchown(fd, model.st_uid, model.st_gid)
            os.fchmod(fd, stat.S_IMODE(model.st_mode) if model else mode)
            file.flush()
            os.fsync(fd)
        os.replace(new, path)
    except OSError:
        with suppress(OSError):
            os.unlink(new)
        raise


def whole(path: str, text: str, *, mode: int = 0o644) -> list[Change]:
    """Create our own file unless it is current; same errors as `put_block`."""
    try:
        if read(path) == text and stat.S_IMODE(os.stat(path).st_mode) == mode:
            return []
    except GuestUnavailable:
        with _rights_for(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
    return [write(path, text, mode=mode)]


def delete(path: str) -> list[Change]:
    """Delete one of our own files; same errors as `put_block`."""
    try:
        with _rights_for(path):
            os.unlink(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise refused(path, error) from error
    return [Change("deleted", path)]


def delete_if(path: str, text: str) -> list[Change]:
    """Delete a file that contains only this text; same errors as `put_block`."""
    with suppress(GuestUnavailable):
        if read(path) == text:
            return delete(path)
    return []


def refused(path: str, error: OSError) -> GuestUnavailable | PermissionRefused:
    """Return the exception for a file or socket that cannot be opened."""
    reason = (error.strerror or str(error)).lower()
    if isinstance(error, PermissionError):
        return PermissionRefused(
            f"{path}: {reason}",
            hint="Run this as the guest's owner or as root. In a user's directory, root acts as the owner.",
        )
    return GuestUnavailable(f"{path}: {reason}", hint="Check the guest's name, and that the guest exists.")


@contextmanager
def _rights_for(path: str) -> Iterator[None]:
    """As root, act as the directory's owner; the process has a single thread."""
    user = _user_of(path) if os.geteuid() == 0 else None
    if user is None:
        yield
        return
    with acting_as(user.pw_uid, user.pw_gid):
        yield


def _user_of(path: str) -> pwd.struct_passwd | None:
    """Return the user whose home contains `path`.

    Returns None for root, and for a container's root user, who has no account on the host.
    """
    for place in (os.path.abspath(path), os.path.realpath(path)):
        parents = []
        while (place := os.path.dirname(place)) != os.path.dirname(place):
            parents.append(place)
        for parent in reversed(parents):
            with suppress(OSError, KeyError):
                if owner := os.lstat(parent).st_uid:
                    return pwd.getpwuid(owner)
    return None
