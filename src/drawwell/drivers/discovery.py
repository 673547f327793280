"""Find plugged-in noise devices and their nodes in sysfs and /proc.

Every OneRNG has the serial number "00", so a device is identified by its port. Its stable
name is udev's ID_PATH, also found in /dev/serial/by-path.
"""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from drawwell.config.devices import usb_kind
from drawwell.errors import SourceUnavailable
from drawwell.host.holders import describe_holders, holders
from drawwell.onerng.usb import VIRTUAL_PRODUCT
from drawwell.reports import Report

ONERNG: Final = "OneRNG"
_USBFS: Final = "usbfs"
_PCI_ADDRESS: Final = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_PCI_PLACE: Final = re.compile(r"pci[0-9a-f]{4}:[0-9a-f]{2}|" + _PCI_ADDRESS.pattern)


@dataclass(frozen=True, slots=True)
class UsbDevice(Report):
    """A known noise device on USB.

    `path` is the device node; "" if the device has no driver, or no node in this container.
    `bound_driver` is the kernel driver of its first bound interface, or "". `usb_path` is the
    kernel's name for the port, such as ``1-1.2``.
    """

    kind: str
    usb_id: str
    path: str
    stable_name: str
    usb_path: str
    bound_driver: str
    product: str = ""

    @property
    def virtual(self) -> bool:
        """Whether the device is a virtual OneRNG, fed by a broker on the host."""
        return self.kind == ONERNG and self.product == VIRTUAL_PRODUCT


def discover(sysfs: str = "/sys", dev: str = "/dev") -> tuple[UsbDevice, ...]:
    """Return the known noise devices in the order of their ports."""
    devices = sorted(Path(sysfs, "bus/usb/devices").glob("*"))
    return tuple(found for entry in devices if (found := _known_device(entry, dev)))


def find_onerng(sysfs: str = "/sys", dev: str = "/dev") -> UsbDevice:
    """Return the only OneRNG.

    Raises:
        SourceUnavailable: there is no OneRNG, there are several, or the OneRNG has no node.
    """
    found = [device for device in discover(sysfs, dev) if device.kind == ONERNG]
    if not found:
        others = ", ".join(device.kind for device in discover(sysfs, dev))
        hint = "Plug one in, set its node, or try 'drawwell source simulate --link ./onerng'."
        if others:
            hint = f"{others} is plugged in: 'drawwell doctor' shows its [[source]] section."
        raise SourceUnavailable("no OneRNG is plugged in", hint=hint)
    if len(found) > 1:
        nodes = " or ".join(f"{device.path} ({device.stable_name})" for device in found)
        raise SourceUnavailable(f"{len(found)} OneRNGs are plugged in", hint=f"Name one of them: {nodes}.")
    if not found[0].path:
        raise _without_node(found[0], sysfs, dev)
    return found[0]


def _without_node(device: UsbDevice, sysfs: str, dev: str) -> SourceUnavailable:
    """Return the error; name the process (such as a VM) that uses the device."""
    entry = Path(sysfs, "bus/usb/devices", device.usb_path)
    bus, number = (_read(entry / each).zfill(3) for each in ("busnum", "devnum"))
    who = holders(os.path.join(dev, "bus/usb", bus, number)) if device.bound_driver in {"", _USBFS} else ()
    if not who and device.bound_driver != _USBFS:
        return SourceUnavailable(
            f"the OneRNG on port {device.usb_path} has no node",
            hint="Load the kernel's driver with 'modprobe cdc_acm'. If it is loaded, unplug the device and "
            "plug it in again: a process detached the driver and ended without attaching it again.",
        )
    return SourceUnavailable(
        f"the OneRNG on port {device.usb_path} was taken by {describe_holders(who)}",
        hint="If a virtual machine has it, wait until the machine ends, or take it back: "
        "'drawwell guest apply KIND NAME --remove'.",
    )


def stable_name_of(node: str, sysfs: str = "/sys", dev: str = "/dev") -> str:
    """Return the stable name of the known device behind a node, or ""."""
    device = device_of(node, sysfs, dev)
    return device.stable_name if device else ""


def lasting_path(node: str, dev: str = "/dev") -> str:
    """Return a path to the node that survives replugging, or the node itself."""
    links = sorted(link for folder in ("drawwell", "serial/by-path") for link in Path(dev, folder).glob("*"))
    return next((str(link) for link in links if os.path.realpath(link) == node), node)


def numbers_of(status: os.stat_result) -> str:
    """Return numbers that identify a node or file, regardless of its name."""
    if stat.S_ISCHR(status.st_mode):
        return f"device {os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    return f"file {status.st_ino} on {os.major(status.st_dev)}:{os.minor(status.st_dev)}"


def device_of(node: str, sysfs: str = "/sys", dev: str = "/dev") -> UsbDevice | None:
    """Return the known device behind a node, or None for any other node."""
    real = os.path.realpath(node)
    return next((device for device in discover(sysfs, dev) if device.path == real), None)


def _known_device(entry: Path, dev: str) -> UsbDevice | None:
    usb_id = f"{_read(entry / 'idVendor')}:{_read(entry / 'idProduct')}"
    product = _read(entry / "product")
    kind = usb_kind(usb_id, product)
    if kind is None:
        return None
    nodes = sorted((node for kind in ("tty", "usbmisc") for node in entry.glob(f"*:*/{kind}/*")), key=_name)
    drivers = sorted(os.path.basename(os.readlink(link)) for link in entry.glob("*:*/driver"))
    return UsbDevice(
        kind=kind.name,
        usb_id=usb_id,
        path=_node(nodes[0], dev) if nodes else "",
        stable_name=_stable_name(entry),
        usb_path=entry.name,
        bound_driver=drivers[0] if drivers else "",
        product=product,
    )


def _name(path: Path) -> str:
    return path.name


def _node(entry: Path, dev: str) -> str:
    """Find the node by the device's numbers, because containers may rename it."""
    usual = os.path.join(dev, entry.name)
    numbers = _read(entry / "dev")
    if not numbers or _numbers(usual) == numbers:
        return usual
    others = sorted(found.path for found in os.scandir(dev) if _numbers(found.path) == numbers)
    return others[0] if others else ""


def _numbers(path: str) -> str:
    """Return a character device's ``major:minor``; "" for other files."""
    try:
        status = os.lstat(path)
    except OSError:
        return ""
    if not stat.S_ISCHR(status.st_mode):
        return ""
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def _stable_name(entry: Path) -> str:
    """Return udev's ID_PATH: the host controller and the ports behind it."""
    device = entry.resolve()
    buses = [at for at in device.parents if re.fullmatch(r"usb\d+", at.name)]
    controller = buses[-1].parent if buses else Path("unknown")
    name = f"{controller.name}-usb-0:{entry.name.partition('-')[2]}"
    if not _PCI_ADDRESS.fullmatch(controller.name):
        return f"platform-{name}"
    above = next((at for at in controller.parents if not _PCI_PLACE.fullmatch(at.name)), controller)
    on_board = os.path.basename(os.path.realpath(above / "subsystem")) == "platform"
    return f"platform-{above.name}-pci-{name}" if on_board else f"pci-{name}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
