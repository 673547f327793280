"""A noise source that follows a script and records its output."""

import asyncio
from collections import deque
from typing import Any

from drawwell.entropy.blocks import RawBlock
from drawwell.errors import DrawwellError, SourceUnavailable, UsageError
from drawwell.reports import SourceIdentity
from drawwell.testing import sick

RATE = 100_000.0


class ScriptedSource:
    """A `NoiseSource` of deterministic samples.

    Args:
        name: The source's name.
        seed: Determines the samples.
        rate: Samples per second, on the loop's clock.

    `at_open` and `at_read` are scripts with an entry for each of the next calls. An entry that
    is an error is raised; an event is awaited before the call continues; None has no effect.
    `gave` contains every block that was read.
    """

    def __init__(self, name: str = "scripted", *, seed: int = 0, rate: float = RATE) -> None:
        self.identity = SourceIdentity(name=name, kind="scripted", path=f"/dev/{name}", simulated=True)
        self._rate = rate
        self.stream = sick.good(seed)
        self.at_open: deque[DrawwellError | asyncio.Event | None] = deque()
        self.at_read: deque[DrawwellError | asyncio.Event | None] = deque()
        self.at_command: deque[DrawwellError | asyncio.Event | None] = deque()
        self.gave: list[bytes] = []
        self.opened = 0
        self.closed = 0
        self.commands: list[tuple[str, dict[str, Any]]] = []
        self.unplugged = False

    async def open(self) -> None:
        """Open the source as scripted."""
        self.opened += 1
        await _act(self.at_open)
        self._insist()

    async def read(self, max_bytes: int) -> RawBlock:
        """Return samples as scripted."""
        await _act(self.at_read)
        await asyncio.sleep(max_bytes / self._rate)
        self._insist()
        data = self.stream.read(max_bytes)
        self.gave.append(data)
        return RawBlock(data)

    async def command(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Accept ``info``, ``pause`` and ``resume``; see `NoiseSource`."""
        await _act(self.at_command)
        self._insist()
        if verb not in {"info", "pause", "resume"}:
            raise UsageError(f"unknown verb {verb!r}")
        self.commands.append((verb, args))
        return {"done": verb}

    async def aclose(self) -> None:
        """Close the source."""
        self.closed += 1

    def _insist(self) -> None:
        if self.unplugged:
            raise SourceUnavailable(f"{self.identity.path} was unplugged", hint="Plug it in again.")


async def _act(script: deque[DrawwellError | asyncio.Event | None]) -> None:
    step = script.popleft() if script else None
    if isinstance(step, asyncio.Event):
        await step.wait()
    elif step is not None:
        raise step
