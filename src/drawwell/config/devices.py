"""The table of noise devices, devices.toml, read here and nowhere else."""

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

_FTDI: Final = "0403:6015"  # the chip maker's number, which every cable with that chip has
STREAM: Final = "stream"
ONE_SHOT: Final = "one-shot"


@dataclass(frozen=True, slots=True)
class DeviceKind:
    """A kind of device.

    `usb` has its vendor:product numbers; with the number of a chip that others use as
    well, its product string must contain `product`. `hwrng` is how its driver's name
    begins in rng_available. `driver`, `command`, `manner` and `start` are settings of
    [[source]]. `node` is the kernel's name of its node, without the number, and
    `module` the kernel's driver; `package` has the program that reads it. `made_of`
    describes the samples, and what the maker did to the noise. `claim` is the reason
    for `min_entropy`, in bits a byte; `seen` is how far all this was tried.
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
    """What `command` needs, where its first text is a shell."""
    manner: str = STREAM
    start: tuple[str, ...] = ()

    def is_usb(self, usb_id: str, product: str) -> bool:
        """Is it this kind, by its numbers and its product string?"""
        return usb_id in self.usb and (usb_id != _FTDI or self.product.lower() in product.lower())

    def section(self, path: str = "") -> str:
        """Write the [[source]] that reads it; `path` is its node."""
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
"""Every device that is known, by its name."""


def usb_kind(usb_id: str, product: str) -> DeviceKind | None:
    """Return the kind of a device on USB, None for what is no noise device."""
    return next((kind for kind in DEVICES.values() if kind.is_usb(usb_id, product)), None)


def generator_kind(rng_current: str) -> DeviceKind:
    """Return the kind of a generator behind /dev/hwrng.

    The last one in the table stands for all boards.
    """
    fitting = (
        kind for kind in DEVICES.values() if kind.hwrng is not None and rng_current.startswith(kind.hwrng)
    )
    return next(fitting)
