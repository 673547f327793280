"""The words of a container's plan: what may stand in a file or a command line of somebody else's format."""

import posixpath
import re
from typing import Final

from drawwell.errors import UsageError
from drawwell.guests.model import ATTACHMENTS, Guest, Piece, guest_directory

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)
_PATH: Final = re.compile(r"(/[A-Za-z0-9._@+:=-]+)+", re.ASCII)
INSIDE: Final = "/run/drawwell"
"""Where a container has its socket: the place where drawwell looks for one when nobody told it another."""
NODE: Final = "/dev/ttyACM0"
"""What the stick is called in a container, whatever its number is out here."""
STICK: Final = "/dev/onerng"
"""A link to the stick, made by the rule of `stick_rule`: it follows the stick from number to number."""
ACM_MAJOR: Final = 166
"""The ttys of the kernel's cdc_acm driver (Documentation/admin-guide/devices.txt)."""
ACM: Final = f"c {ACM_MAJOR}:*"
"""Every one of them, for the device cgroup."""
DIALOUT: Final = 20
"""The group of serial lines, in Debian and what comes of it."""


def container_name(guest: Guest) -> str:
    """Return what the container is called.

    Raises:
        UsageError: no container can be called that, or a container has no such way in.
    """
    if guest.via not in ATTACHMENTS[guest.kind]:
        raise UsageError(
            f"{guest.kind} has no way in called {guest.via}",
            hint=f"Say --via {' or --via '.join(ATTACHMENTS[guest.kind])}.",
        )
    if not _NAME.fullmatch(guest.target):
        raise UsageError(
            f"{guest.target!r} is no name of a container",
            hint="Use letters, digits, '.', '_' and '-', at most 63, and begin with a letter or a digit.",
        )
    return guest.target


def plain_path(path: str, *, colon: bool = True) -> str:
    """Return a path that stands in every format as it is.

    Raises:
        UsageError: it is relative, leads upwards, or has a character that some format gives a meaning.
    """
    if not _PATH.fullmatch(path) or posixpath.normpath(path) != path or (":" in path and not colon):
        signs = "._@+:=-" if colon else "._@+=-"
        raise UsageError(
            f"the path {path!r} cannot be written safely into a container's configuration",
            hint=f"Use an absolute path of letters, digits and {signs}; a link of such a name will do.",
        )
    return path


def socket_directory(guest: Guest) -> str:
    """Return the directory of a guest's socket: it is what is mounted, so that a socket made anew is seen again.

    Raises:
        UsageError: its path cannot be written.
    """
    return plain_path(guest_directory(guest.run_dir, guest.name), colon=False)


def stick(guest: Guest, *, colon: bool = True) -> str:
    """Return the path of the stick: the one that was named, or the link that a rule makes.

    Raises:
        UsageError: it cannot be written.
    """
    path = guest.device or STICK
    if path.startswith("/dev/ttyACM"):
        raise UsageError(
            f"{path} is a number and not a name: it may be another device tomorrow",
            hint="Name the stick by its link in /dev/serial/by-path, or name none when there is only one.",
        )
    return plain_path(path, colon=colon)


def stick_rule(uid: int | None = None) -> Piece:
    """Return the udev rule that makes `STICK`, and gives the stick to `uid` out here (udev(7))."""
    owner = "" if uid is None else f', OWNER="{uid}"'
    return Piece(
        "the stick's link",
        "/etc/udev/rules.d/79-drawwell-onerng.rules",
        'SUBSYSTEM=="tty", ATTRS{idVendor}=="1d50", ATTRS{idProduct}=="6086", '
        f'SYMLINK+="{posixpath.basename(STICK)}"{owner}\n',
    )


SHARED: Final = (
    "A container shares this machine's kernel: getrandom, /dev/random and /dev/urandom in it are the host's own, and "
    "a host that is fed by drawwell feeds every container with it. Most containers need nothing."
)
DIRECT: Final = (
    "The socket is for programs that want bytes drawn from the hardware itself, counted, limited and with a receipt: "
    "'drawwell draw 32' in the container asks this host's broker, and needs no configuration."
)
ONE_READER: Final = (
    "A stick has one reader. While the container reads it the host's own drawwell cannot, and no other container: end "
    "that source first. The socket serves all of them from one stick."
)
