"""Ownership of files, checked before use as sshd and sudo do.

A path is only as trustworthy as the directories and links that lead to it. Each must belong to
root or to this process's user, and no other user may have write permission. A directory with
the sticky bit may be shared, because other users cannot replace our files in it (inode(7)).
"""

import grp
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from drawwell.errors import PermissionRefused

_MOST_LINKS: Final = 40
"""The number of symbolic links that the kernel follows (path_resolution(7))."""


def require_ours(path: str, *, secret: bool = False, alone: bool = False) -> None:
    """Check that only root and this process's user control `path`.

    If the path does not exist yet, only the directories that lead to it are checked.

    Args:
        path: A file or directory.
        secret: Also require that users outside the file's group cannot read it.
        alone: Also require that other users cannot create files in it, even with a sticky bit.

    Raises:
        PermissionRefused: another user controls it; the hint has a command that fixes this.
    """
    us = os.geteuid()
    place, found = "/", os.lstat("/")
    for place, found in _way(path):
        if found.st_uid not in {0, us}:
            raise _foreign(place, found, us)
        if _others_write(found) and not (stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX):
            raise _writable(place, found)
    if not os.path.lexists(path):
        return
    if alone and _others_write(found):
        raise _writable(place, found)
    if secret and stat.S_ISREG(found.st_mode) and found.st_mode & stat.S_IROTH:
        raise PermissionRefused(
            f"every user can read {place}, which is secret", hint=f"Run 'chmod o-r {place}'."
        )


def make_directory(path: str, mode: int = 0o700) -> None:
    """Create a directory and its missing parents below a path that is ours.

    Raises:
        PermissionRefused: a parent belongs to another user, or other users can write to it.
        OSError: the directory cannot be created, or the path is not a directory.
    """
    require_ours(path)
    missing = []
    while not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(os.path.abspath(path))
    for each in reversed(missing):
        with suppress(FileExistsError):
            os.mkdir(each, mode)
        require_ours(each)
    if not os.path.isdir(missing[0] if missing else path):
        raise NotADirectoryError(20, "not a directory", path)


@contextmanager
def rights_of_owner(path: str) -> Iterator[None]:
    """As root, act as the first other user who owns a part of `path`.

    Even if that user then changes the path, the user gains no additional rights.

    Raises:
        PermissionRefused: root owns all of it, but other users can write to a part.
    """
    owner = _first_stranger(path) if os.geteuid() == 0 else None
    if owner is None:
        if os.geteuid() == 0:
            require_ours(path)
        yield
        return
    with acting_as(owner.st_uid, owner.st_gid):
        yield


@contextmanager
def acting_as(uid: int, gid: int) -> Iterator[None]:
    """Act as a user instead of root; `gid` is for users without an account."""
    group, groups = os.getegid(), os.getgroups()
    theirs = [gid]
    with suppress(KeyError):
        user = pwd.getpwuid(uid)
        gid, theirs = user.pw_gid, os.getgrouplist(user.pw_name, user.pw_gid)
    try:
        os.setgroups(theirs)
        os.setegid(gid)
        os.seteuid(uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def _first_stranger(path: str) -> os.stat_result | None:
    """Return the first part of `path` that root does not own, or None."""
    return next((found for _, found in _way(path) if found.st_uid != 0), None)


def _way(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield each existing directory and link that leads to `path`, and `path`."""
    place, links = "/", 0
    ahead = os.path.join(os.getcwd(), path).split("/")[::-1]
    yield place, os.lstat(place)
    while ahead:
        name = ahead.pop()
        if name == "..":
            place = os.path.dirname(place)
        if name in {"", ".", ".."}:
            continue
        step = os.path.join(place, name)
        try:
            found = os.lstat(step)
        except OSError:  # missing or inaccessible
            return
        yield step, found
        if not stat.S_ISLNK(found.st_mode):
            place = step
            continue
        target, links = os.readlink(step), links + 1
        if links > _MOST_LINKS:
            return
        place = "/" if target.startswith("/") else place
        ahead += target.split("/")[::-1]


def _others_write(found: os.stat_result) -> bool:
    """Return whether another user can write to a file or directory."""
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        return False
    group = bool(found.st_mode & stat.S_IWGRP) and not _is_private(found.st_gid)
    return group or bool(found.st_mode & stat.S_IWOTH)


def _is_private(gid: int) -> bool:
    """Return whether only root and this process's user are in a group."""
    if gid == 0:
        return True
    if gid not in {os.getegid(), *os.getgroups()}:
        return False
    members = {user.pw_uid for user in pwd.getpwall() if user.pw_gid == gid}
    with suppress(KeyError):
        names = grp.getgrgid(gid).gr_mem
        members |= {user.pw_uid for user in pwd.getpwall() if user.pw_name in names}
    return members <= {0, os.geteuid()}


def _foreign(place: str, found: os.stat_result, us: int) -> PermissionRefused:
    owner, option = _user(found.st_uid), "-h " if stat.S_ISLNK(found.st_mode) else ""
    return PermissionRefused(
        f"{place} belongs to {owner}, not to {_user(us)} or root",
        hint=f"Run 'chown {option}{user_name(us)} {place}' if it should be yours, or run drawwell as {owner}.",
    )


def _writable(place: str, found: os.stat_result) -> PermissionRefused:
    others = bool(found.st_mode & stat.S_IWOTH)
    who = "every user" if others else f"group {group_name(found.st_gid)}"
    return PermissionRefused(
        f"{who} can write to {place}", hint=f"Run 'chmod {'o' if others else 'g'}-w {place}'."
    )


def _user(uid: int) -> str:
    return f"user {name}" if not (name := user_name(uid)).isdigit() else f"user ID {uid}"


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
