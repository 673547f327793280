"""``drawwell guest reseed``: reseed a restored or cloned guest."""

import argparse
import asyncio
import time
from typing import Final

from drawwell.cli.guest.arguments import checked_name, known, named, software, timeout_s
from drawwell.cli.guest.text import findings_text
from drawwell.cli.output import Output
from drawwell.errors import GuestUnavailable, UsageError
from drawwell.guests.model import Guest, GuestVerdict, Inside
from drawwell.reports import as_json

_FRESH_BYTES: Final = 64
_LOOK_S: Final = 1.0


def reseed(args: argparse.Namespace, out: Output) -> int:
    """Reseed a guest's kernel with fresh bytes; return 1 on failure."""
    from drawwell.guests.inside.reseed import reseed as reseed_inside

    checked_name(args.name)
    entry = known(args)
    if entry is None:
        raise UsageError(f"unknown guest {args.name}", hint="See 'drawwell guest list'.")
    args.kind = entry["kind"]
    guest = named(args, entry)
    inside = _reached(args, guest, time.monotonic() + timeout_s(args))
    findings = reseed_inside(inside, *_fresh(args))
    out.result(
        {"name": guest.name, "findings": [as_json(each) for each in findings]},
        findings_text(findings, out.style),
    )
    return 1 if any(each.verdict is GuestVerdict.FAILS for each in findings) else 0


def _reached(args: argparse.Namespace, guest: Guest, deadline: float) -> Inside:
    """Wait until a command runs in the guest, which might still be starting."""
    while True:
        try:
            return _way_in(args, guest)
        except GuestUnavailable:
            if time.monotonic() + _LOOK_S > deadline:
                raise
        time.sleep(_LOOK_S)


def _way_in(args: argparse.Namespace, guest: Guest) -> Inside:
    inside = software(args, guest.kind).inside(guest)
    if inside is None:
        raise GuestUnavailable(
            f"drawwell cannot run commands in {guest.name}",
            hint="Install a guest agent, or run drawwell in the guest to feed its kernel from this broker.",
        )
    inside.run(["true"])
    return inside


def _fresh(args: argparse.Namespace) -> tuple[bytes, float]:
    """Draw fresh bytes; return them with the credit in bits per byte."""
    from drawwell.config.load import load
    from drawwell.entropy.blocks import DrawClass
    from drawwell.entropy.credit import credit
    from drawwell.links.unix import UnixLink
    from drawwell.roles.kernel_process import EvidenceCheckedUpstream
    from drawwell.roles.upstream import choose_upstream

    link = choose_upstream(load(args.config), None)
    local = EvidenceCheckedUpstream(link) if isinstance(link, UnixLink) else None

    async def draw() -> bytes:
        try:
            return (await (local or link).draw(_FRESH_BYTES, DrawClass.FULL)).data
        finally:
            await link.aclose()

    data = asyncio.run(draw())
    return data, credit(local.evidence if local else None, load(args.config).kernel.credit)
