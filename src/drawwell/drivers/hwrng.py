"""The generator behind /dev/hwrng, which the kernel exchanges by itself.

The kernel takes the best generator that is registered (hwrng_register and hwrng_unregister in
drivers/char/hw_random/core.c of Linux), and a descriptor that is open stays good meanwhile.
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
    """The kernel's hardware generators; "" and () where it lists none."""

    current: str
    available: tuple[str, ...]

    @property
    def vouched(self) -> bool:
        """Is the current one a chip's? virtio_rng passes on whatever the host has."""
        return bool(self.current) and self.current != NONE and not self.current.startswith("virtio")


def generators(sysfs: str = "/sys") -> Generators:
    """Read which generators there are, and which one is behind /dev/hwrng now."""
    available = (each for each in _text(sysfs, "rng_available").split() if each != NONE)
    return Generators(_text(sysfs, "rng_current"), tuple(available))


class GeneratorPin:
    """The generator that a source was opened with.

    Args:
        path: The node, for messages.
        wanted: What the generator's name begins with; "" takes any.
        sysfs: Where the kernel's device tree is mounted.

    Raises:
        SourceUnavailable: none is there, or another than the wanted one.
    """

    def __init__(self, path: str, wanted: str = "", sysfs: str = "/sys") -> None:
        self._path = path
        self._sysfs = sysfs
        now = generators(sysfs)
        self.generator, self.vouched = now.current, now.vouched
        if self.generator == NONE:
            raise SourceUnavailable(
                f"no hardware generator is behind {path}", hint="Load its driver, such as virtio_rng."
            )
        if not self.generator.startswith(wanted):
            raise SourceUnavailable(
                f'{path} is {self.generator or "of an unknown generator"}, and hwrng = "{wanted}"',
                hint=_take_it(next((each for each in now.available if each.startswith(wanted)), "")),
            )

    def check(self) -> None:
        """Compare with what is behind the node now.

        Raises:
            SourceUnavailable: it is another one.
        """
        if (now := _text(self._sysfs, "rng_current")) != self.generator:
            raise SourceUnavailable(
                f"rng_current changed from {self.generator} to {now}: {self._path} is another generator now",
                hint="The source begins again as what it is now. To insist on one, set hwrng to its name.",
            )


def _take_it(generator: str) -> str:
    if not generator:
        return "Plug it in, or load its driver; 'cat /sys/class/misc/hw_random/rng_available' lists them."
    return f"Have the kernel take it: 'echo {generator} > /sys/class/misc/hw_random/rng_current'."


def _text(sysfs: str, name: str) -> str:
    try:
        with open(os.path.join(sysfs, _FOLDER, name), encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
