"""What systemd hands a service that it manages, and what the service tells it.

sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3), sd_pid_notify_with_fds(3). Where nothing manages this process,
nothing was handed over and nobody is told.
"""

import os
import socket
from collections.abc import MutableMapping
from typing import Final

_FIRST_DESCRIPTOR: Final = 3
"""SD_LISTEN_FDS_START, sd-daemon.h."""
_SEND_DEADLINE_S: Final = 2.0
_NAME_CHARACTERS: Final = 255
"""The most of a descriptor's name (sd_pid_notify_with_fds(3)); printable ASCII without a colon."""


class Manager:
    """Whoever started this process, if it speaks systemd's protocols.

    Args:
        environ: What it said. It is taken out, so that no child of ours believes itself to be meant.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._address = environ.pop("NOTIFY_SOCKET", "")
        self.watchdog_s = _watchdog_s(environ)
        """How long it lets this process be silent before it kills it; None for ever."""
        self._inherited = _descriptors(environ)

    @property
    def listens(self) -> bool:
        """Is anybody told what is notified?"""
        return bool(self._address)

    @property
    def names(self) -> frozenset[str]:
        """The names of what was handed over and not taken yet."""
        return frozenset(self._inherited)

    def notify(self, **fields: str) -> bool:
        """Tell it (``READY="1"``, ``STATUS="…"``); False when nobody listens."""
        return self._send(fields, ())

    def inherited(self, name: str) -> list[socket.socket]:
        """Take the sockets of that name (FileDescriptorName= of a socket unit, or as stored), each to be had once.

        They do not block, and are not handed on to children. What is no socket is closed.
        """
        found = (_as_socket(fd) for fd in self._inherited.pop(name, ()))
        return [sock for sock in found if sock is not None]

    def opened(self, name: str) -> list[int]:
        """Take whatever was opened for us under that name (ListenSpecial=, ListenNetlink=), as it is."""
        return self._inherited.pop(name, [])

    def store(self, name: str, fd: int) -> bool:
        """Have a copy of the descriptor kept for this service's next life, until its other end closes.

        The unit needs FileDescriptorStoreMax=. Returns as `notify`.

        Raises:
            ValueError: no name for a descriptor.
        """
        return self._send({"FDSTORE": "1", "FDNAME": _checked(name)}, (fd,))

    def forget(self, name: str) -> bool:
        """Have every stored descriptor of that name dropped; returns and raises as `store`."""
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
                return False  # it has gone, and took with it whoever would want to know
        return True


def _checked(name: str) -> str:
    if (
        not name
        or len(name) > _NAME_CHARACTERS
        or ":" in name
        or not name.isascii()
        or not name.isprintable()
    ):
        raise ValueError("the name of a descriptor is 1 to 255 printable characters of ASCII without a colon")
    return name


def _watchdog_s(environ: MutableMapping[str, str]) -> float | None:
    microseconds, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or pid not in {"", str(os.getpid())}:
        return None
    return int(microseconds) / 1e6 or None


def _descriptors(environ: MutableMapping[str, str]) -> dict[str, list[int]]:
    """Find what was handed over, by name; an unnamed one is called ``unknown``, as sd_listen_fds(3) has it."""
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
