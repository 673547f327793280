"""The drivers of noise sources, one entry each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from drawwell.config.devices import DeviceKind

ONERNG: Final = "onerng"
_PLUG_IN: Final = "Plug it in, and look at 'dmesg'; where it is a process of its own, at 'systemctl status'."
_LOAD: Final = (
    "Load its kernel driver: 'modprobe {module}'. A virtual machine that has the device keeps it from here."
)


@dataclass(frozen=True, slots=True)
class DriverKind:
    """A driver.

    `module` has a function ``make(section)``; it is imported only where a source runs
    (law 10). `settings` are those of [[source]] that only some drivers have, and `required`
    must be given. `min_entropy` is the default claim, 0 for none. `when_off` and
    `without_node` are doctor's hints. The devices that it reads stand in devices.toml.
    """

    module: str
    reads: str
    settings: tuple[str, ...]
    required: tuple[str, ...] = ()
    path: str = ""
    min_entropy: float = 0.0
    one_bit_samples: bool = False
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
        without_node=_LOAD,
    ),
    "chardev": DriverKind(
        "drawwell.drivers.chardev",
        "any device or FIFO",
        ("path", "allow_os_generator", "hwrng", "start"),
        required=("path",),
        without_node=_LOAD,
    ),
    "exec": DriverKind(
        "drawwell.drivers.execute",
        "a program's standard output",
        ("command", "manner", "every"),
        required=("command",),
        when_off="Start its program by hand, and look at its output.",
        without_node="Its own program reads it, from package {package}: 'drawwell doctor' writes its [[source]].",
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


def hint_without_node(device: DeviceKind) -> str:
    """Return how a device that has no node is read."""
    return DRIVERS[device.driver].without_node.format(module=device.module, package=device.package)
