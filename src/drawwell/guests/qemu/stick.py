"""Checks whether QEMU or another process has claimed the stick."""

import time
from collections.abc import Iterator
from typing import Final

from drawwell.errors import GuestUnavailable
from drawwell.guests.model import GuestFinding, GuestVerdict
from drawwell.guests.qemu.qmp import Monitor
from drawwell.guests.qemu.usb_port import sticks, taken
from drawwell.host.holders import Holder, describe_holders

TAKE_S: Final = 10.0
"""QEMU looks for the stick at once and then every 2 s (hw/usb/host-libusb.c)."""
_LOOK_EVERY_S: Final = 0.2
_MAY_NOT: Final = (
    "QEMU's user must be able to open the stick's node in /dev/bus/usb. Add a udev rule with OWNER or GROUP."
)
_SHARED: Final = "is also open in {}: one process has it, and the other waits silently"
_FREE_IT: Final = "Release it with 'drawwell guest apply KIND NAME --remove', or stop that program."


def require_free(port: str) -> None:
    """Check that the stick is free; a second QEMU would wait without an error.

    Raises:
        GuestUnavailable: the stick is in use.
    """
    for each in sticks(port):
        if (users := taken(each)) is not None:
            raise GuestUnavailable(
                f"the stick at {each} is in use by {describe_holders(users)}", hint=_FREE_IT
            )


def require_taken(monitor: Monitor, path: str, port: str) -> None:
    """Wait until QEMU has the stick, if there is one and the machine runs.

    Args:
        monitor: The machine's monitor.
        path: The path of the device in QEMU's object tree.
        port: The stick's port; "" for the only stick.

    Raises:
        GuestUnavailable: QEMU cannot claim the stick, or another process also has it open.
    """
    deadline = time.monotonic() + TAKE_S
    while (
        sticks(port)
        and _runs(monitor)
        and monitor.execute("qom-get", path=path, property="attached") is not True
    ):
        if time.monotonic() > deadline:
            raise _not_taken(sticks(port))
        time.sleep(_LOOK_EVERY_S)
    for each in sticks(port):
        if others := [holder for holder in taken(each) or () if holder.pid != monitor.pid]:
            raise GuestUnavailable(
                f"the stick at {each} {_SHARED.format(describe_holders(others))}", hint=_FREE_IT
            )


def _runs(monitor: Monitor) -> bool:
    status = monitor.execute("query-status")
    return isinstance(status, dict) and status.get("running") is True


def _not_taken(ports: list[str]) -> GuestUnavailable:
    message = f"QEMU cannot open the stick at {' or '.join(ports)}"
    for each in ports:
        if (users := taken(each)) is not None:
            return GuestUnavailable(f"{message}: in use by {describe_holders(users)}", hint=_FREE_IT)
    return GuestUnavailable(message, hint=_MAY_NOT)


def stick_finding(pid: int, wanted: str | None) -> Iterator[GuestFinding]:
    """Judge whether the QEMU in this process has its stick.

    Args:
        pid: The process.
        wanted: The port of the stick that QEMU should have; "" for any, None for no stick.
    """
    who = {each: taken(each) for each in sticks("")}
    mine = {port: found for port, found in who.items() if any(holder.pid == pid for holder in found or ())}
    what = "the machine has the stick"
    for port, found in mine.items():
        if others := [holder for holder in found or () if holder.pid != pid]:
            detail = f"the stick at {port} {_SHARED.format(describe_holders(others))}"
            yield GuestFinding(what, GuestVerdict.FAILS, detail, hint=_FREE_IT)
        else:
            yield GuestFinding(what, GuestVerdict.HOLDS, f"at {port}")
    if wanted is not None and not mine:
        who = {port: found for port, found in who.items() if wanted in {"", port}}
        yield GuestFinding(what, GuestVerdict.FAILS, _why_not(who), hint=_hint(who))


def _why_not(who: dict[str, tuple[Holder, ...] | None]) -> str:
    others = [
        f"{describe_holders(found)} has stick {port}" for port, found in who.items() if found is not None
    ]
    if others:
        return f"QEMU waits: {'; '.join(others)}"
    return f"QEMU cannot open the stick at {', '.join(who)}" if who else "no stick is plugged in"


def _hint(who: dict[str, tuple[Holder, ...] | None]) -> str:
    if any(found is not None for found in who.values()):
        return _FREE_IT
    return _MAY_NOT if who else "Plug the stick in. QEMU then takes it by itself."
