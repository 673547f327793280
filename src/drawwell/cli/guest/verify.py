"""``drawwell guest verify`` and ``audit``: check guests."""

import argparse
import os
import time
from collections.abc import Iterator
from typing import Any, Final

from drawwell.cli.client import NoBroker, call
from drawwell.cli.guest import current
from drawwell.cli.guest.apply import ABSENT_S, LOOK_EVERY_S, NOT_OURS, OF_MACHINES
from drawwell.cli.guest.arguments import asked, checked_name, known, named, software, timeout_s, turned_away
from drawwell.cli.guest.text import audit_text, findings_text
from drawwell.cli.output import Output
from drawwell.errors import DrawwellError, GuestUnavailable, PermissionRefused, UsageError
from drawwell.guests.edit.quoting import NODE
from drawwell.guests.model import Attachment, Guest, GuestFacts, GuestFinding, GuestKind, GuestVerdict, Inside
from drawwell.reports import as_json

SOCKET_INSIDE: Final = "/run/drawwell/draw.sock"
"""The path of the broker's socket inside a container."""
_BUFFERED_BYTES: Final = 128
"""The most bytes that Linux has buffered: one request in the driver, one in the kernel."""
_TAKES_S: Final = 3.0
"""How long the broker's count may lag behind the bytes that the guest has read."""
_COMES_S: Final = 10.0
"""How long a guest may take to create a tty for a newly plugged-in OneRNG."""
_KNOWN: Final = "the broker knows the guest"
_DRAWS: Final = "the guest reads bytes from this broker"
_ANOTHER: Final = "The guest reads another device. See 'drawwell guest plan' and 'drawwell guest audit'."


def verify(args: argparse.Namespace, out: Output) -> int:
    """Check a guest; return 1 if a check fails."""
    checked_name(args.name)
    entry = known(args, needed=False)
    guest = named(args, entry)
    inside = software(args, guest.kind).inside(guest)
    findings = [*_at_broker(args, guest, entry)]
    if inside:
        findings += _from_inside(args, guest, inside)
    script = "" if inside else _script()
    failed = any(each.verdict is GuestVerdict.FAILS for each in findings)
    document = {
        "name": guest.name,
        "looked": "from inside" if inside else "host side only",
        "findings": [as_json(each) for each in findings],
        "script": script,
    }
    text = findings_text(findings, out.style)
    if script:
        text += (
            "\n\nhost side only: drawwell cannot run commands in the guest. Run this in the guest as root:\n\n"
            + script
        )
    out.result(document, text)
    return 1 if failed else 0


def _script() -> str:
    from drawwell.guests.inside.scripts import LOOK

    return (
        LOOK.strip()
        + "\ntimeout 10 dd if=/dev/hwrng bs=64 count=1 | wc -c    # prints 64 unless the device is stuck\n"
    )


def _at_broker(
    args: argparse.Namespace, guest: Guest, entry: dict[str, Any] | None
) -> Iterator[GuestFinding]:
    if guest.via in NOT_OURS:
        text = f"with --via {guest.via}, the guest is not a separate consumer"
        yield GuestFinding(_KNOWN, GuestVerdict.UNKNOWN, text)
    elif entry is None:
        yield _not_known(args, guest)
    else:
        text = f"{_granted(entry)} bytes granted, {entry['consumed_bytes']} consumed"
        yield GuestFinding(_KNOWN, GuestVerdict.HOLDS, text)
        if guest.via in OF_MACHINES:
            yield _connected(args, _come_back(args, entry))


def _not_known(args: argparse.Namespace, guest: Guest) -> GuestFinding:
    """Explain why the broker has no entry for the guest."""
    try:
        call(args, "guest.list", {})
    except PermissionRefused as error:
        return GuestFinding(_KNOWN, GuestVerdict.UNKNOWN, str(error), hint=error.hint or "")
    except NoBroker as error:
        return GuestFinding(_KNOWN, GuestVerdict.FAILS, str(error), hint=error.hint or "")
    hint = f"Run 'drawwell guest apply {guest.kind} {guest.name}'."
    return GuestFinding(_KNOWN, GuestVerdict.FAILS, "the broker has no guest with this name", hint=hint)


def _come_back(args: argparse.Namespace, entry: dict[str, Any]) -> dict[str, Any]:
    """Wait for QEMU, which tries to reconnect every second."""
    deadline = time.monotonic() + ABSENT_S
    while not entry["connected"] and not turned_away(args, entry) and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)
        entry = known(args, needed=False) or entry
    return entry


