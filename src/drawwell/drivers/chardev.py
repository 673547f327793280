"""Any character device or FIFO as a source, such as /dev/hwrng or NeuG."""

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
from drawwell.drivers.permission import no_permission
from drawwell.drivers.stream import Gone, SampleStream, stream_of
from drawwell.drivers.tty import Tty
from drawwell.entropy.blocks import RawBlock
from drawwell.errors import SourceRejected, SourceStalled, SourceUnavailable, UsageError
from drawwell.reports import CONDITIONED, NOT_NOISE, SourceIdentity

UNKNOWN: Final = "as delivered; the device may have conditioned it"
OS_GENERATOR: Final = f"the operating system's generator, {NOT_NOISE}"

# Linux Documentation/admin-guide/devices.txt
_OS_GENERATORS: Final = frozenset({os.makedev(1, 8), os.makedev(1, 9)})

_MOST_PIPE_BYTES: Final = 1 << 20  # pipe(7): /proc/sys/fs/pipe-max-size


class CharDeviceSource:
    """A `NoiseSource` (see ports.py).

    Args:
        name: The source's name in the configuration.
        path: The device node or the FIFO. A terminal is set to raw mode and locked.
        stall_s: The source counts as gone after this time without a sample.
        allow_os_generator: Accept /dev/random and /dev/urandom; every report then shows this.
        start: The start-up conversation with a terminal; see conversation.py.
        hwrng: Prefix of the name of the generator that /dev/hwrng must use; "" for any.
        sysfs: Where sysfs is mounted.
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
        """The source's identity, as far as it is known."""
        return self._identity

    async def open(self) -> None:
        """Open the device and drop buffered samples.

        Raises:
            SourceUnavailable: the device is missing, not readable, or used by another process.
            SourceRejected: the path is not a device or FIFO, it is the operating system's
                generator and the configuration does not allow that, or hwrng is set for a
                path that is not /dev/hwrng.
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
            SourceUnavailable: the device was unplugged, at EOF or silent for `stall_s`, or
                /dev/hwrng has another generator. The block is then discarded.
        """
        if self._stream is None:
            raise SourceUnavailable(f"{self._path} is not open", hint="Run 'drawwell doctor'.")
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
                hint="Check that the device or the program behind it works, or increase stall.",
            )
        return RawBlock(data)

    async def command(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - the port's
        """Refuse every verb.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"{self._path} has no verb {verb!r}", hint="Only a OneRNG takes commands.")

    async def aclose(self) -> None:
        """Close the device."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _identify(self, status: os.stat_result) -> SourceIdentity:
        name, path, device = self._identity.name, self._path, status.st_rdev
        if self._hwrng and (device != HWRNG or not stat.S_ISCHR(status.st_mode)):
            raise SourceRejected(
                f'{path} is not the kernel\'s /dev/hwrng, but hwrng = "{self._hwrng}"',
                hint='Set path = "/dev/hwrng", or remove hwrng.',
            )
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
                f"{self._path} is {OS_GENERATOR}",
                hint="Set path to a hardware source, or set allow_os_generator = true, "
                "which every report then shows.",
            )

    async def _connect(self, status: os.stat_result) -> SampleStream:
        fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        if not os.path.samestat(os.fstat(fd), status):  # the path was replaced after the check
            os.close(fd)
            raise Gone("it was replaced while it was being opened")
        if os.isatty(fd):
            os.close(fd)
            return await converse(self._path, self._start)
        if self._start:
            os.close(fd)
            raise SourceRejected(
                f"{self._path} is not a terminal, but start requires one", hint="Remove start."
            )
        return stream_of(fd)

    def _gone(self, error: Gone) -> SourceUnavailable:
        return SourceUnavailable(
            f"{self._path} is gone: {error}", hint="Plug the device in again, or restart the writer."
        )


def _not_a_device(path: str, mode: int) -> SourceRejected:
    hint = "Set path to the device node."
    if stat.S_ISREG(mode):
        hint = 'To replay a recorded file in a test, set driver = "replay".'
    return SourceRejected(f"{path} is neither a character device nor a FIFO", hint=hint)


def _cannot_open(path: str, error: OSError) -> SourceUnavailable:
    if error.errno in {errno.EACCES, errno.EPERM}:
        return no_permission(path)
    if error.errno in {errno.ENXIO, errno.ENODEV} and os.path.exists(path):
        return SourceUnavailable(
            f"{path} has no driver", hint="Load the device's kernel driver, or plug the device in."
        )
    if error.errno in {errno.ENOENT, errno.ENXIO, errno.ENODEV}:
        return SourceUnavailable(
            f"{path} does not exist", hint="Plug the device in, or run 'drawwell doctor'."
        )
    return SourceUnavailable(f"cannot open {path}: {error.strerror}", hint="Run 'drawwell doctor'.")


def make(section: SourceSection) -> CharDeviceSource:
    return CharDeviceSource(
        section.name,
        section.path,
        stall_s=section.stall,
        allow_os_generator=section.allow_os_generator,
        hwrng=section.hwrng,
        start=section.start,
    )
