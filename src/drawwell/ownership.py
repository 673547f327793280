"""Ownership of files, checked before use as sshd and sudo do.

A path is as trustworthy as every directory and link that leads to it. Each must belong to root
or to this process's user, and no other user may write to it. A sticky directory may be shared,
because other users cannot replace what is ours in it (inode(7)).
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
"""As many symbolic links as the kernel follows (path_resolution(7))."""


def require_ours(path: str, *, secret: bool = False, alone: bool = False) -> None:
    """Check that only root and this process's user control `path`.

    For a path that does not exist yet, the directories that lead to it are checked.

    Args:
        path: A file or directory.
        secret: Other users must not be able to read it; its own group may.
        alone: Other users must not be able to make files in it, not even under the sticky bit.

    Raises:
        PermissionRefused: another user does; the hint is the command that corrects it.
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
            f"every user may read {place}, which is secret", hint=f"Type 'chmod o-r {place}'."
        )


def make_directory(path: str, mode: int = 0o700) -> None:
    """Make a directory and its parents, each in a directory that is ours.

    Raises:
        PermissionRefused: one belongs to another user, or other users may write to it.
        OSError: it cannot be made, or something else is there.
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

    Whatever those users do to the path meanwhile, they gain no right that they did not have.

    Raises:
        PermissionRefused: it is all root's, and other users may write to a directory of it.
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
    """Drop root's rights to a user's; `gid` is for a user without an account."""
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
    """Return the first part of `path` that is not root's, or None."""
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
        except OSError:  # missing, or out of our reach
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
    """Tell whether another user may write to a file or directory."""
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        return False
    group = bool(found.st_mode & stat.S_IWGRP) and not _is_private(found.st_gid)
    return group or bool(found.st_mode & stat.S_IWOTH)


def _is_private(gid: int) -> bool:
    """Tell whether a group is root's, or has this process's user alone."""
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
        f"{place} belongs to {owner}, so {_user(us)} does not use it",
        hint=f"Type 'chown {option}{_name(us)} {place}' if it is no other user's, or run as {owner}.",
    )


def _writable(place: str, found: os.stat_result) -> PermissionRefused:
    others = bool(found.st_mode & stat.S_IWOTH)
    who = "every user" if others else f"group {_group(found.st_gid)}"
    return PermissionRefused(
        f"{who} may write to {place}", hint=f"Type 'chmod {'o' if others else 'g'}-w {place}'."
    )


def _user(uid: int) -> str:
    """Name a user for an error."""
    return f"user {name}" if not (name := _name(uid)).isdigit() else f"user number {uid}"


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
