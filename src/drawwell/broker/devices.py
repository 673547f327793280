"""IDs of a broker's devices, for its consumers."""

import hashlib
from collections.abc import Iterable

from drawwell.host.boot import boot_id
from drawwell.ports import Source
from drawwell.reports import SourceReport


def device_ids(sources: Iterable[Source]) -> tuple[str, ...]:
    """Return a hexadecimal ID for each device that has delivered bytes.

    Two brokers return the same ID for the same device. The ID is a hash of the device's own ID
    or of its name on this machine, and reveals neither.
    """
    reports = [source.report() for source in sources]
    return tuple(sorted({device_id(each) for each in reports if each.health_epoch}))


def device_id(report: SourceReport) -> str:
    """Return the ID of a source's device."""
    device = report.identity
    name = device.hardware_id or f"{boot_id()} {device.stable_name or device.path}"
    return hashlib.sha256(f"drawwell device {name}".encode()).hexdigest()[:32]
