"""A raw, locked terminal with timeouts on reads and writes.

Echo must be off before the first byte arrives. Otherwise the terminal sends noise back to the
device, which would obey any noise that happens to be a command.
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

from drawwell.drivers.permission import no_permission
from drawwell.errors import SourceRejected, SourceUnavailable
from drawwell.host.holders import describe_holders, holders
from drawwell.service.readiness import readable, writable

BUFFER_BYTES: Final = 4096
"""Size of the buffer in the kernel's line discipline."""
_WRITE_LIMIT_S: Final = 1.0
_IFLAG, _OFLAG, _CFLAG, _LFLAG, _ISPEED, _OSPEED, _CC = range(7)
_PTY_MAJORS: Final = range(136, 144)  # Linux Documentation/admin-guide/devices.txt: Unix98 pty slaves
_TIOCM_DTR: Final = struct.pack("I", termios.TIOCM_DTR)


class Tty:
    """An open terminal, made by `open`; not for concurrent calls."""

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self.path = path

    @classmethod
    def open(cls, path: str) -> Self:
        """Open and lock the terminal in raw mode; DTR stays up until `close`.

        Raises:
            SourceUnavailable: the terminal is missing, unreadable or busy.
            SourceRejected: the path is not a terminal.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise _cannot_open(path, error) from error
        try:
            _claim(fd, path)
            _set_raw(fd)
        except BaseException:
            _release(fd)
            raise
        return cls(fd, path)

    @property
    def is_pty(self) -> bool:
        """Whether this is a pseudo-terminal, with a program instead of a device."""
        return _is_pty(self._fd)

    async def read(self, max_bytes: int, wait_s: float) -> bytes:
        """Return 1 to `max_bytes` bytes, or b"" after `wait_s` (0: no wait).

        Raises:
            SourceUnavailable: the device was unplugged.
        """
        data = self._read_now(max_bytes)
        if data is None and wait_s > 0 and await readable(self._fd, wait_s):
            data = self._read_now(max_bytes)
        return data or b""

    async def write(self, data: bytes) -> None:
        """Write all of `data`.

        Raises:
            SourceUnavailable: the device was unplugged, or accepts no bytes.
        """
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                if not await writable(self._fd, _WRITE_LIMIT_S):
                    raise SourceUnavailable(f"{self.path} accepts no commands", hint=_REPLUG) from None
            except OSError as error:
                raise _gone(self.path) from error

    async def drain(self, *, quiet_s: float, limit_s: float) -> int:
        """Discard input until none arrives for `quiet_s`; return how much it was.

        Raises:
            SourceUnavailable: the device was unplugged, or is not quiet within `limit_s`.
        """
        loop, dropped = asyncio.get_running_loop(), 0
        deadline = loop.time() + limit_s
        while data := await self.read(BUFFER_BYTES, quiet_s):
            dropped += len(data)
            if loop.time() > deadline:
                raise SourceUnavailable(f"{self.path} continues to send after a stop command", hint=_REPLUG)
        self.flush_input()
        return dropped

    def require_present(self) -> None:
        """Check, without reading, that the device is plugged in.

        Raises:
            SourceUnavailable: the device was unplugged.
        """
        look = select.poll()
        look.register(self._fd, 0)  # a hang-up is always reported
        if look.poll(0):
            raise _gone(self.path)

    def flush_input(self) -> None:
        """Discard the kernel's input buffer.

        Raises:
            SourceUnavailable: the device was unplugged.
        """
        try:
            termios.tcflush(self._fd, termios.TCIFLUSH)
        except (OSError, termios.error) as error:
            raise _gone(self.path) from error

    def set_speed(self, speed: int) -> None:
        """Set the line speed, a constant of termios such as ``termios.B110``.

        Raises:
            SourceUnavailable: the device was unplugged, or does not support the speed.
        """
        try:
            attributes = termios.tcgetattr(self._fd)
            attributes[_ISPEED] = attributes[_OSPEED] = speed
            termios.tcsetattr(self._fd, termios.TCSANOW, attributes)
        except (OSError, termios.error) as error:
            raise _gone(self.path) from error

    def close(self) -> None:
        """Close the terminal, which makes the kernel drop DTR; never raises."""
        _release(self._fd)

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


_REPLUG: Final = "Unplug it and plug it in again. If that does not help, try another port."


def _cannot_open(path: str, error: OSError) -> SourceUnavailable:
    if error.errno in {errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.EIO}:
        return SourceUnavailable(
            f"{path} does not exist", hint="Plug the device in, or run 'drawwell doctor'."
        )
    if error.errno == errno.EBUSY:
        return _busy(path)
    if isinstance(error, PermissionError):
        return no_permission(path)
    return SourceUnavailable(f"cannot open {path}: {error.strerror}", hint="Run 'drawwell doctor'.")


def _busy(path: str) -> SourceUnavailable:
    return SourceUnavailable(
        f"{path} is held open by {describe_holders(holders(path))}",
        hint="Stop that program first: two readers would each get part of the noise.",
    )


def _gone(path: str) -> SourceUnavailable:
    return SourceUnavailable(f"{path} was unplugged", hint="Plug it in again.")


def _claim(fd: int, path: str) -> None:
    """Lock the terminal with flock and TIOCEXCL; check for earlier users.

    On a pseudo-terminal, TIOCEXCL survives a killed process while the other end is open, so
    only flock is used there.
    """
    if not os.isatty(fd):
        raise SourceRejected(
            f"{path} is not a terminal", hint="Set path to the device node, such as /dev/ttyACM0."
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


def _release(fd: int) -> None:
    with suppress(OSError):
        fcntl.ioctl(fd, termios.TIOCNXCL)
    with suppress(OSError):
        os.close(fd)


def _set_raw(fd: int) -> None:
    """Set raw mode, without echo or flow control, and keep HUPCL."""
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
            "the terminal was unplugged during its setup", hint="Plug it in again."
        ) from error
