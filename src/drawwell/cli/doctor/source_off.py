"""Why a configured source is off: its node is opened as its process would."""

import os
import stat
from typing import Any, Final

from drawwell.config.defaults import SOURCE_USER
from drawwell.config.drivers import DRIVERS, ONERNG
from drawwell.ownership import acting_as

_SYSTEMD: Final = "/run/systemd/system"
_DEV: Final = "/dev"


def cause(source: dict[str, Any]) -> tuple[str, str]:
    """Return what prevents a reported source from running, and what to type."""
    identity = source["identity"]
    name, kind, path = identity["name"], identity["kind"], identity["path"]
    why = str(source["last_error"])
    if os.path.isabs(path) and not os.path.exists(path):
        return f"{path} is not there", DRIVERS[kind].when_off if kind in DRIVERS else ""
    if os.path.isabs(path) and (refused := _refused(path)):
        return refused, _permission_hint(name, path)
    if kind in {*DRIVERS} - {ONERNG} and os.path.isdir(_SYSTEMD):
        return why, (
            f"Have its unit follow the configuration: 'systemctl reload drawwell-broker'; then see why it ends: "
            f"'systemctl status drawwell-named@{name}'."
        )
    return why, DRIVERS[kind].when_off if kind in DRIVERS else ""


def try_to_open(path: str) -> str:
    """Open a node as a source does; return why that fails, "" if it works."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""


def _refused(path: str) -> str:
    """Return why the sources' own user may not open a node, as root."""
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
            f"It is the host's node, of group {gid}: there, type 'chgrp GROUP {path}; chmod g+rw {path}' with a group "
            f"of {SOURCE_USER}."
        )
    return f"Its unit takes that right when it starts: 'systemctl restart drawwell-named@{name}'."
