"""Opens a noise source in the command itself, because no broker runs it."""

import argparse
import asyncio
import os
from collections.abc import Callable
from typing import Any

from drawwell.cli.output import Output
from drawwell.entropy.cutoffs import STARTUP_SAMPLES
from drawwell.entropy.health import HealthMonitor
from drawwell.errors import HealthFailure
from drawwell.ports import NoiseSource
from drawwell.reports import SourceIdentity, SourceReport, SourceState, as_json
from drawwell.units import format_size

READ_BYTES = 4096


def open_driver(args: argparse.Namespace, out: Output) -> tuple[NoiseSource, Any]:
    """Return the named source's driver and its noise claim.

    The name is a configured source or a device node; None means the only configured source.
    """
    from drawwell.cli.client import read_configuration
    from drawwell.roles.make_driver import make_driver, pick_source

    driver, claim = make_driver(pick_source(read_configuration(args, out), args.source))
    path = driver.identity.path
    out.say(f"opening {'the first OneRNG' if path == 'auto' else path}")
    return driver, claim


def verify_directly(args: argparse.Namespace, out: Output) -> dict[str, Any]:
    """Open and verify a source, run its start-up tests, and return a report."""
    driver, claim = open_driver(args, out)
    monitor = HealthMonitor(claim, hash_key=os.urandom(32))
    return as_json(asyncio.run(_verify(driver, monitor, out)))


async def _verify(driver: NoiseSource, monitor: HealthMonitor, out: Output) -> SourceReport:
    raw_bytes, last_error = 0, ""
    try:
        await driver.open()
        monitor.start()
        while monitor.state is SourceState.STARTING:
            block = await driver.read(READ_BYTES)
            raw_bytes += len(block)
            monitor.feed(block, asyncio.get_running_loop().time())
            out.progress(f"{monitor.startup_bytes:,} of {STARTUP_SAMPLES:,} start-up samples")
    except HealthFailure as error:
        last_error = str(error)
    finally:
        await driver.aclose()
    return SourceReport(
        identity=driver.identity,
        state=monitor.state,
        paused=False,
        health_epoch=monitor.epoch,
        raw_bytes=raw_bytes,
        tested_bytes=0,
        discarded_bytes=raw_bytes,
        assessed_bits=0,
        conditioned_bits=0,
        raw_rate_bytes_per_s=0.0,
        health_failures=monitor.failures,
        reconnects=0,
        last_error=last_error,
        tests=monitor.reports(),
    )


def capture_directly(
    args: argparse.Namespace, out: Output, wanted: int, write: Callable[[bytes], int]
) -> SourceIdentity:
    """Pass `wanted` raw samples to `write`; return the source's identity."""
    driver, _claim = open_driver(args, out)

    async def capture() -> None:
        written = 0
        try:
            await driver.open()
            while written < wanted:
                block = await driver.read(min(READ_BYTES, wanted - written))
                written += write(block.data)
                out.progress(f"{format_size(written)} of {format_size(wanted)}")
        finally:
            await driver.aclose()

    asyncio.run(capture())
    return driver.identity
