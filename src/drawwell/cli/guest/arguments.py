"""The guest that was typed, with every word of it checked before anything happens."""

import argparse
import os
import pwd
import re
from typing import Any, Final

from drawwell.errors import GuestUnavailable, PermissionRefused, UsageError
from drawwell.guests.model import ATTACHMENTS, Attachment, Guest, GuestKind, Hypervisor, other_kind
from drawwell.units import Allowance, parse_allowance, parse_duration

_DOMAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+:@-]{0,127}", re.ASCII)
_LONGEST: Final = 255
_PORT: Final = re.compile(r"[0-9]{1,3}-[0-9]{1,3}(\.[0-9]{1,3}){0,6}", re.ASCII)
_ONERNG: Final = "OneRNG"
LIFTED: Final = "none"
MOST_DIGITS: Final = 10
"""Of a user's number; the broker says which are none."""


def named(args: argparse.Namespace, known: dict[str, Any] | None = None) -> Guest:
    """Return the guest that the command line names; what it does not say is as the broker knows it.

    Raises:
        UsageError: a name that could mean something to a shell or in XML, a way that this kind has not, or terms that
            are none.
    """
    from drawwell.config.load import load

    known = known or {}
    kind = GuestKind(args.kind)
    if known and known["kind"] != kind:
        raise other_kind(args.name, known["kind"])
    via = Attachment(args.via or known.get("via") or ATTACHMENTS[kind][0])
    if via not in ATTACHMENTS[kind]:
        raise UsageError(
            f"{kind} has no way in called {via}", hint=f"Use --via {', '.join(ATTACHMENTS[kind])}."
        )
    if args.device and via not in {Attachment.USB, Attachment.DEVICE}:
        raise UsageError(
            f"no stick is given away by {via}", hint="Leave --device out, or say --via usb or --via device."
        )
    return Guest(
        kind=kind,
        name=checked_name(args.name),
        via=via,
        rate=_allowance(args, known, "rate"),
        quota=_allowance(args, known, "quota"),
        draw_class=getattr(args, "draw_class", None) or known.get("class") or "full",
        run_dir=load(args.config).broker.run_dir,
        domain=_domain(args.domain or "", kind),
        device=_stick(args.device or "") if via is Attachment.USB else _printable(args.device or ""),
    )


def checked_name(name: str) -> str:
    """Return a name that a guest, a consumer and a directory can have; raises UsageError otherwise."""
    from drawwell.crypto.pki import CONSUMER_NAME

    if not CONSUMER_NAME.fullmatch(name) or ".." in name:
        raise UsageError(
            f"{name!r} is no name of a guest",
            hint="Use a-z, 0-9, '.', '_' and '-', at most 63; what its host's software calls it is --domain.",
        )
    return name


def _domain(domain: str, kind: GuestKind) -> str:
    """Return what the host's software calls it; libvirt allows nearly everything in a name, and takes a UUID too."""
    if kind is GuestKind.LIBVIRT and domain.isprintable() and "/" not in domain and domain[:1] != "-":
        return domain[:_LONGEST]
    if domain and (not _DOMAIN.fullmatch(domain) or ".." in domain):
        raise UsageError(
            f"{domain!r} is no name of a domain or a container that drawwell writes anywhere",
            hint="Use letters, digits and _.+:@-, at most 128; rename the guest.",
        )
    return domain


def _printable(device: str) -> str:
    if not device.isprintable():
        raise UsageError(
            f"{device!r} is no device", hint="Name its node, or its link in /dev/serial/by-path."
        )
    return device


def _allowance(args: argparse.Namespace, known: dict[str, Any], term: str) -> Allowance | None:
    text = getattr(args, term, None) or known.get(term)
    if not text or text == LIFTED:
        return None
    try:
        return parse_allowance(text)
    except ValueError as error:
        raise UsageError(f"--{term}: {error}", hint="Write 1KiB/s or 10MiB/day, or none.") from error


def _stick(device: str) -> str:
    """The USB port of the stick; "" where there is only one, which is found by its kind."""
    from drawwell.drivers.discovery import discover

    sticks = [each for each in discover() if each.kind == _ONERNG]
    if not device:
        if len(sticks) > 1:
            ports = ", ".join(each.usb_path for each in sticks)
            raise UsageError(
                f"there are {len(sticks)} sticks", hint=f"Name one: --device with one of {ports}."
            )
        return ""
    for each in sticks:
        if device in {each.usb_path, each.stable_name} or os.path.realpath(device) == each.path:
            return each.usb_path
    if _PORT.fullmatch(device):
        return device
    raise UsageError(
        f"no stick is at {device!r}", hint="Name its node or its port; 'drawwell source list' has both."
    )


def software(args: argparse.Namespace, kind: GuestKind) -> Hypervisor:
    """Return what runs guests of that kind."""
    from drawwell.guests.kinds import hypervisor

    return hypervisor(kind, args.connect)


def timeout_s(args: argparse.Namespace) -> float:
    """Return what --timeout says, in seconds; raises UsageError."""
    if args.timeout is None:
        return float(args.default_timeout_s)
    try:
        return parse_duration(args.timeout)
    except ValueError as error:
        raise UsageError(f"--timeout: {error}", hint="Write 30s or 2min.") from error


def user(name: str) -> tuple[int, int | None]:
    """Return number and group of a user, by name or number; one of a container has no group here. Raises UsageError."""
    try:
        entry = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except (KeyError, OverflowError) as error:
        if name.isdecimal() and len(name) <= MOST_DIGITS:
            return int(name), None
        raise UsageError(f"there is no user {name!r} here", hint="Name one of 'getent passwd'.") from error
    return entry.pw_uid, entry.pw_gid


def account_name(uid: int) -> str:
    """Return the name of a user number, or the number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def turned_away(args: argparse.Namespace, entry: dict[str, Any]) -> GuestUnavailable | None:
    """Return the fault that nobody is connected because who came is not whom the guest was said to run as."""
    uid = entry["turned_away_uid"]
    if uid is None or entry["connected"]:
        return None
    who = account_name(uid)
    return GuestUnavailable(
        f"user {who} came to {entry['socket']} and was turned away: {args.name} is said to run as another",
        hint=f"If its machine runs as {who}, say so: 'drawwell guest apply {args.kind} {args.name} --user {who}'.",
    )


def asked(args: argparse.Namespace, verb: str) -> dict[str, Any] | None:
    """Ask the broker where there is one that answers us; None otherwise."""
    from drawwell.cli.client import NoBroker, call

    try:
        return call(args, verb, {})
    except (NoBroker, PermissionRefused):
        return None


def known(args: argparse.Namespace, *, needed: bool = True) -> dict[str, Any] | None:
    """Return the broker's entry of the guest, None for none.

    Raises:
        NoBroker: none runs, and it is `needed`.
    """
    from drawwell.cli.client import call

    result = call(args, "guest.list", {}) if needed else asked(args, "guest.list")
    return next((each for each in (result or {}).get("guests", ()) if each["name"] == args.name), None)
