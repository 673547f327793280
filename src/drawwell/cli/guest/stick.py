"""The stick that is given away whole: our own source lets go of it before, and takes it back after."""

import argparse
from typing import Any

from drawwell.cli.guest.arguments import asked
from drawwell.config.drivers import ONERNG
from drawwell.errors import SourceError
from drawwell.guests.model import Attachment, Change, Guest


def let_go(args: argparse.Namespace, guest: Guest) -> list[Change]:
    """Have the source that reads the guest's stick pause it; nothing for other ways in."""
    return _steer(args, guest, "pause", "paused the source {}, whose stick the guest gets")


def take_back(args: argparse.Namespace, guest: Guest) -> list[Change]:
    """Have the kernel's driver take the stick again if a killed QEMU left it, and the source go on with it."""
    from drawwell.guests.qemu.usb_port import give_back

    left = give_back(guest.device) if guest.via is Attachment.USB else []
    changes = [
        Change(f"gave the stick at {port} back to the kernel's driver", "the host's kernel") for port in left
    ]
    return changes + _steer(args, guest, "resume", "resumed the source {}, whose stick is back")


def _steer(args: argparse.Namespace, guest: Guest, verb: str, words: str) -> list[Change]:
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
            if verb == "pause":  # it has not got it
                continue  # and if it is to go on, it does so by itself when the stick is back
        changes.append(Change(words.format(name), "broker"))
    return changes


def _reads(identity: dict[str, Any], port: str) -> bool:
    """Does that source read the stick at the port, or the only one there is?"""
    place = f"-usb-0:{port.partition('-')[2]}"
    return identity["kind"] == ONERNG and (not port or str(identity["stable_name"]).endswith(place))
