"""``drawwell guest verify``, ``reseed`` and ``audit``: guests looked at, from inside where there is a way in."""

import argparse
import os
import time
from collections.abc import Iterator
from typing import Any, Final

from drawwell.cli.client import NoBroker, call
from drawwell.cli.guest import current
from drawwell.cli.guest.apply import LOOK_EVERY_S, NOT_OURS, OF_MACHINES
from drawwell.cli.guest.arguments import asked, checked_name, known, named, software, timeout_s, turned_away
from drawwell.cli.guest.text import audit_text, findings_text
from drawwell.cli.output import Output
from drawwell.errors import DrawwellError, GuestUnavailable, PermissionRefused, UsageError
from drawwell.guests.edit.quoting import NODE
from drawwell.guests.model import Attachment, Guest, GuestFacts, GuestFinding, GuestKind, GuestVerdict, Inside
from drawwell.reports import as_json

SOCKET_INSIDE: Final = "/run/drawwell/draw.sock"
"""Where a container has the broker's socket."""
_BUFFERED_BYTES: Final = 128
"""What a Linux guest may have had before: a request's bytes in the driver, and as many in the kernel's buffer."""
_TAKES_S: Final = 3.0
"""How long the machine may take to read from the socket what the guest has already."""
_KNOWN: Final = "the broker knows it"
_DRAWS: Final = "what it reads is what this broker granted it"
_ANOTHER: Final = "It reads another device: compare with 'drawwell guest plan' and 'drawwell guest audit'."


def verify(args: argparse.Namespace, out: Output) -> int:
    """Look at a guest; 1 when something fails."""
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
            "\n\nhost side only: there is no way into the guest. Paste this into it, as root:\n\n" + script
        )
    out.result(document, text)
    return 1 if failed else 0


def _script() -> str:
    from drawwell.guests.inside.scripts import LOOK

    return LOOK.strip() + "\ntimeout 10 dd if=/dev/hwrng bs=64 count=1 | wc -c    # 64 when it is not stuck\n"


def _at_broker(
    args: argparse.Namespace, guest: Guest, entry: dict[str, Any] | None
) -> Iterator[GuestFinding]:
    if guest.via in NOT_OURS:
        words = f"by {guest.via} it gets no bytes of its own from the broker"
        yield GuestFinding(_KNOWN, GuestVerdict.UNKNOWN, words)
    elif entry is None:
        yield _not_known(args, guest)
    else:
        words = f"{_granted(entry)} bytes granted, {entry['consumed_bytes']} of them consumed"
        yield GuestFinding(_KNOWN, GuestVerdict.HOLDS, words)
        if guest.via in OF_MACHINES:
            yield _connected(args, entry)


def _not_known(args: argparse.Namespace, guest: Guest) -> GuestFinding:
    """Why the broker says nothing of it: there is none, it does not tell us, or it was never told."""
    try:
        call(args, "guest.list", {})
    except PermissionRefused as error:
        return GuestFinding(_KNOWN, GuestVerdict.UNKNOWN, str(error), hint=error.hint or "")
    except NoBroker as error:
        return GuestFinding(_KNOWN, GuestVerdict.FAILS, str(error), hint=error.hint or "")
    hint = f"Type 'drawwell guest apply {guest.kind} {guest.name}'."
    return GuestFinding(_KNOWN, GuestVerdict.FAILS, "the broker has no guest of that name", hint=hint)


def _connected(args: argparse.Namespace, entry: dict[str, Any]) -> GuestFinding:
    what = "its machine is connected"
    if entry["connected"]:
        return GuestFinding(what, GuestVerdict.HOLDS, f"to {entry['socket']}")
    if refused := turned_away(args, entry):
        return GuestFinding(what, GuestVerdict.FAILS, str(refused), hint=refused.hint or "")
    hint = "Start the machine with the plan's arguments; QEMU's user must be able to open the socket."
    if args.kind == GuestKind.LIBVIRT:
        hint = f"Start it; if it runs, it lost the broker: 'drawwell guest apply libvirt {args.name}' plugs it in anew."
    return GuestFinding(what, GuestVerdict.FAILS, f"nobody is connected to {entry['socket']}", hint=hint)


def _from_inside(args: argparse.Namespace, guest: Guest, inside: Inside) -> Iterator[GuestFinding]:
    match guest.via:
        case Attachment.SOCKET:
            yield from _socket(args, guest, inside)
        case Attachment.DEVICE if not inside.run(["test", "-c", NODE]).status:
            yield GuestFinding("it has a OneRNG's node", GuestVerdict.HOLDS, NODE, inside=True)
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
    """Compare what was read in there with what its machine has taken from this broker since."""
    deadline = time.monotonic() + _TAKES_S
    needed_bytes = max(1, n_bytes - _BUFFERED_BYTES)
    while True:
        after = known(args, needed=False)
        if before is None or after is None:
            words = "no broker here shows its account"
            return GuestFinding(_DRAWS, GuestVerdict.UNKNOWN, words, hint="Run it as root.")
        taken_bytes = after["consumed_bytes"] - before["consumed_bytes"]
        if taken_bytes >= needed_bytes:
            words = f"{n_bytes} bytes read, {taken_bytes} taken from this broker"
            return GuestFinding(_DRAWS, GuestVerdict.HOLDS, words, inside=True)
        if time.monotonic() > deadline:
            break
        time.sleep(LOOK_EVERY_S)
    words = f"{n_bytes} bytes read, {taken_bytes} taken from this broker"
    return GuestFinding(_DRAWS, GuestVerdict.FAILS, words, True, _ANOTHER)


