"""The simulated OneRNG, however it is shown to its host: its noise, its faults, its power."""

import asyncio
import os
import random
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Final

from drawwell.errors import UsageError
from drawwell.simulator.device import NOISE_RATE, SimulatedOneRng
from drawwell.simulator.noise import SimulatedFault

CHUNK_BYTES: Final = 4096
"""What goes out at once: the size of a terminal's input buffer."""
TICK_S: Final = 0.01


class SimulatedStick(ABC):
    """What all simulated sticks have; one runs from ``async with`` to its end, in the caller's event loop.

    Args:
        seed: Makes the noise the same in every run; None draws a seed from the operating system.
        fault: What is wrong with it, see `SimulatedFault`.
        rate: Noise in bytes per second; 0 for as fast as it is read.
        version: The firmware's version: 1, 2 or 3.

    Raises:
        UsageError: there is no such fault.
    """

    def __init__(self, *, seed: int | None, fault: SimulatedFault | str, rate: float, version: int) -> None:
        self.fault = parse_fault(fault)
        self.node = ""
        """Where it is plugged in, "" while it is not."""
        self.sent_bytes = 0
        noise_seed = int.from_bytes(os.urandom(32)) if seed is None else seed
        self._uniform = random.Random(noise_seed).randbytes  # noqa: S311 - simulated, and called so everywhere
        self._hardware_id = self._uniform(16)
        self._rate = rate
        self._version = version
        self._device = self._power_on(0.0)
        self._group = asyncio.TaskGroup()
        self._task: asyncio.Task[None] | None = None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Pull it out, and end."""
        if self._task is not None:
            self._task.cancel()
        self.unplug()
        await self._group.__aexit__(None, None, None)  # the body's own error goes on as it is

    @abstractmethod
    def unplug(self) -> None:
        """Pull it out."""

    async def _begin(self) -> None:
        await self._group.__aenter__()
        self._task = self._group.create_task(self._run())

    @abstractmethod
    async def _run(self) -> None:
        """Be the device, for ever."""

    def _power_on(self, now: float) -> SimulatedOneRng:
        device = SimulatedOneRng(
            self._uniform, hardware_id=self._hardware_id, version=self._version, rate=self._rate, now=now
        )
        device.fault = self.fault
        return device


def parse_fault(fault: SimulatedFault | str) -> SimulatedFault:
    """Read the name of a fault.

    Raises:
        UsageError: there is no such fault.
    """
    try:
        return SimulatedFault(fault)
    except ValueError:
        raise UsageError(f"no fault {fault!r}", hint=f"The faults are {', '.join(SimulatedFault)}.") from None


__all__ = ["CHUNK_BYTES", "NOISE_RATE", "TICK_S", "SimulatedStick", "parse_fault"]
