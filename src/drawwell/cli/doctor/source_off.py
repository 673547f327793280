"""Finds out why a source is off, by opening the node as the source does."""

import os
import stat
from typing import Any, Final

from drawwell.config.defaults import SOURCE_USER
from drawwell.config.drivers import DRIVERS, ONERNG
from drawwell.drivers.permission import join_group, no_permission, refused_path
from drawwell.ownership import acting_as

_SYSTEMD: Final = "/run/systemd/system"
_RELOAD: Final = "systemctl reload drawwell-broker"
_DEV: Final = "/dev"


def cause(source: dict[str, Any]) -> tuple[str, str, str]:
    """Return why a source is off, a hint, and the next command or ""."""
    identity = source["identity"]
    name, kind, path = identity["name"], identity["kind"], identity["path"]
    why = str(source["last_error"])
    when_off = DRIVERS[kind].when_off if kind in DRIVERS else ""
    if os.path.isabs(path) and not os.path.exists(path):
        return f"{path} does not exist", when_off, ""
    if os.path.isabs(path) and (refused := _refused(path)):
        return refused, *_permission(name, path)
    if node := refused_path(why):
        return why, no_permission(node).hint or "", join_group(node)
    if kind in {*DRIVERS} - {ONERNG} and os.path.isdir(_SYSTEMD):
        hint = f"Update the source's unit with '{_RELOAD}'. If the source still fails, see "
        return why, f"{hint}'systemctl status drawwell-named@{name}'.", _RELOAD
    return why, when_off, ""


def try_to_open(path: str) -> str:
    """Open a node as a source does; return why that fails, or ""."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""


def _refused(path: str) -> str:
    """Return why the sources' user cannot open a node, or ""; needs root."""
    import pwd

    try:
        user = pwd.getpwnam(SOURCE_USER)
    except KeyError:
        return ""
    if os.geteuid() != 0 or not stat.S_ISCHR(os.stat(path).st_mode):
        return ""
    with acting_as(user.pw_uid, user.pw_gid):
        why = try_to_open(path)
    return f"user {SOURCE_USER} cannot open {path}: {why}" if why else ""


def _permission(name: str, path: str) -> tuple[str, str]:
    """Return a hint and a command for a node that the source may not open."""
    if os.stat(path).st_dev != os.stat(_DEV).st_dev:
        gid = os.stat(path).st_gid
        change = f"chgrp GROUP {path}; chmod g+rw {path}"
        hint = (
            f"The node belongs to the host and has group {gid}. On the host, run '{change}' with a group of "
        )
        return f"{hint}{SOURCE_USER}.", ""
    restart = f"systemctl restart drawwell-named@{name}"
    return f"Run '{restart}': the unit sets the permission when it starts.", restart
