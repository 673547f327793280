"""Parses and checks the guest on the command line."""

import argparse
import os
import pwd
import re
from dataclasses import replace
from typing import Any, Final

from drawwell.errors import GuestUnavailable, PermissionRefused, UsageError
from drawwell.guests.model import ATTACHMENTS, SEEDED, Attachment, Guest, GuestKind, Hypervisor, other_kind
from drawwell.units import Allowance, parse_allowance, parse_duration

_DOMAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+:@-]{0,127}", re.ASCII)
_LONGEST: Final = 255
_PORT: Final = re.compile(r"[0-9]{1,3}-[0-9]{1,3}(\.[0-9]{1,3}){0,6}", re.ASCII)
_ONERNG: Final = "OneRNG"
LIFTED: Final = "none"
MOST_DIGITS: Final = 10
"""The most digits of a user ID; the broker checks its range."""


def named(args: argparse.Namespace, known: dict[str, Any] | None = None) -> Guest:
    """Return the guest on the command line, with defaults from the broker.

    Raises:
        UsageError: the name is unsafe in a shell or in XML, the kind does not support the
            attachment, or a limit is invalid.
    """
    from drawwell.config.load import load

    known = known or {}
    kind = GuestKind(args.kind)
    if known and known["kind"] != kind:
        raise other_kind(args.name, known["kind"])
    via = Attachment(args.via or known.get("via") or ATTACHMENTS[kind][0])
    if via not in ATTACHMENTS[kind]:
        raise UsageError(
            f"{kind} does not support --via {via}", hint=f"Use --via {', '.join(ATTACHMENTS[kind])}."
        )
    if args.device and via not in {Attachment.USB, Attachment.DEVICE}:
        raise UsageError(
            f"--device cannot be combined with --via {via}",
            hint="Remove --device, or use --via usb or --via device.",
        )
    run_dir = load(args.config).broker.run_dir
    guest = Guest(
        kind=kind,
        name=checked_name(args.name),
        via=via,
        rate=_allowance(args, known, "rate"),
        quota=_allowance(args, known, "quota"),
        draw_class=getattr(args, "draw_class", None) or known.get("class") or "full",
        run_dir=run_dir,
        domain=_domain(args.domain or "", kind),
        device=_stick(args.device or "") if via is Attachment.USB else _printable(args.device or ""),
    )
    return replace(guest, seed=seeded(guest, getattr(args, "seed", None)))


def seeded(guest: Guest, wanted: bool | None) -> bool:
    """Return whether the guest gets a first-boot seed; None means no change.

    Raises:
        UsageError: this kind of guest cannot use a seed, or has no directory for it.
    """
    if wanted and guest.kind not in SEEDED:
        raise UsageError(
            f"a {guest.kind} guest cannot use a seed disk",
            hint=f"Remove --seed, which is only for {', '.join(SEEDED)}. A container uses this machine's kernel.",
        )
    if wanted and not guest.socket:
        raise UsageError(
            f"with --via {guest.via}, the guest has no directory for a seed",
            hint="Use --via virtio, or copy the output of 'drawwell seed-file' to the guest's image.",
        )
    return os.path.exists(guest.seed_image) if wanted is None else wanted


def checked_name(name: str) -> str:
    """Return the name if it is valid for a guest and a directory."""
    from drawwell.crypto.pki import CONSUMER_NAME

    if not CONSUMER_NAME.fullmatch(name) or ".." in name:
        raise UsageError(
            f"{name!r} is not a valid guest name",
            hint="Use up to 63 of a-z, 0-9, '.', '_' and '-'. For another name on the host, use --domain.",
        )
    return name


def _domain(domain: str, kind: GuestKind) -> str:
    """Check the name in the host's software; libvirt allows nearly any name."""
    if kind is GuestKind.LIBVIRT and domain.isprintable() and "/" not in domain and domain[:1] != "-":
        return domain[:_LONGEST]
    if domain and (not _DOMAIN.fullmatch(domain) or ".." in domain):
        raise UsageError(
            f"drawwell does not accept {domain!r} as the name of a domain or container",
            hint="Rename the guest: use up to 128 letters, digits and _.+:@-.",
        )
    return domain


