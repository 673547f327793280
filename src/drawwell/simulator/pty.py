"""The simulated OneRNG on a pseudo-terminal, with a name of your choice.

Programs use it like ``/dev/ttyACM0``: the first open raises DTR, the last close drops DTR, and
unplugging is a hang-up. drawwell recognises a simulated device by major number 136.
"""

import asyncio
import os
import select
import stat
import termios
import tty
from contextlib import suppress
from pathlib import Path
from typing import Self

from drawwell.errors import UsageError
from drawwell.simulator.device import NOISE_RATE, SimulatedOneRng
from drawwell.simulator.noise import SimulatedFault
from drawwell.simulator.stick import CHUNK_BYTES, TICK_S, SimulatedStick, parse_fault


class PtyDevice(SimulatedStick):
    """A simulated OneRNG that runs within ``async with``.

    Args:
        link: A symbolic link to the terminal's node; it exists only while plugged in.
        seed: Makes the noise reproducible; None selects a random seed.
        fault: The device's fault, see `SimulatedFault`.
        rate: Noise in bytes per second; 0 for no limit.
        version: The firmware version: 1, 2 or 3.
    """

    def __init__(
        self,
        link: str | os.PathLike[str],
        *,
        seed: int | None = None,
        fault: SimulatedFault | str = SimulatedFault.NONE,
        rate: float = NOISE_RATE,
        version: int = 3,
    ) -> None:
        super().__init__(seed=seed, fault=fault, rate=rate, version=version)
        self.link = Path(link)
        self._master = -1

    async def __aenter__(self) -> Self:
        """Plug the device in, unless the fault is ``unplugged``.

        Raises:
            UsageError: the link is not writable, or is not a link to a terminal.
        """
        if self.fault is not SimulatedFault.UNPLUGGED:
            self.replug()
        await self._begin()
        return self

    def set_fault(self, fault: SimulatedFault | str) -> None:
        """Set or clear the fault; unless ``unplugged``, plug the device in.

        Raises:
            UsageError: the fault is unknown.
        """
        self.fault = parse_fault(fault)
        if self.fault is SimulatedFault.UNPLUGGED:
            self.unplug()
        elif self._master < 0:
            self.replug()
        self._device.fault = self.fault

    def unplug(self) -> None:
        """Hang up and remove the link."""
        if self._master < 0:
            return
        with suppress(OSError):
            if os.readlink(self.link) == self.node:
                self.link.unlink()
        self._stop_waiting()
        os.close(self._master)
        self._master, self.node = -1, ""

    def replug(self) -> None:
        """Power the device on again on a new terminal, with the same link.

        Raises:
            UsageError: as for `__aenter__`.
        """
        self.unplug()
        if self.fault is SimulatedFault.UNPLUGGED:
            self.fault = SimulatedFault.NONE
        self._device = self._power_on(asyncio.get_running_loop().time())
        master, slave = os.openpty()
        try:
            tty.setraw(slave)
            self.node = os.ttyname(slave)
            _place_link(self.link, self.node)
        except BaseException:
            os.close(master)
            raise
        finally:
            os.close(slave)
        os.set_blocking(master, False)
        self._master = master

    def _power_on(self, now: float) -> SimulatedOneRng:
        self._pending = b""
        return super()._power_on(now)

    async def _run(self) -> None:
        while True:
            if self._master >= 0 and self._is_open():
                await self._serve_once()
            else:
                await asyncio.sleep(TICK_S)

    def _is_open(self) -> bool:
        """Return the state of DTR: set from the first open to the last close."""
        poll = select.poll()
        poll.register(self._master, 0)
        was_up, self._device.dtr = self._device.dtr, not poll.poll(0)
        if was_up and not self._device.dtr:
            self._take_commands()  # a close drains earlier output (tty_wait_until_sent)
            termios.tcflush(self._master, termios.TCIOFLUSH)
            self._pending = b""
        return self._device.dtr

    async def _serve_once(self) -> None:
        self._take_commands()
        self._device.advance(asyncio.get_running_loop().time())
        self._pending = self._pending or self._device.transmit(CHUNK_BYTES)
        written = self._write()
        if written and not self._pending and self._rate == 0:
            await asyncio.sleep(0)
        else:
            await self._wait()

    def _take_commands(self) -> None:
        with suppress(OSError):  # nothing to read, or hung up since the last check
            self._device.receive(os.read(self._master, CHUNK_BYTES))

    def _write(self) -> int:
        try:
            written = os.write(self._master, self._pending) if self._pending else 0
        except OSError:  # full, or hung up since the last check
            return 0
        self._pending = self._pending[written:]
        self.sent_bytes += written
        return written

    async def _wait(self) -> None:
        """Wait for a command, for the next tick, or for room for pending output."""
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._master, ready.set)
        if self._pending:
            loop.add_writer(self._master, ready.set)
        try:
            async with asyncio.timeout(TICK_S):
                await ready.wait()
        except TimeoutError:
            pass
        finally:
            self._stop_waiting()

    def _stop_waiting(self) -> None:
        if self._master >= 0:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._master)
            loop.remove_writer(self._master)


def _place_link(link: Path, node: str) -> None:
    """Create the link atomically; replace only an old link to a terminal."""
    try:
        if stat.S_ISLNK(link.lstat().st_mode) and os.readlink(link).startswith("/dev/pts/"):
            link.unlink()
    except FileNotFoundError:
        pass
    try:
        link.symlink_to(node)
    except OSError as error:
        raise UsageError(
            f"cannot create the link {link}: {error.strerror}",
            hint="Choose a new path in an existing directory.",
        ) from error
