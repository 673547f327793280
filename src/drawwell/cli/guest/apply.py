"""``drawwell guest plan`` and ``apply``: what is written for a guest, doing it, and undoing it."""

import argparse
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
from drawwell.cli.guest.stick import let_go, take_back
from drawwell.cli.guest.text import changes_text, plan_text
from drawwell.cli.output import Output
from drawwell.errors import DrawwellError, GuestUnavailable, Starved, UsageError
from drawwell.guests.model import Attachment, Change, Guest, GuestKind, Hypervisor, Plan
from drawwell.reports import as_json
from drawwell.units import format_size

OF_MACHINES = (Attachment.VIRTIO, Attachment.USB_VIRTUAL)
"""Ways by which QEMU itself connects to the broker."""
NOT_OURS = (Attachment.FIFO, Attachment.BUILTIN)
"""Ways by which no byte comes from the broker to this guest in particular: it is no consumer then."""
ABSENT_S = 3.0
"""A QEMU that lost its broker connects again every second: who does not come by then does not run."""
COMES_S = 1.0
"""A QEMU that a device was plugged into connects at once."""
LOOK_EVERY_S = 0.2


def planned(args: argparse.Namespace) -> Plan:
    """Return the plan; a broker that runs is asked how its supply would be shared, and nothing is changed."""
    checked_name(args.name)
    guest = named(args, known(args, needed=False))
    plan = software(args, guest.kind).plan(guest)
    return replace(plan, notes=(*plan.notes, *_shares(guest, asked(args, "status"))))


def _shares(guest: Guest, status: dict[str, Any] | None) -> tuple[str, ...]:
    """Say how the supply is shared, when the guest may ask for more than there is."""
    if status is None or guest.via in NOT_OURS or not (supply := status.get("supply_bytes_per_s")):
        return ()
    wanted = guest.rate.limit_bytes / guest.rate.period_s if guest.rate else None
    if wanted is not None and wanted <= supply:
        return ()
    others = sum(each["name"] != guest.name for each in status["consumers"])
    others += status.get("consumers_left_out", 0)
    asks = f"a rate of {guest.rate} is" if guest.rate else "without a rate it may ask for"
    share = format_size(round(supply / (others + 1)))
    words = (
        f"{asks} more than the sources give now, {format_size(round(supply))} a second: who waits is served in turn "
        f"and in equal shares, so beside {others} more at work this guest gets {share} a second, and what the others "
        "leave."
    )
    return (words,)


def apply(args: argparse.Namespace, out: Output) -> int:
    """Show the plan, add the guest to the broker, and do the host's side."""
    checked_name(args.name)
    before = known(args, needed=(args.via or "") not in NOT_OURS)
    guest = named(args, before)
    host = software(args, guest.kind)
    if before is None and not args.new:
        host.require(guest)
    plan = planned(args)
    _confirm(args, out, plan)
    at_broker = [*_add(args, guest, host, before), *let_go(args, guest)]
    try:
        if before and before["connected"] and before["rate"] != (known(args) or before)["rate"]:
            _settle(args, guest, timeout_s(args))  # its device may be plugged in again, with another limit
        on_host = host.apply(replace(guest, anew=before is not None and _lost(args, guest)))
    except DrawwellError:
        take_back(args, guest)
        if before is None and at_broker:
            _forget(args, guest, 1.0)
        raise
    changes = [*at_broker, *on_host]
    turned = None
    if on_host and guest.via in OF_MACHINES:
        turned = _await_machine(args)
        changes += [] if turned else _made_current(args, guest, host)
    document = {"plan": as_json(plan), "changes": [as_json(change) for change in changes]}
    out.result(document, changes_text(changes, guest.name))
    if turned:
        raise turned
    by_hand = ", ".join(piece.title for piece in plan.pieces if piece.into == "paste")
    new = guest.socket or before is None  # a stick that it has already makes no change
    if new and by_hand and not on_host and not (known(args, needed=False) or {}).get("connected"):
        out.say(f"nothing runs here that could be told; start it with what is above: {by_hand}")
    return 0


