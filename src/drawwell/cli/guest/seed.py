"""Writes a guest's first-boot seed as a disk with cloud-init data."""

import argparse
import os
from contextlib import suppress
from typing import Final

from drawwell.cli.guest.arguments import timeout_s
from drawwell.cli.output import Output
from drawwell.errors import PermissionRefused
from drawwell.guests.model import Change, Guest

_SUFFIXES: Final = ("", ".receipt", ".receipt.key")


def write_seed(
    args: argparse.Namespace, guest: Guest, out: Output, owner: tuple[int | None, int | None]
) -> list[Change]:
    """Draw a seed and write its disk for `owner`, unless the disk exists.

    Raises:
        DrawwellError: the draw was refused, or the disk cannot be created.
    """
    from drawwell.cli.seed_file import write_seed as write
    from drawwell.guests.cloud_init import image, user_data

    path = guest.seed_image
    if not guest.seed or os.path.exists(path):
        return []

    def form(seed: bytes, credit_bits: int) -> bytes:
        return image(guest.name, user_data(seed, credit_bits), os.path.dirname(path))

    try:
        with out.working("waiting for the seed"):
            write(args, guest.name, path, form, again=True, wait_s=timeout_s(args))
        uid, gid = owner
        if os.geteuid() == 0:
            os.chown(path, -1 if uid is None else uid, -1 if gid is None else gid)
    except PermissionError:
        raise PermissionRefused(
            f"cannot write to {os.path.dirname(path)}: permission denied", hint="Run this as root."
        ) from None
    return [Change("drew a seed for the first boot", path)]


def drop_seed(guest: Guest) -> list[Change]:
    """Delete the disk and receipt of a guest that no longer has a seed."""
    if guest.seed or not os.path.exists(guest.seed_image):
        return []
    for suffix in _SUFFIXES:
        with suppress(FileNotFoundError):
            os.unlink(guest.seed_image + suffix)
    return [Change("deleted the seed", guest.seed_image)]
