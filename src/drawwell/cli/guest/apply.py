"""``drawwell guest plan`` and ``apply``: show, apply and undo a plan."""

import argparse
import shlex
import sys
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

from drawwell.cli.guest.arguments import (
    LIFTED,
    asked,
    checked_name,
    known,
    named,
    software,
    timeout_s,
    turned_away,
    user,
)
from drawwell.cli.guest.seed import drop_seed, write_seed
from drawwell.cli.guest.stick import release, take_back
from drawwell.cli.guest.text import changes_text, plan_text
from drawwell.cli.output import Output
from drawwell.errors import DrawwellError, GuestUnavailable, Starved, UsageError
from drawwell.guests.model import Attachment, Change, Guest, GuestKind, Hypervisor, Plan
from drawwell.reports import as_json
from drawwell.units import format_size

OF_MACHINES = (Attachment.VIRTIO, Attachment.USB_VIRTUAL)
"""The attachments for which QEMU itself connects to the broker."""
NOT_OURS = (Attachment.FIFO, Attachment.BUILTIN)
"""The attachments for which the guest is not a separate consumer of the broker."""
ABSENT_S = 3.0
"""A machine that does not connect for this long is not running: QEMU retries every second."""
COMES_S = 1.0
"""How long to wait for QEMU, which connects as soon as a device is plugged in."""
LOOK_EVERY_S = 0.2


def planned(args: argparse.Namespace) -> Plan:
    """Return the plan; if a broker is running, add a note about its supply."""
    checked_name(args.name)
    guest = named(args, known(args, needed=False))
    plan = software(args, guest.kind).plan(guest)
    return replace(plan, notes=(*plan.notes, *_shares(guest, asked(args, "status"))))


def _shares(guest: Guest, status: dict[str, Any] | None) -> tuple[str, ...]:
    """Describe how the supply is shared if the guest's rate exceeds it."""
    if status is None or guest.via in NOT_OURS or not (supply := status.get("supply_bytes_per_s")):
        return ()
    wanted = guest.rate.limit_bytes / guest.rate.period_s if guest.rate else None
    if wanted is not None and wanted <= supply:
        return ()
    others = sum(each["name"] != guest.name for each in status["consumers"])
    others += status.get("consumers_left_out", 0)
    asks = f"a rate of {guest.rate} is" if guest.rate else "without a rate, the guest may draw"
    share = format_size(round(supply / (others + 1)))
    text = (
        f"{asks} more than the current supply of {format_size(round(supply))} per second. Waiting consumers get "
        f"equal shares: with {others} other active consumers, this guest gets {share} per second, plus what the "
        "others leave unused."
    )
    return (text,)


def apply(args: argparse.Namespace, out: Output) -> int:
    """Show the plan, add the guest to the broker, and set up the host."""
    checked_name(args.name)
    with out.working(f"checking {args.name}"):
        before = known(args, needed=(args.via or "") not in NOT_OURS)
        guest = named(args, before)
        host = software(args, guest.kind)
        if before is None and not args.new:
            host.require(guest)
        if before and guest.kind is GuestKind.QEMU and guest.via != before["via"]:
            _require_off(args, guest, host, before)
        plan = planned(args)
    _confirm(args, out, plan)
    with out.working(f"setting up {args.name}"):
        changes, on_host, turned = _carry_out(args, out, guest, host, before)
    document = {"plan": as_json(plan), "changes": [as_json(change) for change in changes]}
    out.result(document, changes_text(changes, guest.name))
    if turned:
        raise turned
    by_hand = ", ".join(piece.title for piece in plan.pieces if piece.into == "paste")
    new = guest.socket or before is None  # it is not a change if the guest already has the OneRNG
    if new and by_hand and not on_host and not (known(args, needed=False) or {}).get("connected"):
        out.say(f"the guest is not running; start it with these parts of the plan above: {by_hand}")
    return 0


def _require_off(args: argparse.Namespace, guest: Guest, host: Hypervisor, before: dict[str, Any]) -> None:
    """Refuse another --via while QEMU runs: the present device would stay.

    Raises:
        UsageError: the machine is connected or running.
    """
    if not before["connected"]:
        try:
            host.require(guest)
        except GuestUnavailable:
            return
    options = (("--domain", args.domain), ("--connect", args.connect))
    where = "".join(f" {option} {shlex.quote(value)}" for option, value in options if value)
    raise UsageError(
        f"machine {guest.target} is running with --via {before['via']}",
        hint=f"First remove this device with 'drawwell guest apply qemu {guest.name}{where} --remove'.",
    )


def _carry_out(
    args: argparse.Namespace, out: Output, guest: Guest, host: Hypervisor, before: dict[str, Any] | None
) -> tuple[list[Change], list[Change], GuestUnavailable | None]:
    """Set up the broker and the host; undo the broker if the host fails.

    Returns:
        All changes, the changes on the host, and an error if the machine was refused.
    """
    at_broker = [*_add(args, guest, host, before), *release(args, guest)]
    try:
        at_broker += write_seed(args, guest, out, _owner(args, guest, host))
        if before and before["connected"] and before["rate"] != (known(args) or before)["rate"]:
            _settle(args, guest, timeout_s(args))  # the device might be plugged in again with another limit
        on_host = host.apply(replace(guest, replug=before is not None and _lost(args, guest)))
    except DrawwellError:
        take_back(args, guest)
        if before is None and at_broker:
            _forget(args, guest, 1.0)
        elif before and before["via"] != guest.via:
            _keep(args, before)
        raise
    changes = [*at_broker, *on_host, *drop_seed(guest)]
    turned = None
    if on_host and guest.via in OF_MACHINES:
        turned = _await_machine(args)
        changes += [] if turned else _made_current(args, out, guest, host)
    return changes, on_host, turned


