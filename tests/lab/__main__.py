"""Time the lab with an empty and a full cache: ``python -m lab``."""

import os
import sys
import tempfile
import time
from collections.abc import Callable

from lab.debian import debian
from lab.guest import QemuGuest
from lab.initramfs import tiny
from lab.kernels import kernel
from lab.snapshot import snapshot


def seconds(call: Callable[[], object]) -> float:
    """Return the duration of a call."""
    began = time.monotonic()
    call()
    return time.monotonic() - began


def boot(make: Callable[[], object]) -> float:
    """Return the time until the first command in a guest of this image."""
    with QemuGuest(make()) as guest:  # type: ignore[arg-type]
        return guest.boot_s


def main() -> None:
    """Print a table of seconds for building, loading and booting."""
    things: dict[str, Callable[[], object]] = {
        "cloud": tiny,
        "full": lambda: tiny("full"),
        "debian": debian,
        "cloud snapshot": lambda: snapshot(tiny()),
        "debian snapshot": lambda: snapshot(debian()),
    }
    with tempfile.TemporaryDirectory() as empty:
        if "--here" not in sys.argv:
            os.environ["DRAWWELL_LAB"] = empty
        kernel.cache_clear()
        sys.stdout.write(f"{'image':<18}{'cold s':>8}{'warm s':>8}{'boot s':>8}\n")
        for name, make in things.items():
            cold, warm = seconds(make), seconds(make)
            sys.stdout.write(f"{name:<18}{cold:>8.1f}{warm:>8.2f}{boot(make):>8.1f}\n")
            sys.stdout.flush()


main()
