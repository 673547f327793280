"""Finds out which of a guest's virtio-rng devices this broker feeds."""

import argparse
import time
from typing import Final

from drawwell.cli.guest.arguments import known
from drawwell.guests.inside.probes import REQUEST_BYTES, look, select
from drawwell.guests.inside.scripts import Look
from drawwell.guests.model import GuestFinding, GuestVerdict, Inside

CURRENT: Final = "/sys/class/misc/hw_random/rng_current"
_PREFIX: Final = "virtio_rng"
_REQUESTS: Final = 8
_TAKES_S: Final = 15.0
"""How long the requests may take in the guest."""
_SETTLES_S: Final = 5.0
"""How long the requests may then take at the broker's socket."""
_COMES_S: Final = 60.0
"""How long a guest may take to detect a newly plugged-in device."""
_LOOK_EVERY_S: Final = 0.2


def virtio_rngs(seen: Look) -> tuple[str, ...]:
    """Return the kernel's names for the guest's virtio-rng devices."""
    return tuple(each for each in seen.available if each.startswith(_PREFIX))


def ours_of(args: argparse.Namespace, inside: Inside, seen: Look) -> str:
    """Return the device that this broker feeds, or "".

    The guest reads from one device after the other; each time, its current device is restored.
    """
    for each in virtio_rngs(seen):
        before = _consumed(args)
        select(inside, each, _REQUESTS, _TAKES_S)
        deadline = time.monotonic() + _SETTLES_S
        while time.monotonic() < deadline:
            if _consumed(args) - before >= _REQUESTS * REQUEST_BYTES // 2:
                return each
            time.sleep(_LOOK_EVERY_S)
    return ""


def make_current(args: argparse.Namespace, inside: Inside) -> str | None:
    """Make the guest's kernel read this broker's device.

    Returns:
        The kernel's name for the device, "" if the kernel already reads it, or None if no
        device of the guest gets this broker's bytes.
    """
    deadline = time.monotonic() + _COMES_S
    while not (ours := ours_of(args, inside, seen := look(inside))):
        if time.monotonic() > deadline:
            return None
        time.sleep(_LOOK_EVERY_S)
    if ours == seen.current:
        return ""
    select(inside, ours)
    return ours


def finding(args: argparse.Namespace, inside: Inside, seen: Look) -> GuestFinding | None:
    """Check which of several devices the guest reads; None if it has only one."""
    names = virtio_rngs(seen)
    if len(names) < 2:
        return None
    what, ours = "of several virtio-rng devices, the guest reads this broker's", ours_of(args, inside, seen)
    if ours and ours == seen.current:
        return GuestFinding(what, GuestVerdict.HOLDS, f"{ours} of {', '.join(names)}", inside=True)
    if ours:
        hint = f"In the guest: echo {ours} > {CURRENT}"
        detail = f"this broker's device is {ours}, but the guest's kernel reads {seen.current or 'none'}"
        return GuestFinding(what, GuestVerdict.FAILS, detail, True, hint)
    detail = f"this broker feeds none of {', '.join(names)}"
    return GuestFinding(what, GuestVerdict.FAILS, detail, True, "Apply the plan for the guest.")


def _consumed(args: argparse.Namespace) -> int:
    entry = known(args, needed=False)
    return int(entry["consumed_bytes"]) if entry else 0