def _connected(args: argparse.Namespace, entry: dict[str, Any]) -> GuestFinding:
    what = "the machine is connected"
    if entry["connected"]:
        return GuestFinding(what, GuestVerdict.HOLDS, f"to {entry['socket']}")
    if refused := turned_away(args, entry):
        return GuestFinding(what, GuestVerdict.FAILS, str(refused), hint=refused.hint or "")
    hint = "Start the machine with the arguments in the plan. QEMU's user must have access to the socket."
    if args.kind == GuestKind.LIBVIRT:
        hint = f"Start the machine. If it is running, reconnect it with 'drawwell guest apply libvirt {args.name}'."
    return GuestFinding(what, GuestVerdict.FAILS, f"no machine is connected to {entry['socket']}", hint=hint)


def _from_inside(args: argparse.Namespace, guest: Guest, inside: Inside) -> Iterator[GuestFinding]:
    match guest.via:
        case Attachment.SOCKET:
            yield from _socket(args, guest, inside)
        case Attachment.DEVICE if not inside.run(["test", "-c", NODE]).status:
            yield GuestFinding("the guest has a OneRNG node", GuestVerdict.HOLDS, NODE, inside=True)
            yield _read_stick(args, inside, os.path.basename(NODE))[1]
        case Attachment.DEVICE | Attachment.USB | Attachment.USB_VIRTUAL:
            yield from _stick(args, guest, inside)
        case _:
            yield from _virtio(args, guest, inside)


def _virtio(args: argparse.Namespace, guest: Guest, inside: Inside) -> Iterator[GuestFinding]:
    from drawwell.guests.inside import probes as guests

    seen = guests.look(inside)
    yield from guests.findings(seen)
    if not seen.hwrng:
        return
    if guest.via is Attachment.VIRTIO and (which := current.finding(args, inside, seen)):
        yield which
    within_s = timeout_s(args)
    before = known(args, needed=False)
    data = guests.read_hwrng(inside, 1, within_s)
    yield _readable(data, within_s, known(args, needed=False))
    if not data:
        return
    block = guests.read_hwrng(inside, guests.FIPS_REQUESTS, within_s)
    if guest.via not in NOT_OURS:
        yield _consumed(args, before, len(data) + len(block))
    yield guests.fips(block)


def _consumed(args: argparse.Namespace, before: dict[str, Any] | None, n_bytes: int) -> GuestFinding:
    """Compare the bytes that the guest read with those consumed at the broker."""
    deadline = time.monotonic() + _TAKES_S
    needed_bytes = max(1, n_bytes - _BUFFERED_BYTES)
    while True:
        after = known(args, needed=False)
        if before is None or after is None:
            text = "no broker reports the guest's account"
            return GuestFinding(_DRAWS, GuestVerdict.UNKNOWN, text, hint="Run the command as root.")
        taken_bytes = after["consumed_bytes"] - before["consumed_bytes"]
        if taken_bytes >= needed_bytes:
            text = f"{n_bytes} bytes read, {taken_bytes} consumed at this broker"
            return GuestFinding(_DRAWS, GuestVerdict.HOLDS, text, inside=True)
        if time.monotonic() > deadline:
            break
        time.sleep(LOOK_EVERY_S)
    text = f"{n_bytes} bytes read, {taken_bytes} consumed at this broker"
    return GuestFinding(_DRAWS, GuestVerdict.FAILS, text, True, _ANOTHER)


def _readable(data: bytes, within_s: float, entry: dict[str, Any] | None) -> GuestFinding:
    what = "/dev/hwrng can be read"
    if data:
        return GuestFinding(what, GuestVerdict.HOLDS, f"{len(data)} bytes", inside=True)
    text = f"a read returned nothing within {within_s:g} s"
    if entry and entry["owed_bytes"]:
        hint = "The guest is starved and has to wait. Check 'drawwell status' and the guest's quota."
        return GuestFinding(
            what, GuestVerdict.FAILS, f"{text}; the broker owes {entry['owed_bytes']} bytes", True, hint
        )
    hint = "Run 'drawwell guest audit': the cause can be another backend, or a limit that is not a multiple of 64."
    return GuestFinding(what, GuestVerdict.FAILS, f"{text}; the broker owes no bytes", True, hint)


