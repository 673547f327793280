"""Finds out why a source is off, by opening the node as the source does."""

import os
import stat
from typing import Any, Final

from drawwell.config.defaults import SOURCE_USER
from drawwell.config.drivers import DRIVERS, ONERNG
from drawwell.ownership import acting_as

_SYSTEMD: Final = "/run/systemd/system"
_DEV: Final = "/dev"


def cause(source: dict[str, Any]) -> tuple[str, str]:
    """Return why a source is off, and how to fix it."""
    identity = source["identity"]
    name, kind, path = identity["name"], identity["kind"], identity["path"]
    why = str(source["last_error"])
    if os.path.isabs(path) and not os.path.exists(path):
        return f"{path} does not exist", DRIVERS[kind].when_off if kind in DRIVERS else ""
    if os.path.isabs(path) and (refused := _refused(path)):
        return refused, _permission_hint(name, path)
    if kind in {*DRIVERS} - {ONERNG} and os.path.isdir(_SYSTEMD):
        return why, (
            "Update the source's unit with 'systemctl reload drawwell-broker'. If the source still fails, see "
            f"'systemctl status drawwell-named@{name}'."
        )
    return why, DRIVERS[kind].when_off if kind in DRIVERS else ""


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


def _permission_hint(name: str, path: str) -> str:
    if os.stat(path).st_dev != os.stat(_DEV).st_dev:
        gid = os.stat(path).st_gid
        return (
            f"The node belongs to the host and has group {gid}. On the host, run 'chgrp GROUP {path}; chmod g+rw "
            f"{path}' with a group of {SOURCE_USER}."
        )
    return f"Run 'systemctl restart drawwell-named@{name}': the unit sets the permission when it starts."
