"""The error for a device node that this user has no permission to open."""

import os
import stat
from typing import Final

from drawwell.errors import SourceUnavailable
from drawwell.ownership import group_name, user_name

_TEXT: Final = "no permission to open "


def no_permission(path: str) -> SourceUnavailable:
    """Create the error; its hint states how to get the permission."""
    join = join_group(path)
    group = f", or join the node's group with '{join}' and log in again" if join else ""
    return SourceUnavailable(
        f"{_TEXT}{path}",
        hint=f"Run drawwell as root{group}. With the package, the unit drawwell-named@NAME sets the permission.",
    )


def refused_path(error: str) -> str:
    """Return the path that `no_permission` put into an error, or ""."""
    return error.removeprefix(_TEXT) if error.startswith(_TEXT) else ""


def join_group(path: str) -> str:
    """Return the command that adds this user to a node's group, or ""."""
    try:
        found = os.stat(path)
    except OSError:
        return ""
    if not found.st_mode & stat.S_IRGRP or found.st_gid == 0:
        return ""
    user = user_name(os.geteuid()) if os.geteuid() else "USER"
    return f"usermod -aG {group_name(found.st_gid)} {user}"
