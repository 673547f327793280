"""The package installed in a lab root, with a passed-through stick."""

import json
import os
import shutil
from pathlib import Path
from typing import Any, Final

from lab.roots import Root

PORT: Final = "1-1.2"
UNIT: Final = r"drawwell-source@pci\x2d0000:00:14.0\x2dusb\x2d0:1.2.service"
"""The unit of a stick at that port."""
_SYSFS: Final = """
device=/host/devices/pci0000:00/0000:00:14.0/usb1/1-1/{port}
interface=$device/{port}:1.0
mkdir -p $interface/tty/ttyACM0 /host/bus/usb/devices /host/bus/usb/drivers/cdc_acm /host/bus/pci /host/dev/char
echo 1d50 >$device/idVendor
echo 6086 >$device/idProduct
echo {numbers} >$interface/tty/ttyACM0/dev
ln -s /host/bus/usb/drivers/cdc_acm $interface/driver
ln -s ../.. $interface/tty/ttyACM0/device
ln -s /host/bus/pci /host/devices/pci0000:00/0000:00:14.0/subsystem
ln -s $device /host/bus/usb/devices/{port}
ln -s $interface/tty/ttyACM0 /host/dev/char/{numbers}
mount --bind /host/bus /sys/bus
mount --bind /host/dev /sys/dev
"""


def install(root: Root, deb: Path) -> str:
    """Install with apt, as the manual shows; return its output."""
    shutil.copy(deb, root.path / "root" / "drawwell.deb")
    return root.run("apt-get", "install", "--yes", "--no-install-recommends", "/root/drawwell.deb").stdout


def pass_through(root: Root, node: str) -> None:
    """Make sysfs show a container's node as a OneRNG at port `PORT`."""
    device = os.stat(node).st_rdev
    numbers = f"{os.major(device)}:{os.minor(device)}"
    root.run("sh", "-ec", _SYSFS.format(numbers=numbers, port=PORT))


def status(root: Root) -> dict[str, Any]:
    """Return the output of ``drawwell status``, or ""."""
    done = root.run("drawwell", "--quiet", "--json", "status", check=False)
    return json.loads(done.stdout) if done.returncode == 0 else {}


def ready(root: Root) -> bool:
    """Return whether a broker is serving."""
    return bool(status(root).get("ready"))


def shown(root: Root, unit: str, name: str) -> str:
    """Return a property of a unit."""
    return root.output("systemctl", "show", "--value", f"--property={name}", unit)


def follow(root: Root, step: tuple[str, str], data: str = "") -> str:
    """Perform a step of a page: write a file or run a command; return output."""
    path, text = step
    if path:
        (root.path / path.lstrip("/")).write_text(text)
        return ""
    return root.run("sh", "-ec", f"mkdir -p /root/page; cd /root/page; {text}", data=data).stdout
