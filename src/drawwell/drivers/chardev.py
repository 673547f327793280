"""Any character device or FIFO as a noise source: /dev/hwrng, TrueRNG, NeuG, another program's FIFO."""

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from drawwell.config.broker_side import SourceSection
from drawwell.drivers.conversation import converse
from drawwell.drivers.discovery import numbers_of, stable_name_of
from drawwell.drivers.hwrng import HWRNG, GeneratorPin
from drawwell.drivers.stream import Gone, SampleStream, stream_of
from drawwell.drivers.tty import Tty
from drawwell.entropy.blocks import RawBlock
from drawwell.errors import SourceRejected, SourceStalled, SourceUnavailable, UsageError
from drawwell.reports import CONDITIONED, SourceIdentity

UNKNOWN: Final = "as delivered; whether it was conditioned before is not known"
OS_GENERATOR: Final = "the operating system's generator, not a noise source"

# Linux Documentation/admin-guide/devices.txt
_OS_GENERATORS: Final = frozenset({os.makedev(1, 8), os.makedev(1, 9)})

_MOST_PIPE_BYTES: Final = 1 << 20  # pipe(7): /proc/sys/fs/pipe-max-size


class CharDeviceSource:
    """A `NoiseSource` (see ports.py).

    Args:
        name: Its name in the configuration.
        path: The device's node or the FIFO. A terminal is set raw and taken for us alone.
        stall_s: How long no sample may come before it counts as gone.
        allow_os_generator: Take /dev/random and /dev/urandom; every report then says what they are.
        start: The conversation before the first sample; see conversation.py. Only terminals have one.
        hwrng: The generator wanted behind /dev/hwrng, by the start of its name; "" takes any.
        sysfs: Where the kernel tells about its devices.
    """

    def __init__(
        self,
        name: str,
        path: str,
        *,
        stall_s: float = 5.0,
        allow_os_generator: bool = False,
        hwrng: str = "",
        start: Sequence[str] = (),
        sysfs: str = "/sys",
    ) -> None:
        self._path = path
        self._stall_s = stall_s
        self._allow_os_generator = allow_os_generator
        self._hwrng = hwrng
        self._start = tuple(start)
        self._sysfs = sysfs
        self._pin: GeneratorPin | None = None
        self._stream: SampleStream | None = None
        self._identity = SourceIdentity(name=name, kind="chardev", path=path, noise=UNKNOWN)

    @property
    def identity(self) -> SourceIdentity:
        """Who it is, as far as is known now."""
        return self._identity

    async def open(self) -> None:
        """Open it and drop what it held.

        Raises:
            SourceUnavailable: not there, not permitted, or held by somebody else.
            SourceRejected: not a device or FIFO, or the operating system's generator unasked for.
        """
        await self.aclose()
        self._pin = None
        try:
            status = os.stat(self._path)
            self._identity = self._identify(status)
            self._stream = await self._connect(status)
            if isinstance(self._stream, Tty):
                self._identity = replace(self._identity, simulated=self._stream.is_pty)
            if stat.S_ISFIFO(status.st_mode):
                await self._stream.read(_MOST_PIPE_BYTES, 0)
        except OSError as error:
            raise _cannot_open(self._path, error) from error
        except Gone as error:
            raise self._gone(error) from error

    async def read(self, max_bytes: int) -> RawBlock:
        """Return 1 to `max_bytes` fresh samples.

        Raises:
            SourceUnavailable: unplugged, at its end, silent for `stall_s`, or the kernel took
                another generator behind /dev/hwrng; such a block is discarded.
        """
        if self._stream is None:
            raise SourceUnavailable(f"{self._path} is not open", hint="Type 'drawwell doctor'.")
        if self._pin:
            self._pin.check()
        try:
            data = await self._stream.read(max_bytes, self._stall_s)
        except Gone as error:
            raise self._gone(error) from error
        if self._pin:
            self._pin.check()
        if not data:
            raise SourceStalled(
                f"no sample from {self._path} within {self._stall_s:g} s",
                hint="See whether the device or the program behind it runs, or raise stall.",
            )
        return RawBlock(data)

    async def command(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - the port's
        """Refuse: such a source has no verbs.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{self._path} has no verb {verb!r}", hint="Only a OneRNG takes commands.")

    async def aclose(self) -> None:
        """Let go of it."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _identify(self, status: os.stat_result) -> SourceIdentity:
        name, path, device = self._identity.name, self._path, status.st_rdev
        if stat.S_ISFIFO(status.st_mode):
            return SourceIdentity(name, "chardev", path, numbers_of(status), noise=UNKNOWN)
        if not stat.S_ISCHR(status.st_mode):
            raise _not_a_device(path, status.st_mode)
        if device in _OS_GENERATORS:
            self._judge_os_generator()
            return SourceIdentity(name, "chardev", path, "operating system", noise=OS_GENERATOR)
        if device == HWRNG:
            self._pin = GeneratorPin(path, self._hwrng, self._sysfs)
            noise = CONDITIONED if self._pin.vouched else UNKNOWN
            return SourceIdentity(
                name, "chardev", path, self._pin.generator or numbers_of(status), noise=noise
            )
        known = stable_name_of(path, self._sysfs)
        noise = CONDITIONED if known else UNKNOWN
        return SourceIdentity(name, "chardev", path, known or numbers_of(status), noise=noise)

    def _judge_os_generator(self) -> None:
        if not self._allow_os_generator:
            raise SourceRejected(
                f"{self._path} is the operating system's generator, not a noise source",
                hint="Name a hardware source; if you must, set allow_os_generator = true, "
                "and every report will say so.",
            )

    async def _connect(self, status: os.stat_result) -> SampleStream:
        fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        if not os.path.samestat(os.fstat(fd), status):  # its identity was read from something else
            os.close(fd)
            raise Gone("it was replaced while it was opened")
        if os.isatty(fd):
            os.close(fd)
            return await converse(self._path, self._start)
        if self._start:
            os.close(fd)
            raise SourceRejected(
                f"{self._path} is no terminal, and start is a conversation", hint="Drop start here."
            )
        return stream_of(fd)

    def _gone(self, error: Gone) -> SourceUnavailable:
        return SourceUnavailable(
            f"{self._path} is gone: {error}", hint="Plug it in again, or start its writer again."
        )


def _not_a_device(path: str, mode: int) -> SourceRejected:
    hint = "Name the device's node."
    if stat.S_ISREG(mode):
        hint = 'To play a recorded file back for a test, set driver = "replay".'
    return SourceRejected(f"{path} is neither a character device nor a FIFO", hint=hint)


def _cannot_open(path: str, error: OSError) -> SourceUnavailable:
    if error.errno in {errno.EACCES, errno.EPERM}:
        return SourceUnavailable(
            f"no permission to open {path}",
            hint=f"Run as root, or as a user in the group of {path}; with the package, 'systemctl restart' of its "
            "unit, drawwell-named@NAME, takes the right.",
        )
    if error.errno in {errno.ENXIO, errno.ENODEV} and os.path.exists(path):
        return SourceUnavailable(
            f"no driver answers behind {path}", hint="Load the device's kernel driver, or plug the device in."
        )
    if error.errno in {errno.ENOENT, errno.ENXIO, errno.ENODEV}:
        return SourceUnavailable(
            f"{path} is not there", hint="Plug the device in, or type 'drawwell doctor'."
        )
    return SourceUnavailable(f"cannot open {path}: {error.strerror}", hint="Type 'drawwell doctor'.")


def make(section: SourceSection) -> CharDeviceSource:
    """Make the driver of a [[source]]."""
    return CharDeviceSource(
        section.name,
        section.path,
        stall_s=section.stall,
        allow_os_generator=section.allow_os_generator,
        hwrng=section.hwrng,
        start=section.start,
    )
