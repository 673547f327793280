"""Detect that this machine was cloned or restored from a snapshot.

The kernel's VM generation ID driver then reseeds the kernel's generator (Linux 5.18). It
announces this with a line in the kernel's log, and in some versions (6.8) with a uevent. Both
channels are read. Neither can be forged: netlink identifies the kernel as the sender, and only
the kernel writes log records with its own facility.
"""

import asyncio
import errno
import os
import socket
import stat
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

UEVENT: Final = b"NEW_VMGENID=1"
"""drivers/virt/vmgenid.c."""
LOG_LINE: Final = b"random: crng reseeded due to virtual machine fork"
"""add_vmfork_randomness() in drivers/char/random.c."""
KERNEL_LOG: Final = "/dev/kmsg"

_NETLINK_KOBJECT_UEVENT: Final = 15  # linux/netlink.h
_KERNEL_GROUP: Final = 1  # group 2 is udev's, for programs
_KERNEL: Final = 0  # the kernel's port, netlink(7)
_RECEIVE_BUFFER_BYTES: Final = 1 << 20
_RECORD_BYTES: Final = 8192  # the largest record of /dev/kmsg


def announces_copy(message: bytes, sender: int) -> bool:
    """Return whether a uevent from netlink port `sender` announces a copy."""
    return sender == _KERNEL and UEVENT in message.split(b"\0")[1:]


def logs_copy(record: bytes) -> bool:
    """Return whether a kernel record from /dev/kmsg announces a copy."""
    prefix, _, text = record.partition(b";")
    priority = prefix.partition(b",")[0]
    is_kernels = priority.isdigit() and int(priority) >> 3 == 0
    return is_kernels and text.partition(b"\n")[0] == LOG_LINE


class Generations:
    """Watches for copies of this machine until cancelled, if permitted.

    Args:
        copied: Called when this machine may be a copy, and when messages were lost.
        opened: A netlink socket and the kernel's log, opened by a privileged process. This
            object closes them.
    """

    def __init__(self, copied: Callable[[], None], opened: Sequence[int] = ()) -> None:
        self.deaf = True
        """Whether neither channel can be read."""
        self.events: Counter[str] = Counter()
        """The number of announcements by channel."""
        self.ready = asyncio.Event()
        self._copied = copied
        self._opened_uevents = next((fd for fd in opened if _is_socket(fd)), None)
        self._opened_log = next((fd for fd in opened if not _is_socket(fd)), None)

    @property
    def copies(self) -> int:
        """The number of detected copies; both channels may announce the same copy."""
        return max(self.events.values(), default=0)

    async def listen(self) -> None:
        """Read both channels, if they can be opened."""
        loop = asyncio.get_running_loop()
        ears: list[tuple[int, Callable[[], object]]] = []
        try:
            if uevents := _open_uevents(self._opened_uevents):
                ears.append((uevents.fileno(), uevents.close))
                loop.add_reader(uevents, self._read, "uevent", lambda: announces_copy(*_received(uevents)))
            if (log := _open_log(self._opened_log)) is not None:
                ears.append((log, lambda: os.close(log)))
                loop.add_reader(log, self._read, "kernel log", lambda: logs_copy(os.read(log, _RECORD_BYTES)))
            self.deaf = not ears
            self.ready.set()
            await asyncio.Event().wait()
        finally:
            for fd, close in ears:
                loop.remove_reader(fd)
                close()

    def _read(self, ear: str, listen: Callable[[], bool]) -> None:
        """Read all messages; a lost message may have been an announcement."""
        copied = False
        try:
            while True:
                copied |= self._take(listen)
        except BlockingIOError:
            pass
        if copied:
            self.events[ear] += 1
            self._copied()

    @staticmethod
    def _take(listen: Callable[[], bool]) -> bool:
        try:
            return listen()
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno in {errno.ENOBUFS, errno.EPIPE}:  # netlink(7); dev-kmsg: records were overwritten
                return True
            raise BlockingIOError from error


def _received(uevents: socket.socket) -> tuple[bytes, int]:
    message, (sender, _groups) = uevents.recvfrom(_RECORD_BYTES)
    return message, sender


def _is_socket(fd: int) -> bool:
    return stat.S_ISSOCK(os.fstat(fd).st_mode)


def _open_uevents(opened: int | None) -> socket.socket | None:
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    if opened is not None:
        uevents = socket.socket(fileno=opened)
        uevents.setblocking(False)
        return uevents
    try:
        uevents = socket.socket(socket.AF_NETLINK, kind, _NETLINK_KOBJECT_UEVENT)
    except OSError:
        return None
    try:
        uevents.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        uevents.bind((0, _KERNEL_GROUP))
    except OSError:
        uevents.close()
        return None
    return uevents


def _open_log(log: int | None) -> int | None:
    """Return the kernel's log, opened at its end unless given; None if denied."""
    try:
        if log is None:
            log = os.open(KERNEL_LOG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        os.set_blocking(log, False)  # the service manager passes it in blocking mode (systemd.socket(5))
        os.lseek(log, 0, os.SEEK_END)
    except OSError:
        os.close(log)
        return None
    return log
