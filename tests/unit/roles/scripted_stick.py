"""A source role with a scripted driver."""

import asyncio

from drawwell.reports import SourceState
from drawwell.testing.scripted import RATE, ScriptedSource
from drawwell.testing.waiting import until
from support.workbench import Workbench

SMALL = 4096


class Stick:
    """A scripted driver on a small workbench."""

    def __init__(self, *, capacity_bytes: int = SMALL, rate: float = RATE) -> None:
        self.driver = ScriptedSource("stick", rate=rate)
        self.bench = Workbench(self.driver, capacity_bytes=capacity_bytes)
        self.role = self.bench.sources[0]
        self.monitor = self.bench.monitors[0]

    def everything(self) -> bytes:
        """Take all bytes from the reservoir."""
        return bytes(self.bench.supply.take(len(self.bench.supply.reservoir)).data)

    async def until_state(self, state: SourceState) -> None:
        await until(lambda: self.monitor.state is state, f"the source is {state}")

    async def drain_until(self, size: int) -> bytes:
        """Empty the reservoir repeatedly until `size` bytes were drawn."""
        taken = b""
        while len(taken) < size:
            taken += self.everything()
            await asyncio.sleep(0.01)  # short: virtual time
        return taken
