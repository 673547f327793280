"""Detection of virtual machines that can notice being copied."""

import os
from dataclasses import dataclass
from typing import Final

from drawwell.host.generation import KERNEL_LOG
from drawwell.reports import Report

_DRIVERS: Final = ("sys/bus/platform/drivers/vmgenid", "sys/bus/acpi/drivers/vmgenid")
"""The driver of the VM generation ID; before Linux 6.10, an ACPI driver."""
_MAKERS: Final = (
    "QEMU", "KVM", "Amazon EC2", "Google", "VMware", "innotek", "Xen", "Microsoft Corporation", "OpenStack",
    "Parallels", "BHYVE", "Apple Virtualization", "DigitalOcean", "Hetzner", "Alibaba",
)  # fmt: skip
"""Vendors or products of virtual machines, for processors without the flag (ARM)."""


@dataclass(frozen=True, slots=True)
class VirtualFacts(Report):
    """Facts about virtualisation.

    `generation_id`: the kernel has a driver for this ID and reseeds after a copy.
    `log_readable`: this process can read the kernel's log, where every version announces a
    copy.
    """

    virtual: bool
    generation_id: bool
    log_readable: bool


def virtual_facts(root: str = "/") -> VirtualFacts:
    """Read the facts; `root` is the directory that contains proc, sys and dev."""
    return VirtualFacts(
        virtual=_hypervisor_flag(root) or _made_by_hypervisor(root),
        generation_id=any(_bound(os.path.join(root, driver)) for driver in _DRIVERS),
        log_readable=_log_readable(os.path.join(root, KERNEL_LOG.lstrip("/"))),
    )


def _hypervisor_flag(root: str) -> bool:
    for line in _text(root, "proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return "hypervisor" in value.split()
    return False


def _made_by_hypervisor(root: str) -> bool:
    if os.path.isdir(os.path.join(root, "proc/device-tree/hypervisor")) or _text(root, "sys/hypervisor/type"):
        return True
    names = (_text(root, f"sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name"))
    return any(name.startswith(_MAKERS) for name in names)


def _bound(driver: str) -> bool:
    """Return whether a device uses this driver, shown by a link in sysfs."""
    try:
        with os.scandir(driver) as entries:
            return any(entry.is_symlink() and entry.name != "module" for entry in entries)
    except OSError:
        return False


def _log_readable(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def _text(root: str, path: str) -> str:
    try:
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
