"""The drivers for noise sources: one table entry per driver."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # the table of devices is loaded only where it is needed
    from drawwell.config.devices import DeviceKind

STREAM: Final = "stream"
ONE_SHOT: Final = "one-shot"
ONERNG: Final = "onerng"
_PLUG_IN: Final = (
    "Plug it in and check 'dmesg'. If the source is a service, see 'systemctl status \"drawwell-*\"'."
)
_LOAD: Final = (
    "Load the kernel driver: 'modprobe {module}'. A virtual machine that uses the device must release it."
)


@dataclass(frozen=True, slots=True)
class DriverKind:
    """A driver.

    `module` contains a function ``make(section)`` and is imported only where a source runs
    (law 10). `settings` lists the keys of [[source]] that only some drivers have. `required`
    lists the mandatory keys. `min_entropy` is the default claim, 0 for none. `when_off` and
    `without_node` are hints for doctor. devices.toml lists the devices of each driver.
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
        min_entropy=6.0,  # for cmd1, until it is assessed; the documented bias gives 6.9 or more
        one_bit_samples=True,  # packed bits: the claim applies to every bit
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
        when_off="Run the source's program by hand and check its output.",
        without_node="Install package {package}, which reads the device. 'drawwell doctor' prints its [[source]].",
    ),
    "replay": DriverKind(
        "drawwell.drivers.replay",
        "a recorded file",
        ("path", "allow_os_generator", "loop"),
        required=("path",),
        min_entropy=6.0,
        when_off="Check that the file exists and has not been replayed to its end.",
    ),
}
ONLY_FOR: Final = {
    setting: tuple(name for name, kind in DRIVERS.items() if setting in kind.settings)
    for setting in dict.fromkeys(setting for kind in DRIVERS.values() for setting in kind.settings)
}
"""The settings of [[source]] that only some drivers have, with those drivers."""


def reads() -> str:
    """List what each driver reads."""
    *most, last = (kind.reads for kind in DRIVERS.values())
    return f"{', '.join(most)}, or {last}"


def defaults(setting: str, of: Callable[[DriverKind], str]) -> str:
    """List a setting's defaults by driver: ``6.0 for onerng and replay``."""
    drivers: dict[str, list[str]] = {}
    for name in ONLY_FOR.get(setting, DRIVERS):
        drivers.setdefault(of(DRIVERS[name]) or "required", []).append(name)
    return ", ".join(f"{default} for {' and '.join(names)}" for default, names in drivers.items())


def hint_without_node(device: "DeviceKind") -> str:
    """Return the hint for a device that has no node."""
    return DRIVERS[device.driver].without_node.format(module=device.module, package=device.package)