def _lost(args: argparse.Namespace, guest: Guest) -> bool:
    """Did its machine lose the broker for good?

    What libvirt 9.0 plugs into a running machine connects once, whatever its <reconnect> says.
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
    """Give a machine that runs the moment that it takes to connect; return the fault if it was turned away."""
    deadline = time.monotonic() + COMES_S
    while not (entry := known(args) or {}).get("connected"):
        if entry and (refused := turned_away(args, entry)):
            return refused
        if time.monotonic() > deadline:
            break
        time.sleep(LOOK_EVERY_S)
    return None


def _made_current(args: argparse.Namespace, guest: Guest, host: Hypervisor) -> list[Change]:
    """Have the guest's kernel read the device that it was given, where it has another and an agent."""
    from drawwell.cli.guest.current import CURRENT, make_current

    with suppress(DrawwellError):
        if guest.via is Attachment.VIRTIO and (inside := host.inside(guest)):
            made = make_current(args, inside)
            return [Change(f"made {made} the generator that its kernel reads", CURRENT)] if made else []
    return []


def _forget(args: argparse.Namespace, guest: Guest, wait_s: float) -> None:
    from drawwell.cli.client import call

    call(args, "guest.remove", {"name": guest.name, "timeout_s": wait_s})


def _confirm(args: argparse.Namespace, out: Output, plan: Plan) -> None:
    """Show the plan, and ask where somebody can answer."""
    if not out.as_json:
        out.say(f"the plan for {plan.name}:\n{plan_text(plan)}\n")
    if args.yes or out.as_json or not sys.stdin.isatty():
        return
    print("do it? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise UsageError("nothing was done", hint="Answer y, or add --yes.")


def _add(
    args: argparse.Namespace, guest: Guest, host: Hypervisor, before: dict[str, Any] | None
) -> list[Change]:
    """Make it a consumer of the broker, or change its terms."""
    from drawwell.cli.client import call

    if guest.via in NOT_OURS:
        return []
    uid, gid = user(args.user) if args.user else host.owner(guest)
    said = {"rate": args.rate, "quota": args.quota, "draw_class": args.draw_class, "uid": uid, "gid": gid}
    terms = {name: value for name, value in said.items() if value is not None}
    call(args, "guest.add", {"name": guest.name, "kind": guest.kind, "via": guest.via, **terms})
    after = known(args) or {}
    if before is None:
        return [
            Change(
                f"added the guest {guest.name} as a consumer", f"broker, {after.get('socket') or 'no socket'}"
            )
        ]
    changed = [
        term for term in ("kind", "via", "rate", "quota", "class") if before.get(term) != after.get(term)
    ]
    words = ", ".join(f"{term} {after.get(term) or LIFTED}" for term in changed)
    return [Change(f"changed the guest {guest.name}: {words}", "broker")] if changed else []


def remove(args: argparse.Namespace, out: Output) -> int:
    """Undo it: what is owed is answered, the host lets go, and then the broker forgets the guest."""
    checked_name(args.name)
    wait_s = timeout_s(args)
    there = known(args, needed=(args.via or "") not in NOT_OURS)
    guest = named(args, there)
    if there:
        _settle(args, guest, wait_s)
    changes = [*software(args, guest.kind).remove(guest), *take_back(args, guest)]
    if there:
        _forget(args, guest, wait_s)
        changes.append(Change(f"removed the guest {guest.name} and its consumer", "broker"))
    out.result({"changes": [as_json(change) for change in changes]}, changes_text(changes, guest.name))
    return 0


def _settle(args: argparse.Namespace, guest: Guest, wait_s: float) -> None:
    """Have what is owed answered, and be ready for more; where no machine comes, none can be harmed."""
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
