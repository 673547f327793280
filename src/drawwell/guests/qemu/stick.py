"""The stick in a QEMU that was given it: has QEMU got it, and if not, who has."""

import time
from collections.abc import Iterator
from typing import Final

from drawwell.errors import GuestUnavailable
from drawwell.guests.model import GuestFinding, GuestVerdict
from drawwell.guests.qemu.qmp import Monitor
from drawwell.guests.qemu.usb_port import sticks, taken
from drawwell.host.holders import Holder, holders_words

TAKE_S: Final = 10.0
"""QEMU looks for the stick at once, and then every 2 s (hw/usb/host-libusb.c)."""
_LOOK_EVERY_S: Final = 0.2
_MAY_NOT: Final = (
    "QEMU's user must be allowed to open its node in /dev/bus/usb: a udev rule with OWNER or GROUP."
)
_SHARED: Final = "is open in {}, too: one of them has it, and the other waits without a word"
_FREE_IT: Final = "Take it from there: 'drawwell guest apply KIND NAME --remove', or end that program."


def require_free(port: str) -> None:
    """Let no stick pass that somebody has already: a second QEMU would wait for it without a word.

    Raises:
        GuestUnavailable: somebody has it.
    """
    for each in sticks(port):
        if (who := taken(each)) is not None:
            raise GuestUnavailable(f"the stick at {each} was taken by {holders_words(who)}", hint=_FREE_IT)


def require_taken(monitor: Monitor, path: str, port: str) -> None:
    """Wait until QEMU has the stick, where one is plugged in; a machine that is stopped takes none until it goes on.

    Args:
        monitor: Of the machine.
        path: Of its device in QEMU's object tree.
        port: Where the stick is, "" for the only one.

    Raises:
        GuestUnavailable: QEMU does not get it, or another one has it open: libusb lets both, and one of them use it.
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
                f"the stick at {each} {_SHARED.format(holders_words(others))}", hint=_FREE_IT
            )


def _runs(monitor: Monitor) -> bool:
    status = monitor.execute("query-status")
    return isinstance(status, dict) and status.get("running") is True


def _not_taken(ports: list[str]) -> GuestUnavailable:
    words = f"QEMU does not take the stick at {' or '.join(ports)}"
    for each in ports:
        if (who := taken(each)) is not None:
            return GuestUnavailable(f"{words}: {holders_words(who)} has it", hint=_FREE_IT)
    return GuestUnavailable(
        words,
        hint="QEMU's user must be allowed to open its node in /dev/bus/usb: a udev rule with OWNER or GROUP.",
    )


def stick_finding(pid: int, wanted: str | None) -> Iterator[GuestFinding]:
    """Say whether the QEMU of that process has a stick.

    Args:
        pid: The process.
        wanted: The port of the one that it was told to take, "" for any; None says nothing where it has none.
    """
    who = {each: taken(each) for each in sticks("")}
    mine = {port: found for port, found in who.items() if any(holder.pid == pid for holder in found or ())}
    what = "it has the stick"
    for port, found in mine.items():
        if others := [holder for holder in found or () if holder.pid != pid]:
            words = f"the one at {port} {_SHARED.format(holders_words(others))}"
            yield GuestFinding(what, GuestVerdict.FAILS, words, hint=_FREE_IT)
        else:
            yield GuestFinding(what, GuestVerdict.HOLDS, f"at {port}")
    if wanted is not None and not mine:
        who = {port: found for port, found in who.items() if wanted in {"", port}}
        yield GuestFinding(what, GuestVerdict.FAILS, _why_not(who), hint=_hint(who))


def _why_not(who: dict[str, tuple[Holder, ...] | None]) -> str:
    others = [
        f"{holders_words(found)} has the one at {port}" for port, found in who.items() if found is not None
    ]
    if others:
        return f"it waits: {'; '.join(others)}"
    return f"it was not given the one at {', '.join(who)}" if who else "none is plugged in"


def _hint(who: dict[str, tuple[Holder, ...] | None]) -> str:
    if any(found is not None for found in who.values()):
        return _FREE_IT
    return _MAY_NOT if who else "Plug it in: QEMU takes it by itself."