def _ledger(before: dict[str, Any] | None, after: dict[str, Any] | None, n_bytes: int) -> GuestFinding:
    if before is None or after is None:
        return GuestFinding(
            _DRAWS, GuestVerdict.UNKNOWN, "no broker reports its account", hint="Run the command as root."
        )
    rose = _granted(after) - _granted(before)
    if rose > 0:
        return GuestFinding(
            _DRAWS, GuestVerdict.HOLDS, f"{n_bytes} bytes read; its account grew by {rose}", inside=True
        )
    text = f"{n_bytes} bytes read, but its account did not change"
    return GuestFinding(_DRAWS, GuestVerdict.FAILS, text, True, _ANOTHER)


def _granted(entry: dict[str, Any] | None) -> int:
    return int(entry["full_bytes"]) + int(entry["drbg_bytes"]) if entry else 0


def _socket(args: argparse.Namespace, guest: Guest, inside: Inside) -> Iterator[GuestFinding]:
    """Draw through the socket inside the guest and compare the account."""
    from drawwell.entropy.blocks import DrawClass
    from drawwell.guests.inside import probes as guests

    before, status = known(args, needed=False), asked(args, "status")
    draw_class = DrawClass.DRBG if guest.draw_class == "drbg" else DrawClass.FULL
    names_bytes = len((status or {}).get("name", "").encode()) + len(guest.name)
    what = "the guest can draw through its socket"
    try:
        n_bytes = guests.draw(
            inside, SOCKET_INSIDE, draw_class, names_bytes=names_bytes, within_s=timeout_s(args)
        )
    except GuestUnavailable as error:
        yield GuestFinding(what, GuestVerdict.FAILS, str(error), True, error.hint or "")
        return
    if not n_bytes:
        yield GuestFinding(what, GuestVerdict.FAILS, f"timeout on {SOCKET_INSIDE}", inside=True)
        return
    yield GuestFinding(what, GuestVerdict.HOLDS, f"{n_bytes} bytes through {SOCKET_INSIDE}", inside=True)
    yield _ledger(before, known(args, needed=False), n_bytes)


def _stick(args: argparse.Namespace, guest: Guest, inside: Inside) -> Iterator[GuestFinding]:
    """Find a OneRNG in the guest and read a little from it."""
    from drawwell.guests.inside import probes as guests

    deadline = time.monotonic() + _COMES_S
    while not (seen := guests.look(inside)).sticks and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)
    what = "the guest has a OneRNG"
    if not seen.sticks:
        hint = "Check that the OneRNG is plugged in and that the guest has cdc_acm: see dmesg in the guest."
        yield GuestFinding(what, GuestVerdict.FAILS, "the guest has no tty for a OneRNG", True, hint)
        return
    yield GuestFinding(what, GuestVerdict.HOLDS, ", ".join(seen.sticks), inside=True)
    before = known(args, needed=False)
    n_bytes, found = _read_stick(args, inside, seen.sticks[0].partition(":")[0])
    yield found
    if guest.via is Attachment.USB_VIRTUAL:
        yield _ledger(before, known(args, needed=False), n_bytes)


def _read_stick(args: argparse.Namespace, inside: Inside, tty: str) -> tuple[int, GuestFinding]:
    """Read a little from the guest's OneRNG; return the count and a finding."""
    from drawwell.guests.inside.probes import read_stick

    within_s = timeout_s(args)
    n_bytes, what = len(read_stick(inside, tty, 1, within_s)), "the OneRNG can be read"
    if n_bytes:
        return n_bytes, GuestFinding(what, GuestVerdict.HOLDS, f"{n_bytes} bytes", inside=True)
    text = f"no bytes in {within_s:g} s; another program in the guest might be reading it"
    return 0, GuestFinding(what, GuestVerdict.UNKNOWN, text, inside=True)


def audit(args: argparse.Namespace, out: Output) -> int:
    """Check all guests on this host; return 1 if a guest has a problem.

    If the host's software does not answer, this is only reported, because a stopped daemon
    runs no guests. It is an error if the user specified the kind of software.
    """
    if args.connect and not args.kind:
        raise UsageError("--connect needs a KIND", hint="Example: 'drawwell guest audit lxc --connect DIR'.")
    facts: list[GuestFacts] = []
    unanswered: dict[str, str] = {}
    for kind in [GuestKind(args.kind)] if args.kind else list(GuestKind):
        try:
            facts += software(args, kind).audit()
        except DrawwellError as error:
            if args.kind:
                raise
            unanswered[kind] = str(error)
    for name, text in unanswered.items():
        out.say(f"not checked: {name}: {text}")
    failed = any(found.verdict is GuestVerdict.FAILS for each in facts for found in each.findings)
    document = {"guests": [as_json(each) for each in facts], "unanswered": unanswered}
    out.result(document, audit_text(facts, out.style))
    return 1 if failed else 0
