"""Pure: check names and paths for other programs' configurations."""

import posixpath
import re
from typing import Final

from drawwell.errors import UsageError
from drawwell.guests.model import ATTACHMENTS, Guest, Piece, guest_directory

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)
_PATH: Final = re.compile(r"(/[A-Za-z0-9._@+:=-]+)+", re.ASCII)
INSIDE: Final = "/run/drawwell"
"""drawwell's default directory for a socket, so programs in a container find it there."""
NODE: Final = "/dev/ttyACM0"
"""The stick's name in a container, regardless of its number on the host."""
STICK: Final = "/dev/onerng"
"""A link to the stick's device node, created by `stick_rule`."""
ACM_MAJOR: Final = 166
"""Major number of the kernel's cdc_acm driver (Documentation/admin-guide/devices.txt)."""
ACM: Final = f"c {ACM_MAJOR}:*"
"""All cdc_acm terminals, for the device cgroup."""
DIALOUT: Final = 20
"""The group that owns serial ports in Debian and its derivatives."""


def container_name(guest: Guest) -> str:
    """Return the container's name.

    Raises:
        UsageError: the name is invalid, or containers do not support the attachment.
    """
    if guest.via not in ATTACHMENTS[guest.kind]:
        raise UsageError(
            f"{guest.kind} does not support --via {guest.via}",
            hint=f"Use --via {' or --via '.join(ATTACHMENTS[guest.kind])}.",
        )
    if not _NAME.fullmatch(guest.target):
        raise UsageError(
            f"{guest.target!r} is not a container name",
            hint="Use up to 63 letters, digits, '.', '_' and '-', starting with a letter or a digit.",
        )
    return guest.target


def plain_path(path: str, *, colon: bool = True) -> str:
    """Return a path that needs no quoting in any format.

    Raises:
        UsageError: the path is relative, or contains ".." or a character that needs quoting.
    """
    if not _PATH.fullmatch(path) or posixpath.normpath(path) != path or (":" in path and not colon):
        signs = "._@+:=-" if colon else "._@+=-"
        raise UsageError(
            f"the path {path!r} cannot be written safely into a container's configuration",
            hint=f"Use an absolute path of letters, digits and {signs}; a symbolic link works too.",
        )
    return path


def socket_directory(guest: Guest) -> str:
    """Return the directory to mount; a mounted socket could not be replaced.

    Raises:
        UsageError: the path cannot be written safely.
    """
    return plain_path(guest_directory(guest.run_dir, guest.name), colon=False)


def stick(guest: Guest, *, colon: bool = True) -> str:
    """Return the path of the stick: the given path, or the udev rule's link.

    Raises:
        UsageError: the path cannot be written safely.
    """
    path = guest.device or STICK
    if path.startswith("/dev/ttyACM"):
        raise UsageError(
            f"{path} is not a stable name: after replugging it may be another device",
            hint="Use the stick's link in /dev/serial/by-path, or omit the device if there is only one stick.",
        )
    return plain_path(path, colon=colon)


def stick_rule(uid: int | None = None) -> Piece:
    """Return the udev rule that makes `STICK`, owned by `uid` (udev(7))."""
    owner = "" if uid is None else f', OWNER="{uid}"'
    return Piece(
        "the stick's link",
        "/etc/udev/rules.d/79-drawwell-onerng.rules",
        'SUBSYSTEM=="tty", ATTRS{idVendor}=="1d50", ATTRS{idProduct}=="6086", '
        f'SYMLINK+="{posixpath.basename(STICK)}"{owner}\n',
    )


SHARED: Final = (
    "A container shares this machine's kernel: its getrandom, /dev/random and /dev/urandom are the host's, and a host "
    "that drawwell feeds also feeds every container. Most containers need nothing more."
)
DIRECT: Final = (
    "The socket is for programs that draw bytes from the hardware directly, with limits and receipts: "
    "'drawwell draw 32' in the container uses this host's broker and needs no configuration."
)
ONE_READER: Final = (
    "A stick has one reader. While the container reads the stick, neither drawwell on the host nor another container "
    "can. First stop the host's source for the stick. With the socket, one stick serves all containers."
)
