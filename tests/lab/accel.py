"""Detect working KVM: on some hosts /dev/kvm opens but no guest boots."""

import functools
import os
import sys
from pathlib import Path
from typing import Final

from lab.cache import NoLab, kept

_PROBE_S: Final = 20.0  # short: a slow guest is useless
"""With KVM, the probe's guest boots within two seconds."""


@functools.cache
def accelerator() -> str:
    """Return ``kvm`` or ``tcg``, as $DRAWWELL_LAB_ACCEL or a probe decides."""
    wish = os.environ.get("DRAWWELL_LAB_ACCEL", "")
    if wish in {"kvm", "tcg"}:
        return wish
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    host = {"boot": Path("/proc/sys/kernel/random/boot_id").read_text(), "release": os.uname().release}
    return (kept("accel", host, _probe) / "accel").read_text()


def _probe(work: Path) -> None:
    from lab.console import GuestFailed
    from lab.guest import QemuGuest
    from lab.initramfs import tiny

    guest = QemuGuest(tiny(), accel="kvm", agent=False)
    try:
        with guest:
            guest.console.wait_ready(_PROBE_S)
    except (GuestFailed, NoLab, OSError, EOFError) as reason:
        sys.stderr.write(f"lab: /dev/kvm opens but no guest boots under it ({reason}): TCG is used\n")
        (work / "accel").write_text("tcg")
    else:
        (work / "accel").write_text("kvm")
