"""A noise source opened by the command line itself, when no broker runs it."""

import argparse
import asyncio
import os
from typing import Any

from drawwell.cli.output import Output
from drawwell.entropy.health import HealthMonitor
from drawwell.errors import HealthFailure
from drawwell.ports import NoiseSource
from drawwell.reports import SourceReport, SourceState, as_json
from drawwell.units import format_size

READ_BYTES = 4096


def open_driver(args: argparse.Namespace) -> tuple[NoiseSource, Any]:
    """The driver of the named source, and what its noise is assessed at.

    The name is one of the configuration, or a device node; nothing means the only configured source.
    """
    from drawwell.config.load import load
    from drawwell.roles.assemble import make_driver, pick_source

    return make_driver(pick_source(load(args.config), args.source))


def verify_directly(args: argparse.Namespace, out: Output) -> dict[str, Any]:
    """Open, verify and run the start-up tests once; return a source report."""
    driver, claim = open_driver(args)
    monitor = HealthMonitor(claim, hash_key=os.urandom(32))
    out.say(f"nobody runs it: opening {driver.identity.path} myself")
    return as_json(asyncio.run(_verify(driver, monitor)))


async def _verify(driver: NoiseSource, monitor: HealthMonitor) -> SourceReport:
    raw_bytes, last_error = 0, ""
    try:
        await driver.open()
        monitor.start()
        while monitor.state is SourceState.STARTING:
            block = await driver.read(READ_BYTES)
            raw_bytes += len(block)
            monitor.feed(block, asyncio.get_running_loop().time())
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


def capture_directly(args: argparse.Namespace, out: Output, wanted: int) -> tuple[int, str]:
    """Write `wanted` raw samples to the file that was named; return their number and what they are."""
    driver, _claim = open_driver(args)
    out.say(f"nobody runs it: opening {driver.identity.path} myself")

    async def capture() -> int:
        written = 0
        try:
            await driver.open()
            while written < wanted:
                block = await driver.read(min(READ_BYTES, wanted - written))
                written += append_private(args.output, block.data)
                out.progress(f"{format_size(written)} of {format_size(wanted)}")
        finally:
            await driver.aclose()
        return written

    return asyncio.run(capture()), driver.identity.noise


def append_private(path: str, data: bytes) -> int:
    """Append to a file that only its owner may read; return the number of bytes."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "ab") as file:
        return file.write(data)
