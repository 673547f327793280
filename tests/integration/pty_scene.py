"""A simulated OneRNG at a pseudo-terminal, and a source that reads it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from drawwell.drivers.onerng import OneRngSource
from drawwell.errors import DrawwellError
from drawwell.ports import NoiseSource
from drawwell.simulator.pty import PtyDevice

Scene = Callable[[PtyDevice, OneRngSource], Awaitable[None]]


def play(tmp_path: Path, scene: Scene, *, device: dict[str, Any] | None = None, **source: Any) -> None:
    """Run a scene with a plugged-in device and a source that is not open."""

    async def run() -> None:
        async with PtyDevice(tmp_path / "onerng", **{"seed": 1, "rate": 0, **(device or {})}) as plugged:
            driver = OneRngSource("stick", str(plugged.link), **source)
            try:
                await scene(plugged, driver)
            finally:
                await driver.aclose()

    asyncio.run(run())


async def read_bytes(source: NoiseSource, wanted: int) -> bytes:
    samples = b""
    while len(samples) < wanted:
        samples += (await source.read(4096)).data
    return samples


async def refusal_of(awaitable: Awaitable[Any]) -> DrawwellError:
    with pytest.raises(DrawwellError) as caught:
        await awaitable
    return caught.value