def _lost(args: argparse.Namespace, guest: Guest) -> bool:
    """Return whether the machine permanently lost the broker.

    libvirt 9.0 ignores <reconnect> for a device plugged into a running machine.
    """
    if guest.kind is not GuestKind.LIBVIRT or guest.via not in OF_MACHINES:
        return False
    deadline = time.monotonic() + ABSENT_S
    while not (known(args) or {}).get("connected"):
        if time.monotonic() > deadline:
            return True
        time.sleep(LOOK_EVERY_S)
    return False


def _await_machine(args: argparse.Namespace) -> GuestUnavailable | None:
    """Wait for a machine to connect; return the error if it is refused."""
    deadline = time.monotonic() + COMES_S
    while not (entry := known(args) or {}).get("connected"):
        if entry and (refused := turned_away(args, entry)):
            return refused
        if time.monotonic() > deadline:
            break
        time.sleep(LOOK_EVERY_S)
    return None


def _made_current(args: argparse.Namespace, out: Output, guest: Guest, host: Hypervisor) -> list[Change]:
    """Make the guest's kernel read the new device, if the guest is reachable."""
    from drawwell.cli.guest.current import CURRENT, make_current

    with suppress(DrawwellError):
        if guest.via is Attachment.VIRTIO and (inside := host.inside(guest)):
            made = make_current(args, inside)
            if made is None:
                out.say(
                    "could not determine whether the guest's kernel reads the device; run 'drawwell guest verify'"
                )
            return [Change(f"made the guest's kernel read {made}", CURRENT)] if made else []
    return []


def _forget(args: argparse.Namespace, guest: Guest, wait_s: float) -> None:
    from drawwell.cli.client import call

    call(args, "guest.remove", {"name": guest.name, "timeout_s": wait_s})


def _keep(args: argparse.Namespace, before: dict[str, Any]) -> None:
    """Restore at the broker the attachment that the guest still uses."""
    from drawwell.cli.client import call

    call(args, "guest.add", {name: before[name] for name in ("name", "kind", "via")})


def _confirm(args: argparse.Namespace, out: Output, plan: Plan) -> None:
    """Show the plan and prompt for confirmation on a terminal."""
    if not out.as_json:
        out.say(f"the plan for {plan.name}:\n{plan_text(plan)}\n")
    if args.yes or out.as_json or not sys.stdin.isatty():
        return
    print("apply this plan? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise UsageError("no changes were made", hint="Answer y, or use --yes.")


def _owner(args: argparse.Namespace, guest: Guest, host: Hypervisor) -> tuple[int | None, int | None]:
    return user(args.user) if args.user else host.owner(guest)


def _add(
    args: argparse.Namespace, guest: Guest, host: Hypervisor, before: dict[str, Any] | None
) -> list[Change]:
    """Add the guest as a consumer of the broker, or change its limits."""
    from drawwell.cli.client import call

    if guest.via in NOT_OURS:
        return []
    uid, gid = _owner(args, guest, host)
    given = {"rate": args.rate, "quota": args.quota, "draw_class": args.draw_class, "uid": uid, "gid": gid}
    terms = {name: value for name, value in given.items() if value is not None}
    call(args, "guest.add", {"name": guest.name, "kind": guest.kind, "via": guest.via, **terms})
    after = known(args) or {}
    if before is None:
        return [
            Change(f"added guest {guest.name} as a consumer", f"broker, {after.get('socket') or 'no socket'}")
        ]
    changed = [
        term for term in ("kind", "via", "rate", "quota", "class") if before.get(term) != after.get(term)
    ]
    text = ", ".join(f"{term} {after.get(term) or LIFTED}" for term in changed)
    return [Change(f"changed guest {guest.name}: {text}", "broker")] if changed else []


def remove(args: argparse.Namespace, out: Output) -> int:
    """Serve owed bytes, undo the changes on the host, and remove the guest."""
    checked_name(args.name)
    wait_s = timeout_s(args)
    with out.working(f"removing {args.name}"):
        there = known(args, needed=(args.via or "") not in NOT_OURS)
        guest = named(args, there)
        if there:
            _settle(args, guest, wait_s)
        changes = [*software(args, guest.kind).remove(guest), *take_back(args, guest)]
        if there:
            _forget(args, guest, wait_s)
            changes.append(Change(f"removed guest {guest.name} and its consumer", "broker"))
    out.result({"changes": [as_json(change) for change in changes]}, changes_text(changes, guest.name))
    return 0


def _settle(args: argparse.Namespace, guest: Guest, wait_s: float) -> None:
    """Let the broker serve owed bytes; ignore starvation if no machine runs."""
    from drawwell.cli.client import call

    try:
        call(args, "guest.settle", {"name": guest.name, "timeout_s": wait_s})
    except Starved:
        deadline = time.monotonic() + ABSENT_S
        while time.monotonic() < deadline:
            there = known(args)
            if there and (there["connected"] or there["owed_bytes"]):
                raise
            time.sleep(LOOK_EVERY_S)
