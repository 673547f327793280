"""``drawwell seed-file``: write a single-use seed for a first boot."""

import argparse
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from drawwell.cli.output import Output
from drawwell.entropy.blocks import Grant
from drawwell.errors import DrawwellError, UsageError
from drawwell.units import parse_duration

SEED_BYTES = 512
"""The minimum of systemd-random-seed(8), and enough even if only half of the seed is used."""
SUFFIXES: Final = {"raw": "random-seed", "cloud-init": "user-data"}


Format = Callable[[bytes, int], bytes]
"""Encodes a seed and its credit in bits for the machine that reads it."""


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    parser = nouns.add_parser(
        "seed-file", parents=[common], help="write a single-use seed for a machine's first boot", allow_abbrev=False,
        epilog="The broker records which machines have a seed. Copy the file to that machine's image or user data, "
        "then delete the file here. FILE.receipt and FILE.receipt.key prove where the bytes came from.",
    )  # fmt: skip
    parser.add_argument("--for", dest="machine", metavar="NAME", required=True, help="the machine to seed")
    parser.add_argument(
        "--format", choices=list(SUFFIXES), default="raw",
        help="raw: 512 bytes for systemd's random-seed file (default); cloud-init: a cloud-config with random_seed",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="the new file (default: NAME.random-seed or NAME.user-data)"
    )  # fmt: skip
    parser.add_argument(
        "--again", action="store_true", help="write another seed because the earlier seed was never used"
    )
    parser.add_argument(
        "--wait", metavar="TIME", default="0", help="keep retrying a refused draw for up to TIME, such as 30s"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    path = args.output or f"{args.machine}.{SUFFIXES[args.format]}".replace("/", "_")
    wait_s = _wait(args)
    with out.working("waiting for the seed"):
        grant, noted = write_seed(
            args, args.machine, path, FORMATS[args.format], again=args.again, wait_s=wait_s
        )
    if noted is not None:
        out.say(f"the file was written, but the broker did not record the seed's serial number: {noted}")
    document = {
        "machine": args.machine, "format": args.format, "file": path, "bytes": len(grant),
        "class": str(grant.draw_class), "serial": grant.serial, "receipt": path + ".receipt",
    }  # fmt: skip
    out.result(document, path)
    out.say(f"copy the file to {args.machine} only, then delete it here")
    return 0


def write_seed(
    args: argparse.Namespace, machine: str, path: str, form: Format, *, again: bool, wait_s: float
) -> tuple[Grant, DrawwellError | None]:
    """Draw a machine's seed; write it and its receipt to new files (0600).

    Args:
        args: The command-line arguments, which select the broker.
        machine: The machine to seed; the broker records its name.
        path: The new file.
        form: Encodes the seed and its credit in bits.
        again: Write a seed even if the machine already has one.
        wait_s: How long to retry a refused draw, in seconds.

    Returns:
        The grant, and an error if the broker did not record the serial number.

    Raises:
        UsageError: the machine already has a seed, or the file exists.
        DrawwellError: the draw was refused; no file is left.
    """
    from drawwell.cli.client import call
    from drawwell.state.new_files import NewFiles

    with NewFiles(path, f"{path}.receipt", f"{path}.receipt.key") as files:
        call(args, "seed.claim", {"name": machine, "again": again})
        try:
            grant, credit_bits = _draw(args, wait_s)
            files.write(form(grant.data, credit_bits), grant.receipt, grant.receipt_key)
            files.keep()
        except BaseException:
            with suppress(DrawwellError):
                call(args, "seed.settle", {"name": machine})
            raise
    try:
        call(args, "seed.settle", {"name": machine, "serial": grant.serial})
    except DrawwellError as error:
        return grant, error
    return grant, None


def _wait(args: argparse.Namespace) -> float:
    try:
        return parse_duration(args.wait) if args.wait != "0" else 0.0
    except ValueError as error:
        raise UsageError(str(error), hint="Example: --wait 30s.") from error


def _draw(args: argparse.Namespace, wait_s: float) -> tuple[Grant, int]:
    """Draw a seed; return it with the credit that the evidence allows."""
    from drawwell.config.load import load
    from drawwell.entropy.blocks import DrawClass
    from drawwell.entropy.credit import credit
    from drawwell.guests.inside.reseed import MOST_CREDIT_BITS
    from drawwell.links.blocking import BlockingLink
    from drawwell.reports import Evidence
    from drawwell.roles.upstream import draw_patiently

    config, evidence = load(args.config), Evidence.NO_NOISE
    link = BlockingLink(config.control.path)
    try:
        grant = draw_patiently(link, SEED_BYTES, DrawClass.FULL, wait_s, receipt=True)
        with suppress(DrawwellError, ValueError):  # in the same session: a restarted broker has no evidence
            evidence = Evidence(link.call("status", {}).get("evidence", ""))
    finally:
        link.close()
    bits = int(credit(evidence, config.kernel.credit) * len(grant))
    return grant, min(bits, MOST_CREDIT_BITS)


def _raw(seed: bytes, _credit_bits: int) -> bytes:
    return seed


def _cloud_init(seed: bytes, credit_bits: int) -> bytes:
    from drawwell.guests.cloud_init import user_data

    return user_data(seed, credit_bits)


FORMATS: Final[dict[str, Format]] = {"raw": _raw, "cloud-init": _cloud_init}
