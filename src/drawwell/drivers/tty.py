"""A raw terminal that nobody else has: opened, locked, read and written with bounded waits.

Echo must be off before the first byte arrives: with it, noise goes back to the device and is obeyed when it
happens to spell a command.
"""

import asyncio
import errno
import fcntl
import os
import select
import struct
import termios
from contextlib import suppress
from typing import Final, Self

from drawwell.errors import SourceRejected, SourceUnavailable
from drawwell.host.holders import holders, holders_words
from drawwell.service.readiness import readable, writable

BUFFER_BYTES: Final = 4096
"""What the kernel's line discipline holds for a reader."""
_WRITE_LIMIT_S: Final = 1.0
_IFLAG, _OFLAG, _CFLAG, _LFLAG, _ISPEED, _OSPEED, _CC = range(7)
_PTY_MAJORS: Final = range(136, 144)  # Linux Documentation/admin-guide/devices.txt: Unix98 pty slaves
_TIOCM_DTR: Final = struct.pack("I", termios.TIOCM_DTR)


class Tty:
    """An open terminal. Made by `open`; not for concurrent calls."""

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self.path = path

    @classmethod
    def open(cls, path: str) -> Self:
        """Open, lock and set raw; DTR is up from here until `close`.

        Raises:
            SourceUnavailable: not there, not permitted, or somebody else has it; the cause is the OSError.
            SourceRejected: not a terminal.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise _cannot_open(path, error) from error
        try:
            _claim(fd, path)
            _set_raw(fd)
        except BaseException:
            _let_go(fd)
            raise
        return cls(fd, path)

    @property
    def is_pty(self) -> bool:
        """Is it a pseudo-terminal, with a program at its other end and no device?"""
        return _is_pty(self._fd)

    async def read(self, max_bytes: int, wait_s: float) -> bytes:
        """Return 1 to `max_bytes` bytes, or none when none came within `wait_s` (0: is there now).

        Raises:
            SourceUnavailable: unplugged.
        """
        data = self._read_now(max_bytes)
        if data is None and wait_s > 0 and await readable(self._fd, wait_s):
            data = self._read_now(max_bytes)
        return data or b""

    async def write(self, data: bytes) -> None:
        """Write all of `data`.

        Raises:
            SourceUnavailable: unplugged, or it takes no bytes.
        """
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                if not await writable(self._fd, _WRITE_LIMIT_S):
                    raise SourceUnavailable(f"{self.path} takes no commands", hint=_REPLUG) from None
            except OSError as error:
                raise _gone(self.path) from error

    async def drain(self, *, quiet_s: float, limit_s: float) -> int:
        """Throw away what arrives until nothing did for `quiet_s`; return how many bytes that were.

        Raises:
            SourceUnavailable: unplugged, or it did not become quiet within `limit_s`.
        """
        loop, dropped = asyncio.get_running_loop(), 0
        deadline = loop.time() + limit_s
        while data := await self.read(BUFFER_BYTES, quiet_s):
            dropped += len(data)
            if loop.time() > deadline:
                raise SourceUnavailable(f"{self.path} does not stop sending when told to", hint=_REPLUG)
        self.flush_input()
        return dropped

    def require_present(self) -> None:
        """Look whether it is still there, and read nothing.

        Raises:
            SourceUnavailable: unplugged.
        """
        look = select.poll()
        look.register(self._fd, 0)  # a hang-up is told whatever was asked for
        if look.poll(0):
            raise _gone(self.path)

    def flush_input(self) -> None:
        """Drop what the kernel holds for us.

        Raises:
            SourceUnavailable: unplugged.
        """
        try:
            termios.tcflush(self._fd, termios.TCIFLUSH)
        except (OSError, termios.error) as error:
            raise _gone(self.path) from error

    def set_speed(self, speed: int) -> None:
        """Set the line's speed, as termios has it: ``termios.B110``.

        Raises:
            SourceUnavailable: unplugged, or it has no such speed.
        """
        try:
            attributes = termios.tcgetattr(self._fd)
            attributes[_ISPEED] = attributes[_OSPEED] = speed
            termios.tcsetattr(self._fd, termios.TCSANOW, attributes)
        except (OSError, termios.error) as error:
            raise _gone(self.path) from error

    def close(self) -> None:
        """Let go of it; the kernel drops DTR. Never raises."""
        _let_go(self._fd)

    def _read_now(self, max_bytes: int) -> bytes | None:
        try:
            data = os.read(self._fd, max_bytes)
        except BlockingIOError:
            return None
        except OSError as error:
            raise _gone(self.path) from error
        if not data:
            raise _gone(self.path)
        return data


_REPLUG: Final = "Pull it out and plug it in again; use another port if that does not help."


def _cannot_open(path: str, error: OSError) -> SourceUnavailable:
    if error.errno in {errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.EIO}:
        return SourceUnavailable(
            f"{path} is not there", hint="Plug the device in, or type 'drawwell doctor'."
        )
    if error.errno == errno.EBUSY:
        return _busy(path)
    if isinstance(error, PermissionError):
        return SourceUnavailable(
            f"no permission to open {path}",
            hint=f"Run drawwell as root, or as a user in the group of {path}.",
        )
    return SourceUnavailable(f"cannot open {path}: {error.strerror}", hint="Type 'drawwell doctor'.")


def _busy(path: str) -> SourceUnavailable:
    return SourceUnavailable(
        f"{path} is held open by {holders_words(holders(path))}",
        hint="Stop it first: two readers share the noise between them, and neither knows what it misses.",
    )


def _gone(path: str) -> SourceUnavailable:
    return SourceUnavailable(f"{path} was unplugged", hint="Plug it in again.")


def _claim(fd: int, path: str) -> None:
    """Take the terminal for us alone: against those who lock (flock), those who come (TIOCEXCL), those who came.

    TIOCEXCL outlives a killed holder on a pseudo-terminal, whose other end stays open; flock has to do there.
    """
    if not os.isatty(fd):
        raise SourceRejected(
            f"{path} is not a terminal", hint="Name the device's node, such as /dev/ttyACM0."
        )
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_pty(fd):
            fcntl.ioctl(fd, termios.TIOCEXCL)
    except BlockingIOError as error:
        raise _busy(path) from error
    except OSError as error:
        raise _gone(path) from error
    if holders(path):
        raise _busy(path)


def _is_pty(fd: int) -> bool:
    return os.major(os.fstat(fd).st_rdev) in _PTY_MAJORS


def _let_go(fd: int) -> None:
    with suppress(OSError):
        fcntl.ioctl(fd, termios.TIOCNXCL)
    with suppress(OSError):
        os.close(fd)


def _set_raw(fd: int) -> None:
    """Raw, no echo, no flow control, modem lines ignored; HUPCL and so the fate of DTR at close as it was."""
    try:
        attributes = termios.tcgetattr(fd)
        for flags in (_IFLAG, _OFLAG, _LFLAG):
            attributes[flags] = 0
        kept = attributes[_CFLAG] & ~(termios.CSIZE | termios.PARENB | termios.CRTSCTS)
        attributes[_CFLAG] = kept | termios.CS8 | termios.CREAD | termios.CLOCAL
        attributes[_CC][termios.VMIN], attributes[_CC][termios.VTIME] = 1, 0
        termios.tcsetattr(fd, termios.TCSANOW, attributes)
        with suppress(OSError):  # a pseudo-terminal has no DTR line
            fcntl.ioctl(fd, termios.TIOCMBIS, _TIOCM_DTR)
        termios.tcflush(fd, termios.TCIOFLUSH)
    except (OSError, termios.error) as error:
        raise SourceUnavailable(
            "the terminal went away while it was set up", hint="Plug it in again."
        ) from error
