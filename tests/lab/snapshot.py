"""Snapshots of prepared guests, cached by content, to resume from.

QEMU's migration writes them. Unlike ``savevm`` this needs no disk, and guests can share one.
"""

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from drawwell.testing.waiting import LOOK_EVERY_S
from lab.accel import accelerator
from lab.cache import kept, program
from lab.initramfs import Image

if TYPE_CHECKING:
    from lab.guest import QemuGuest

_SAVE_S: Final = 600.0


@dataclass(frozen=True)
class Snapshot:
    """A prepared, stopped guest; guests made from it get the devices `args`."""

    image: Image
    state: Path
    disk: Path | None
    args: tuple[str, ...]
    accel: str
    memory_mib: int


def snapshot(
    image: Image | Snapshot,
    *args: str,
    prepare: "Callable[[QemuGuest], object] | None" = None,
    content: str = "",
    memory_mib: int | None = None,
) -> Snapshot:
    """Boot `image`, prepare it, and return the snapshot, cached if possible.

    Args:
        image: The image to boot, or a snapshot to resume, so that slow steps run once.
        args: QEMU's arguments, with ``{run}``; no usb-redir device may be connected.
        prepare: Prepares the guest; its own source is part of the cache's key.
        content: Other parts of the key, such as the digest of a file from `prepare`.
        memory_mib: Its memory.

    Raises:
        NoLab: a part of it is not available.
    """
    accel = accelerator()
    memory = memory_mib or image.memory_mib
    booted = image.image if isinstance(image, Snapshot) else image
    digest = image.state.parent.name if isinstance(image, Snapshot) else image.digest
    recipe = {
        "image": digest, "append": booted.append, "args": args, "accel": accel, "memory": memory,
        "qemu": program("qemu-system-x86_64", "--version").splitlines()[0],
        "prepare": inspect.getsource(prepare) if prepare else "", "content": content,
    }  # fmt: skip
    folder = kept("snapshot", recipe, lambda work: _build(work, image, args, prepare, memory))
    disk = folder / "disk.qcow2"
    devices = (*image.args, *args) if isinstance(image, Snapshot) else args
    return Snapshot(booted, folder / "state", disk if disk.exists() else None, devices, accel, memory)


def _build(
    work: Path,
    image: Image | Snapshot,
    args: tuple[str, ...],
    prepare: "Callable[[QemuGuest], object] | None",
    memory_mib: int,
) -> None:
    from dataclasses import replace

    from lab.guest import QemuGuest

    disk = overlay(image.disk, work / "disk.qcow2") if image.disk else None
    with QemuGuest(replace(image, disk=disk), *args, memory_mib=memory_mib) as guest:
        guest.check("sync")
        if prepare is not None:
            prepare(guest)
        guest.check("sync; echo 3 > /proc/sys/vm/drop_caches")
        guest.qmp("stop")
        if isinstance(image, Snapshot):  # writes go to a temporary overlay
            guest.qmp("human-monitor-command", command_line="commit all")
        guest.qmp("migrate", uri=f"exec:cat > '{work / 'state'}'")
        deadline = time.monotonic() + _SAVE_S
        while (status := guest.qmp("query-migrate").get("status")) != "completed":
            if status == "failed" or time.monotonic() > deadline:
                raise AssertionError("the guest's state could not be saved")
            time.sleep(LOOK_EVERY_S)
        guest.qmp("quit")
        guest.wait_ended()


def overlay(disk: Path, path: Path) -> Path:
    """Create a qcow2 file at `path` for all writes, backed by `disk`."""
    kind = "qcow2" if disk.suffix == ".qcow2" else "raw"
    program("qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", kind, path)
    return path
