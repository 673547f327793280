"""The drivers of noise sources, one entry each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

ONERNG: Final = "onerng"
_PLUG_IN: Final = "Plug it in, and look at 'dmesg'; where it is a process of its own, at 'systemctl status'."
_LOAD: Final = (
    "Load its kernel driver: 'modprobe {}'. A virtual machine that has the device keeps it from here."
)


@dataclass(frozen=True, slots=True)
class DriverKind:
    """A driver.

    `module` has a function ``make(section)``; it is imported only where a source runs
    (law 10). `settings` are those of [[source]] that only some drivers have, and `required`
    must be given. `min_entropy` is the default claim, 0 for none. `usb` has the devices it
    reads, by vendor:product as in the makers' udev rules; `found_min_entropy` is claimed for
    one that is read without a [[source]]. `when_off` and `without_node` are doctor's hints.
    """

    module: str
    reads: str
    settings: tuple[str, ...]
    required: tuple[str, ...] = ()
    path: str = ""
    min_entropy: float = 0.0
    one_bit_samples: bool = False
    usb: Mapping[str, str] = field(default_factory=dict)
    found_min_entropy: float = 0.0
    when_off: str = _PLUG_IN
    without_node: str = ""


DRIVERS: Final = {
    ONERNG: DriverKind(
        "drawwell.drivers.onerng",
        "a OneRNG",
        ("path", "mode", "verify_firmware", "firmware_key"),
        path="auto",
        min_entropy=6.0,  # of cmd1, until it is assessed; its documented bias gives 6.9 and more
        one_bit_samples=True,  # packed by the byte: the claim holds for every bit
        usb={"1d50:6086": "OneRNG"},
        without_node=_LOAD.format("cdc_acm"),
    ),
    "chardev": DriverKind(
        "drawwell.drivers.chardev",
        "any device or FIFO",
        ("path", "allow_os_generator", "hwrng"),
        required=("path",),
        usb={
            "04d8:f5fe": "TrueRNG",
            "16d0:0aa0": "TrueRNGpro",
            "04d8:ebb5": "TrueRNGpro V2",
            "1d50:60c6": "ChaosKey",
            "234b:0001": "NeuG",
        },
        found_min_entropy=4.0,  # half of what the makers promise
        without_node=_LOAD.format("cdc_acm' or 'modprobe chaoskey"),
    ),
    "exec": DriverKind(
        "drawwell.drivers.execute",
        "a program's standard output",
        ("command",),
        required=("command",),
        usb={
            "1209:3701": "Infinite Noise",
            "0403:7840": "BitBabbler",
            "1fc9:8110": "SwiftRNG",
            "1fc9:8111": "SwiftRNG",
            **{f"3975:000{number}": "SwiftRNG" for number in range(1, 5)},
            "20df:0001": "Entropy Key",
        },
        when_off="Start its program by hand, and look at its output.",
        without_node='Its own program reads it: add a [[source]] with driver = "exec" and that as its command.',
    ),
    "replay": DriverKind(
        "drawwell.drivers.replay",
        "a recorded file",
        ("path", "allow_os_generator", "loop"),
        required=("path",),
        min_entropy=6.0,
        when_off="Look whether the file is there, and whether it has been played to its end.",
    ),
}
DEVICES: Final = {usb_id: name for kind in DRIVERS.values() for usb_id, name in kind.usb.items()}
"""The name of every device that is known, by vendor:product."""
DRIVER_OF: Final = {device: name for name, kind in DRIVERS.items() for device in kind.usb.values()}
"""The driver of every device that is known, by the device's name."""
ONLY_FOR: Final = {
    setting: tuple(name for name, kind in DRIVERS.items() if setting in kind.settings)
    for setting in dict.fromkeys(setting for kind in DRIVERS.values() for setting in kind.settings)
}
"""Settings of [[source]] that some drivers do not have, and the drivers that have them."""


def reads() -> str:
    """List what the drivers read."""
    *most, last = (kind.reads for kind in DRIVERS.values())
    return f"{', '.join(most)}, or {last}"


def defaults(setting: str, of: Callable[[DriverKind], str]) -> str:
    """List a setting's defaults by driver: ``6.0 for onerng and replay``."""
    drivers: dict[str, list[str]] = {}
    for name in ONLY_FOR.get(setting, DRIVERS):
        drivers.setdefault(of(DRIVERS[name]) or "must be given", []).append(name)
    return ", ".join(f"{default} for {' and '.join(names)}" for default, names in drivers.items())
