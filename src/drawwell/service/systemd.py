"""The protocols between systemd and its services.

See sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3), sd_pid_notify_with_fds(3). Without
a service manager, no sockets are inherited, and notifications are dropped.
"""

import os
import socket
from collections.abc import MutableMapping
from typing import Final

_FIRST_DESCRIPTOR: Final = 3
"""SD_LISTEN_FDS_START, sd-daemon.h."""
_SEND_DEADLINE_S: Final = 2.0
_NAME_CHARACTERS: Final = 255
"""Maximum length of a descriptor name (sd_pid_notify_with_fds(3))."""


class Manager:
    """The service manager of this process, if it uses systemd's protocols.

    Args:
        environ: The environment. The manager's variables are removed, so no child uses them.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._address = environ.pop("NOTIFY_SOCKET", "")
        self.watchdog_s = _watchdog_s(environ)
        """The manager kills this process if it is silent for this long; None for no limit."""
        self._inherited = _descriptors(environ)

    @property
    def listens(self) -> bool:
        """Whether a manager receives our notifications."""
        return bool(self._address)

    @property
    def names(self) -> frozenset[str]:
        """The names of inherited descriptors that have not been taken yet."""
        return frozenset(self._inherited)

    def notify(self, **fields: str) -> bool:
        """Send fields (``READY="1"``, ``STATUS="…"``); False without a manager."""
        return self._send(fields, ())

    def inherited(self, name: str) -> list[socket.socket]:
        """Take the sockets with this name; each can be taken once.

        The name is from FileDescriptorName= in a socket unit, or from `store`. The sockets
        never block, and children do not inherit them. Other descriptors are closed.
        """
        found = (_as_socket(fd) for fd in self._inherited.pop(name, ()))
        return [sock for sock in found if sock is not None]

    def opened(self, name: str) -> list[int]:
        """Take non-socket descriptors (ListenSpecial=, ListenNetlink=) unchanged."""
        return self._inherited.pop(name, [])

    def store(self, name: str, fd: int) -> bool:
        """Store a copy of a descriptor for the next process of this service.

        The manager keeps it until its peer closes. The unit needs FileDescriptorStoreMax=.

        Raises:
            ValueError: the name is invalid.
        """
        return self._send({"FDSTORE": "1", "FDNAME": _checked(name)}, (fd,))

    def forget(self, name: str) -> bool:
        """Drop the stored descriptors with this name; see `store`."""
        return self._send({"FDSTOREREMOVE": "1", "FDNAME": _checked(name)}, ())

    def _send(self, fields: dict[str, str], descriptors: tuple[int, ...]) -> bool:
        if not self._address:
            return False
        text = "".join(f"{name}={' '.join(value.split())}\n" for name, value in fields.items())
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.settimeout(_SEND_DEADLINE_S)
            try:
                sock.connect(address)
                socket.send_fds(sock, [text.encode()], descriptors)
            except OSError:
                return False  # the manager is gone
        return True


def _checked(name: str) -> str:
    if (
        not name
        or len(name) > _NAME_CHARACTERS
        or ":" in name
        or not name.isascii()
        or not name.isprintable()
    ):
        raise ValueError("a descriptor name must have 1 to 255 printable ASCII characters and no colon")
    return name


def _watchdog_s(environ: MutableMapping[str, str]) -> float | None:
    microseconds, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or pid not in {"", str(os.getpid())}:
        return None
    return int(microseconds) / 1e6 or None


def _descriptors(environ: MutableMapping[str, str]) -> dict[str, list[int]]:
    """Return inherited descriptors by name; the default is ``unknown``."""
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    found: dict[str, list[int]] = {}
    if pid != str(os.getpid()) or not count.isdecimal():
        return found
    for index in range(int(count)):
        fd = _FIRST_DESCRIPTOR + index
        name = names[index] if index < len(names) else ""
        os.set_inheritable(fd, False)
        found.setdefault(name or "unknown", []).append(fd)
    return found


def _as_socket(fd: int) -> socket.socket | None:
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        os.close(fd)
        return None
    sock.setblocking(False)
    return sock