def _printable(device: str) -> str:
    if not device.isprintable():
        raise UsageError(
            f"{device!r} is not a device", hint="Use a device node or a link in /dev/serial/by-path."
        )
    return device


def _allowance(args: argparse.Namespace, known: dict[str, Any], term: str) -> Allowance | None:
    text = getattr(args, term, None) or known.get(term)
    if not text or text == LIFTED:
        return None
    try:
        return parse_allowance(text)
    except ValueError as error:
        raise UsageError(f"--{term}: {error}", hint="Examples: 1KiB/s, 10MiB/day, none.") from error


def _stick(device: str) -> str:
    """Return the USB port of the OneRNG, or "" if there is only one."""
    from drawwell.drivers.discovery import discover

    sticks = [each for each in discover() if each.kind == _ONERNG]
    if not device:
        if len(sticks) > 1:
            ports = ", ".join(each.usb_path for each in sticks)
            raise UsageError(f"there are {len(sticks)} OneRNGs", hint=f"Choose one with --device: {ports}.")
        return ""
    for each in sticks:
        if device in {each.usb_path, each.stable_name} or os.path.realpath(device) == each.path:
            return each.usb_path
    if _PORT.fullmatch(device):
        return device
    raise UsageError(f"no OneRNG at {device!r}", hint="Use a node or port from 'drawwell source list'.")


def software(args: argparse.Namespace, kind: GuestKind) -> Hypervisor:
    """Return the software that runs this kind of guest."""
    from drawwell.guests.kinds import hypervisor

    return hypervisor(kind, args.connect)


def timeout_s(args: argparse.Namespace) -> float:
    """Return --timeout in seconds; raise UsageError if it is invalid."""
    if args.timeout is None:
        return float(args.default_timeout_s)
    try:
        return parse_duration(args.timeout)
    except ValueError as error:
        raise UsageError(f"--timeout: {error}", hint="Use a value such as 30s or 2min.") from error


def user(name: str) -> tuple[int, int | None]:
    """Return a user's ID and group (None in a container); raise UsageError."""
    try:
        entry = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except (KeyError, OverflowError) as error:
        if name.isdecimal() and len(name) <= MOST_DIGITS:
            return int(name), None
        raise UsageError(f"user {name!r} does not exist", hint="See 'getent passwd'.") from error
    return entry.pw_uid, entry.pw_gid


def account_name(uid: int) -> str:
    """Return the name of a user ID, or the number if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def turned_away(args: argparse.Namespace, entry: dict[str, Any]) -> GuestUnavailable | None:
    """Return the error if the guest's socket refused another user; else None."""
    uid = entry["turned_away_uid"]
    if uid is None or entry["connected"]:
        return None
    who = account_name(uid)
    return GuestUnavailable(
        f"user {who} was refused at {entry['socket']}: {args.name} is configured to run as another user",
        hint=f"If the guest runs as {who}, run 'drawwell guest apply {args.kind} {args.name} --user {who}'.",
    )


def asked(args: argparse.Namespace, verb: str) -> dict[str, Any] | None:
    """Send a request; return None if no broker runs or the broker refuses."""
    from drawwell.cli.client import NoBroker, call

    try:
        return call(args, verb, {})
    except (NoBroker, PermissionRefused):
        return None


def known(args: argparse.Namespace, *, needed: bool = True) -> dict[str, Any] | None:
    """Return the broker's entry for the guest, or None.

    Raises:
        NoBroker: a broker is `needed`, but none is running.
    """
    from drawwell.cli.client import call

    result = call(args, "guest.list", {}) if needed else asked(args, "guest.list")
    return next((each for each in (result or {}).get("guests", ()) if each["name"] == args.name), None)
