"""The simulated OneRNG on any bus: noise, faults and power."""

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
"""Size of a write: that of a terminal's input buffer."""
TICK_S: Final = 0.01


class SimulatedStick(ABC):
    """Base class of the simulated devices, which run within ``async with``.

    Args:
        seed: Makes the noise reproducible; None selects a random seed.
        fault: The device's fault, see `SimulatedFault`.
        rate: Noise in bytes per second; 0 for no limit.
        version: The firmware version: 1, 2 or 3.

    Raises:
        UsageError: the fault is unknown.
    """

    def __init__(self, *, seed: int | None, fault: SimulatedFault | str, rate: float, version: int) -> None:
        self.fault = parse_fault(fault)
        self.node = ""
        """The path where the device is plugged in; "" while it is unplugged."""
        self.sent_bytes = 0
        noise_seed = int.from_bytes(os.urandom(32)) if seed is None else seed
        self._uniform = random.Random(noise_seed).randbytes  # noqa: S311 - simulated, and marked as such
        self._hardware_id = self._uniform(16)
        self._rate = rate
        self._version = version
        self._device = self._power_on(0.0)
        self._group = asyncio.TaskGroup()
        self._task: asyncio.Task[None] | None = None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Unplug the device and stop."""
        if self._task is not None:
            self._task.cancel()
        self.unplug()
        await self._group.__aexit__(None, None, None)  # the body's exception propagates

    @abstractmethod
    def unplug(self) -> None:
        """Unplug the device."""

    async def _begin(self) -> None:
        await self._group.__aenter__()
        self._task = self._group.create_task(self._run())

    @abstractmethod
    async def _run(self) -> None:
        """Run the device until cancelled."""

    def _power_on(self, now: float) -> SimulatedOneRng:
        device = SimulatedOneRng(
            self._uniform, hardware_id=self._hardware_id, version=self._version, rate=self._rate, now=now
        )
        device.fault = self.fault
        return device


def parse_fault(fault: SimulatedFault | str) -> SimulatedFault:
    """Parse the name of a fault.

    Raises:
        UsageError: the fault is unknown.
    """
    try:
        return SimulatedFault(fault)
    except ValueError:
        raise UsageError(f"unknown fault {fault!r}", hint=f"Faults: {', '.join(SimulatedFault)}.") from None


__all__ = ["CHUNK_BYTES", "NOISE_RATE", "TICK_S", "SimulatedStick", "parse_fault"]
