"""The virtio-rng devices of a running QEMU, as listed by QMP.

The list includes devices that were plugged in later. It is read from QEMU's object model with
qom-list and qom-get (docs/interop/qemu-qmp-ref).
"""

from collections.abc import Iterator
from typing import Any, Final

from drawwell.guests.qemu.command_line import is_generator, printable
from drawwell.guests.qemu.findings import DEFAULT_PERIOD_MS, Generator
from drawwell.guests.qemu.qmp import Monitor, QmpError

PERIPHERAL: Final = "/machine/peripheral"
_PLACES: Final = (PERIPHERAL, "/machine/peripheral-anon")
"""QEMU's objects that contain the devices with an ID, and the devices without."""
_NO_LIMIT: Final = 1 << 63
"""QEMU's default for max-bytes is INT64_MAX (hw/virtio/virtio-rng.c)."""


def generators_of(monitor: Monitor) -> Iterator[tuple[str, Generator]]:
    """Yield each generator with its device's path in the object model.

    Raises the same errors as `Monitor.execute`.
    """
    for place in _PLACES:
        for each in _dicts(monitor.execute("qom-list", path=place)):
            kind = str(each.get("type", "")).removeprefix("child<").removesuffix(">")
            if is_generator(kind):
                path = f"{place}/{each.get('name')}"
                yield path, _generator(monitor, path)


def _generator(monitor: Monitor, path: str) -> Generator:
    backend = _get(monitor, path, "rng")
    label = _get(monitor, backend, "chardev")
    address = _get(monitor, f"/chardevs/{label}", "addr") if label else {}
    max_bytes, period_ms = _get(monitor, path, "max-bytes"), _get(monitor, path, "period")
    place = _get(monitor, backend, "filename") or (
        address.get("path", "") if isinstance(address, dict) else ""
    )
    return Generator(
        backend=printable(str(_get(monitor, backend, "type") or "rng-builtin")),
        place=printable(str(place)),
        reconnects=True,  # only the command line shows this
        max_bytes=max_bytes if isinstance(max_bytes, int) and 0 <= max_bytes < _NO_LIMIT - 1 else None,
        period_ms=period_ms if isinstance(period_ms, int) else DEFAULT_PERIOD_MS,
    )


def _get(monitor: Monitor, path: object, name: str) -> Any:
    if not isinstance(path, str) or not path:
        return ""
    try:
        return monitor.execute("qom-get", path=path, property=name)
    except QmpError:
        return ""


def _dicts(listed: object) -> list[dict[str, Any]]:
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
