"""Somebody else's text files, edited: replaced whole, with their owner and mode, and a copy kept beside them.

In a user's own folder root acts with that user's rights: a link that he laid there leads to nothing but what he may
read and write himself.
"""

import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from drawwell.errors import ConfigError, GuestUnavailable, PermissionRefused
from drawwell.guests.model import Change
from drawwell.ownership import acting_as

_MOST_BYTES: Final = 1 << 20
BACKUP: Final = ".before-drawwell"


def read(path: str) -> str:
    """Return a file's text; bytes that are no UTF-8 come back as they are when it is written.

    Raises:
        GuestUnavailable: it is not there, or no file.
        PermissionRefused: not for this user.
        ConfigError: it is far too large for what it should be.
    """
    try:
        with _rights_for(path), open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            text = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise refused(path, error) from error
    if len(text) > _MOST_BYTES:
        raise ConfigError(f"{path} has more than {_MOST_BYTES} characters", hint="See what it is.")
    return text


def edit(path: str, old: str, new: str) -> list[Change]:
    """Write the new text where the old one was; a copy of the old one stays beside it, unless one is there.

    Raises:
        GuestUnavailable: it cannot be written; the old one is untouched.
        PermissionRefused: as `read`.
    """
    if new == old:
        return []
    keep = path + BACKUP
    changes = [] if os.path.lexists(keep) else [write(keep, old, like=path)]
    return [*changes, write(path, new, like=path)]


def restore(path: str, old: str, new: str) -> list[Change]:
    """Write the text without our part, and delete the copy, which was kept as long as our part was in."""
    changes = [] if new == old else [write(path, new, like=path)]
    return changes + delete(path + BACKUP)


def write(path: str, text: str, *, like: str = "", mode: int = 0o644) -> Change:
    """Make or replace a file; `like` is whose owner and mode it gets. A link is followed. Raises as `edit`."""
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
    """Make a file that is ours alone, unless it says this already; raises as `edit`."""
    try:
        if read(path) == text and stat.S_IMODE(os.stat(path).st_mode) == mode:
            return []
    except GuestUnavailable:
        with _rights_for(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
    return [write(path, text, mode=mode)]


def delete(path: str) -> list[Change]:
    """Delete a file that is ours; raises as `edit`."""
    try:
        with _rights_for(path):
            os.unlink(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise refused(path, error) from error
    return [Change("deleted", path)]


def delete_if(path: str, text: str) -> list[Change]:
    """Delete a file that says just this; raises as `edit`."""
    with suppress(GuestUnavailable):
        if read(path) == text:
            return delete(path)
    return []


def refused(path: str, error: OSError) -> GuestUnavailable | PermissionRefused:
    """Return what to raise when a file or a socket of the guests' software cannot be opened."""
    reason = (error.strerror or str(error)).lower()
    if isinstance(error, PermissionError):
        return PermissionRefused(
            f"{path}: {reason}",
            hint="Ask as root, or as the user whose guests these are; in his folder root does no more than he may.",
        )
    return GuestUnavailable(f"{path}: {reason}", hint="See that the guest exists and that its name is right.")


@contextmanager
def _rights_for(path: str) -> Iterator[None]:
    """Be the user in whose folder `path` is, where we are root; the process has one thread (cli)."""
    user = _user_of(path) if os.geteuid() == 0 else None
    if user is None:
        yield
        return
    with acting_as(user.pw_uid, user.pw_gid):
        yield


def _user_of(path: str) -> pwd.struct_passwd | None:
    """Return whose folder leads to `path`, as it is written or as it is; None where all are root's, or a container's.

    Who is root in a container is nobody out here, and the folder that is his out here is not to be seen in there.
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