def _readable(data: bytes, within_s: float, entry: dict[str, Any] | None) -> GuestFinding:
    what = "/dev/hwrng can be read"
    if data:
        return GuestFinding(what, GuestVerdict.HOLDS, f"{len(data)} bytes", inside=True)
    words = f"a read waited for {within_s:g} s"
    if entry and entry["owed_bytes"]:
        hint = (
            "It is starved, and gets its bytes when there are some: look at 'drawwell status' and its quota."
        )
        return GuestFinding(
            what, GuestVerdict.FAILS, f"{words}: the broker owes it {entry['owed_bytes']} bytes", True, hint
        )
    hint = "Look at 'drawwell guest audit': a limit that is no multiple of 64, or another backend, stops it."
    return GuestFinding(what, GuestVerdict.FAILS, f"{words}, and the broker owes it nothing", True, hint)


def _ledger(before: dict[str, Any] | None, after: dict[str, Any] | None, n_bytes: int) -> GuestFinding:
    if before is None or after is None:
        return GuestFinding(
            _DRAWS, GuestVerdict.UNKNOWN, "no broker here tells us its account", hint="Ask as root."
        )
    rose = _granted(after) - _granted(before)
    if rose > 0:
        return GuestFinding(
            _DRAWS, GuestVerdict.HOLDS, f"{n_bytes} bytes read, its account rose by {rose}", inside=True
        )
    words = f"{n_bytes} bytes read, and its account stands still"
    return GuestFinding(_DRAWS, GuestVerdict.FAILS, words, True, _ANOTHER)


def _granted(entry: dict[str, Any] | None) -> int:
    return int(entry["full_bytes"]) + int(entry["drbg_bytes"]) if entry else 0


def _socket(args: argparse.Namespace, guest: Guest, inside: Inside) -> Iterator[GuestFinding]:
    """Draw through the socket, from inside, and compare the account."""
    from drawwell.entropy.blocks import DrawClass
    from drawwell.guests.inside import probes as guests

    before, status = known(args, needed=False), asked(args, "status")
    draw_class = DrawClass.DRBG if guest.draw_class == "drbg" else DrawClass.FULL
    names_bytes = len((status or {}).get("name", "").encode()) + len(guest.name)
    what = "it can draw through its socket"
    try:
        n_bytes = guests.draw(
            inside, SOCKET_INSIDE, draw_class, names_bytes=names_bytes, within_s=timeout_s(args)
        )
    except GuestUnavailable as error:
        yield GuestFinding(what, GuestVerdict.FAILS, str(error), True, error.hint or "")
        return
    if not n_bytes:
        yield GuestFinding(what, GuestVerdict.FAILS, f"no answer at {SOCKET_INSIDE} in time", inside=True)
        return
    yield GuestFinding(what, GuestVerdict.HOLDS, f"{n_bytes} bytes by {SOCKET_INSIDE}", inside=True)
    yield _ledger(before, known(args, needed=False), n_bytes)


def _stick(args: argparse.Namespace, guest: Guest, inside: Inside) -> Iterator[GuestFinding]:
    """Look for a OneRNG in there, and read a little of it where nobody else does."""
    from drawwell.guests.inside import probes as guests

    seen = guests.look(inside)
    what = "it has a OneRNG"
    if not seen.sticks:
        hint = "Is it plugged in, and has the guest cdc_acm? Look at its dmesg."
        yield GuestFinding(what, GuestVerdict.FAILS, "no tty of one is there", True, hint)
        return
    yield GuestFinding(what, GuestVerdict.HOLDS, ", ".join(seen.sticks), inside=True)
    before = known(args, needed=False)
    n_bytes, found = _read_stick(args, inside, seen.sticks[0].partition(":")[0])
    yield found
    if guest.via is Attachment.USB_VIRTUAL:
        yield _ledger(before, known(args, needed=False), n_bytes)


def _read_stick(args: argparse.Namespace, inside: Inside, tty: str) -> tuple[int, GuestFinding]:
    """Read a little of a stick in there; return how many bytes came, and what that means."""
    from drawwell.guests.inside.probes import read_stick

    within_s = timeout_s(args)
    n_bytes, what = len(read_stick(inside, tty, 1, within_s)), "it can be read"
    if n_bytes:
        return n_bytes, GuestFinding(what, GuestVerdict.HOLDS, f"{n_bytes} bytes", inside=True)
    words = f"no byte in {within_s:g} s; it may be another program in there that reads it"
    return 0, GuestFinding(what, GuestVerdict.UNKNOWN, words, inside=True)


def audit(args: argparse.Namespace, out: Output) -> int:
    """Look at every guest on this host; 1 when something is wrong with one.

    Software that is there and does not answer is said and is no fault: a daemon that is down runs no guests. It is one
    when it was asked for by its kind.
    """
    if args.connect and not args.kind:
        raise UsageError(
            "whose place is that?", hint="Say KIND as well: 'drawwell guest audit lxc --connect DIR'."
        )
    facts: list[GuestFacts] = []
    unanswered: dict[str, str] = {}
    for kind in [GuestKind(args.kind)] if args.kind else list(GuestKind):
        try:
            facts += software(args, kind).audit()
        except DrawwellError as error:
            if args.kind:
                raise
            unanswered[kind] = str(error)
    for name, words in unanswered.items():
        out.say(f"not looked at: {name}: {words}")
    failed = any(found.verdict is GuestVerdict.FAILS for each in facts for found in each.findings)
    document = {"guests": [as_json(each) for each in facts], "unanswered": unanswered}
    out.result(document, audit_text(facts, out.style))
    return 1 if failed else 0
