"""Find which of a guest's virtio-rng devices this broker feeds."""

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
_TAKES_S: Final = 5.0
"""How long reading them, and the machine's taking them from the socket, may last."""
_COMES_S: Final = 10.0
"""How long a guest may take to find a device that was plugged in just now."""
_LOOK_EVERY_S: Final = 0.2


def virtio_rngs(seen: Look) -> tuple[str, ...]:
    """Return the kernel's names of its virtio-rng devices."""
    return tuple(each for each in seen.available if each.startswith(_PREFIX))


def ours_of(args: argparse.Namespace, inside: Inside, seen: Look) -> str:
    """Return the one that is charged to this broker's account, "" for none.

    The current one is current again afterwards.
    """
    for each in virtio_rngs(seen):
        before = _consumed(args)
        select(inside, each, _REQUESTS, _TAKES_S)
        deadline = time.monotonic() + _TAKES_S
        while time.monotonic() < deadline:
            if _consumed(args) - before >= _REQUESTS * REQUEST_BYTES // 2:
                return each
            time.sleep(_LOOK_EVERY_S)
    return ""


def make_current(args: argparse.Namespace, inside: Inside) -> str:
    """Have the guest's kernel read this broker's device.

    Returns:
        The kernel's name of it, "" if it was the current one, or there is only one.
    """
    deadline = time.monotonic() + _COMES_S
    while not (ours := ours_of(args, inside, seen := look(inside))):
        if time.monotonic() > deadline:
            return ""
        time.sleep(_LOOK_EVERY_S)
    if ours == seen.current:
        return ""
    select(inside, ours)
    return ours


def finding(args: argparse.Namespace, inside: Inside, seen: Look) -> GuestFinding | None:
    """Name this broker's device among several; None where there is one."""
    names = virtio_rngs(seen)
    if len(names) < 2:
        return None
    what, ours = "of several virtio-rng it reads this broker's", ours_of(args, inside, seen)
    if ours and ours == seen.current:
        return GuestFinding(what, GuestVerdict.HOLDS, f"{ours} of {', '.join(names)}", inside=True)
    if ours:
        hint = f"In the guest: echo {ours} > {CURRENT}"
        detail = f"this broker's is {ours}, and its kernel reads {seen.current or 'none'}"
        return GuestFinding(what, GuestVerdict.FAILS, detail, True, hint)
    detail = f"none of {', '.join(names)} is fed by this broker"
    return GuestFinding(what, GuestVerdict.FAILS, detail, True, "Apply the guest's plan.")


def _consumed(args: argparse.Namespace) -> int:
    entry = known(args, needed=False)
    return int(entry["consumed_bytes"]) if entry else 0
