"""Say how long the lab takes from an empty cache and from a full one: ``PYTHONPATH=tests python -m lab``."""

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
    """How long a call takes."""
    began = time.monotonic()
    call()
    return time.monotonic() - began


def boot(make: Callable[[], object]) -> float:
    """How long the guest of an image takes to its first command."""
    with QemuGuest(make()) as guest:  # type: ignore[arg-type]
        return guest.boot_s


def main() -> None:
    """Print a table: seconds to make it, to have it again, and to boot it."""
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
