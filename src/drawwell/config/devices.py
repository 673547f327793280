"""Loads the table of noise devices, devices.toml."""

import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from drawwell.config.drivers import STREAM

_FTDI: Final = "0403:6015"  # FTDI's number, which every cable with this chip has


@dataclass(frozen=True, slots=True)
class DeviceKind:
    """A kind of device.

    `usb` lists its vendor:product numbers. If unrelated devices share a number, the
    product string must contain `product`. `hwrng` is the start of the name in
    rng_available. `driver`, `command`, `manner` and `start` are settings of [[source]].
    `node` is the name of the device node without the number, `module` the kernel module
    and `package` the package with the program that reads the device. `made_of` describes
    the samples and how the vendor processed the noise. `claim` is the reason for
    `min_entropy` (bits per byte), and `seen` is how the support was tested.
    """

    name: str
    driver: str
    made_of: str
    min_entropy: float
    claim: str
    seen: str
    usb: tuple[str, ...] = ()
    product: str = ""
    hwrng: str | None = None
    node: str = ""
    module: str = ""
    package: str = ""
    command: tuple[str, ...] = ()
    program: str = ""
    """The program that `command` needs, if `command` starts a shell."""
    manner: str = STREAM
    start: tuple[str, ...] = ()

    @property
    def reader(self) -> str:
        """The program that reads the device, or "" if it is read at a node."""
        return self.program or next(iter(self.command), "")

    def is_usb(self, usb_id: str, product: str) -> bool:
        """Return whether USB numbers and product string match this kind."""
        return usb_id in self.usb and (usb_id != _FTDI or self.product.lower() in product.lower())

    def is_read_by(self, command: Sequence[str]) -> bool:
        """Return whether a source's command runs the program of this device."""
        return bool(self.reader) and (tuple(command) == self.command or self.reader in programs(command))

    def section(self, path: str = "") -> str:
        """Return a [[source]] table for the device at node `path`."""
        name = re.sub(r"[^a-z0-9]+", "", self.name.lower())
        settings: dict[str, Any] = {"name": name, "driver": self.driver}
        if self.command:
            settings |= {"command": list(self.command)}
            settings |= {"manner": self.manner} if self.manner != STREAM else {}
        else:
            settings |= {"path": path}
            settings |= {"start": list(self.start)} if self.start else {}
        settings |= {"min_entropy": self.min_entropy}
        return "\n".join(["[[source]]", *(f"{key} = {json.dumps(value)}" for key, value in settings.items())])


def _read() -> Iterator[DeviceKind]:
    text = files(__package__).joinpath("devices.toml").read_text(encoding="utf-8")
    for each in tomllib.loads(text)["device"]:
        settings: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in each.items()
        }
        yield DeviceKind(**settings)


DEVICES: Final = {kind.name: kind for kind in _read()}
"""All known devices by name."""


def programs(command: Sequence[str]) -> set[str]:
    """Return the parts of a command that can be names of programs."""
    return {word.rpartition("/")[2] for word in re.split(r"[\s;|&()'\"]+", " ".join(command))}


def usb_kind(usb_id: str, product: str) -> DeviceKind | None:
    """Return the kind of a USB device, or None if it is not a noise device."""
    return next((kind for kind in DEVICES.values() if kind.is_usb(usb_id, product)), None)


def generator_kind(rng_current: str) -> DeviceKind:
    """Return the kind of the generator behind /dev/hwrng.

    The last entry of the table matches any board.
    """
    fitting = (
        kind for kind in DEVICES.values() if kind.hwrng is not None and rng_current.startswith(kind.hwrng)
    )
    return next(fitting)
