"""The generator behind /dev/hwrng, which the kernel can replace.

When a better generator is registered or the current one is removed, the kernel switches to the
best generator (hwrng_register and hwrng_unregister in drivers/char/hw_random/core.c of Linux).
File descriptors that are already open then read from the new generator.
"""

import os
from dataclasses import dataclass
from typing import Final

from drawwell.errors import SourceUnavailable

HWRNG: Final = os.makedev(10, 183)  # Linux Documentation/admin-guide/devices.txt
NONE: Final = "none"
_FOLDER: Final = "class/misc/hw_random"


@dataclass(frozen=True, slots=True)
class Generators:
    """The kernel's hardware generators; "" and () if none are listed."""

    current: str
    available: tuple[str, ...]

    @property
    def vouched(self) -> bool:
        """Whether the current generator is a chip; virtio_rng forwards host bytes."""
        return bool(self.current) and self.current != NONE and not self.current.startswith("virtio")


def generators(sysfs: str = "/sys") -> Generators:
    """Read the list of generators behind /dev/hwrng, and the current one."""
    available = (each for each in _text(sysfs, "rng_available").split() if each != NONE)
    return Generators(_text(sysfs, "rng_current"), tuple(available))


class GeneratorPin:
    """The generator that was active when the source was opened.

    Args:
        path: The node, for error messages.
        wanted: Prefix of the required generator's name; "" for any.
        sysfs: Where sysfs is mounted.

    Raises:
        SourceUnavailable: there is no generator, or not the required one.
    """

    def __init__(self, path: str, wanted: str = "", sysfs: str = "/sys") -> None:
        self._path = path
        self._sysfs = sysfs
        now = generators(sysfs)
        self.generator, self.vouched = now.current, now.vouched
        if self.generator == NONE:
            raise SourceUnavailable(
                f"{path} has no hardware generator", hint="Load its driver, such as virtio_rng."
            )
        if not self.generator.startswith(wanted):
            raise SourceUnavailable(
                f'{path} uses {self.generator or "an unknown generator"}, but hwrng = "{wanted}"',
                hint=_take_it(next((each for each in now.available if each.startswith(wanted)), "")),
            )

    def check(self) -> None:
        """Check that the generator is still the current one.

        Raises:
            SourceUnavailable: the kernel has switched to another generator.
        """
        if (now := _text(self._sysfs, "rng_current")) != self.generator:
            raise SourceUnavailable(
                f"rng_current changed from {self.generator} to {now}, which now serves {self._path}",
                hint="The source restarts with the new generator. To require one of them, set hwrng to its name.",
            )


def _take_it(generator: str) -> str:
    if not generator:
        return "Plug it in, or load its driver; 'cat /sys/class/misc/hw_random/rng_available' lists all generators."
    return f"Select it: 'echo {generator} > /sys/class/misc/hw_random/rng_current'."


def _text(sysfs: str, name: str) -> str:
    try:
        with open(os.path.join(sysfs, _FOLDER, name), encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
