"""Passes a OneRNG to a guest and pauses the broker's source meanwhile."""

import argparse
from typing import Any

from drawwell.cli.guest.arguments import asked
from drawwell.config.drivers import ONERNG
from drawwell.errors import SourceError
from drawwell.guests.model import Attachment, Change, Guest


def release(args: argparse.Namespace, guest: Guest) -> list[Change]:
    """Pause the source if the guest takes its OneRNG."""
    return _steer(args, guest, "pause", "paused source {}, because the guest takes its OneRNG")


def take_back(args: argparse.Namespace, guest: Guest) -> list[Change]:
    """Return the OneRNG to the kernel's driver, and resume the source."""
    from drawwell.guests.qemu.usb_port import give_back

    left = give_back(guest.device) if guest.via is Attachment.USB else []
    changes = [
        Change(f"returned the OneRNG at {port} to the kernel driver", "the host's kernel") for port in left
    ]
    return changes + _steer(args, guest, "resume", "resumed source {}, because its OneRNG is back")


def _steer(args: argparse.Namespace, guest: Guest, verb: str, text: str) -> list[Change]:
    from drawwell.cli.client import call

    if guest.via is not Attachment.USB:
        return []
    changes = []
    for source in (asked(args, "status") or {}).get("sources", ()):
        name = source["identity"]["name"]
        if source["paused"] is (verb == "pause") or not _reads(source["identity"], guest.device):
            continue
        try:
            call(args, "source.command", {"source": name, "verb": verb, "args": {}})
        except SourceError:
            if verb == "pause":  # the source is not using the OneRNG
                continue  # on resume, the source continues when the OneRNG is back
        changes.append(Change(text.format(name), "broker"))
    return changes


def _reads(identity: dict[str, Any], port: str) -> bool:
    """Return whether a source reads the OneRNG at a port; "" is any port."""
    place = f"-usb-0:{port.partition('-')[2]}"
    return identity["kind"] == ONERNG and (not port or str(identity["stable_name"]).endswith(place))
