"""Run a source role from device to full entropy; print the cost as JSON.

Arguments: driver (onerng or chardev), path, raw bytes to read after the start-up tests. The
output goes to a reservoir that is never full, and is dropped at the end.
"""

import asyncio
import json
import os
import sys
import time

from drawwell.broker.supply import Supply
from drawwell.drivers.chardev import CharDeviceSource
from drawwell.drivers.onerng import OneRngSource
from drawwell.entropy.health import HealthMonitor, NoiseClaim
from drawwell.entropy.reservoir import Reservoir
from drawwell.host.clock import WallClock
from drawwell.ports import NoiseSource
from drawwell.roles.source import SourceRole
from drawwell.testing.waiting import until


def make(kind: str, path: str, wanted: int) -> SourceRole:
    claim = NoiseClaim()
    driver: NoiseSource = OneRngSource("bench", path=path)
    if kind == "chardev":
        driver = CharDeviceSource("bench", path)
    capacity = 2 * wanted + 65_536
    supply = Supply(Reservoir(capacity, low_mark=capacity, high_mark=capacity))
    return SourceRole(driver, HealthMonitor(claim, hash_key=os.urandom(32)), supply.depot, WallClock())


async def measure(role: SourceRole, wanted: int) -> dict[str, float]:
    async with asyncio.TaskGroup() as group:
        living = group.create_task(role.run())
        await until(lambda: role.healthy, "the source is healthy")
        cpu, begun, before = time.process_time(), time.perf_counter(), role.report()
        enough = before.raw_bytes + wanted
        await until(lambda: role.report().raw_bytes >= enough, "enough bytes were read")
        cpu, wall, after = time.process_time() - cpu, time.perf_counter() - begun, role.report()
        living.cancel()
    return {
        "cpu_s": cpu,
        "wall_s": wall,
        "raw_bytes": after.raw_bytes - before.raw_bytes,
        "assessed_bits": after.assessed_bits - before.assessed_bits,
        "conditioned_bits": after.conditioned_bits - before.conditioned_bits,
    }


def main(kind: str, path: str, wanted: str) -> None:
    print(json.dumps(asyncio.run(measure(make(kind, path, int(wanted)), int(wanted)))))


main(*sys.argv[1:])
