"""``drawwell seed-file``: a seed for one machine's first boot, written once and never twice."""

import argparse
import base64
import os
from contextlib import suppress
from typing import Any, Self

from drawwell.cli.output import Output
from drawwell.entropy.blocks import Grant
from drawwell.errors import DrawwellError, UsageError
from drawwell.units import parse_duration

SEED_BYTES = 512
"""As systemd-random-seed(8) keeps at least, and so much that a reader may take half of it."""
SUFFIXES = {"raw": "random-seed", "cloud-init": "user-data"}


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    """Add the noun."""
    parser = nouns.add_parser(
        "seed-file", parents=[common], help="write a seed for one machine's first boot, once", allow_abbrev=False,
        epilog="The broker remembers for whom a seed was written. Put the file into that machine's image or user data, "
        "then remove it here; FILE.receipt and FILE.receipt.key prove where its bytes came from.",
    )  # fmt: skip
    parser.add_argument(
        "--for", dest="machine", metavar="NAME", required=True, help="the machine that it is for"
    )
    parser.add_argument(
        "--format", choices=list(SUFFIXES), default="raw",
        help="raw: 512 bytes, as systemd's random-seed file (default); cloud-init: a cloud-config with random_seed",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="the new file, mode 0600 (default: NAME.random-seed or NAME.user-data)"
    )  # fmt: skip
    parser.add_argument(
        "--again", action="store_true", help="write another one, as the earlier one was never used"
    )
    parser.add_argument(
        "--wait", metavar="TIME", default="0", help="when refused, try again for so long, e.g. 30s"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.client import call

    wait_s = _wait(args)
    with _Files(args.output or f"{args.machine}.{SUFFIXES[args.format]}".replace("/", "_")) as files:
        call(args, "seed.claim", {"name": args.machine, "again": args.again})
        try:
            with out.working("waiting for the seed"):
                grant = _draw(args, wait_s)
            files.write(_formatted(grant.data, args.format), grant)
        except BaseException:
            with suppress(DrawwellError):
                call(args, "seed.settle", {"name": args.machine})
            raise
    try:
        call(args, "seed.settle", {"name": args.machine, "serial": grant.serial})
    except DrawwellError as error:
        out.say(f"the file is written, but the broker did not note its serial number: {error}")
    document = {
        "machine": args.machine, "format": args.format, "file": files.path, "bytes": len(grant),
        "class": str(grant.draw_class), "serial": grant.serial, "receipt": files.path + ".receipt",
    }  # fmt: skip
    out.result(document, files.path)
    out.say(f"for {args.machine} alone: put it in place, then remove it here")
    return 0


def _wait(args: argparse.Namespace) -> float:
    try:
        return parse_duration(args.wait) if args.wait != "0" else 0.0
    except ValueError as error:
        raise UsageError(str(error), hint="Say for instance: --wait 30s.") from error


def _draw(args: argparse.Namespace, wait_s: float) -> Grant:
    from drawwell.config.load import load
    from drawwell.entropy.blocks import DrawClass
    from drawwell.links.blocking import BlockingLink
    from drawwell.roles.upstream import draw_patiently

    link = BlockingLink(load(args.config).control.path)
    try:
        return draw_patiently(link, SEED_BYTES, DrawClass.FULL, wait_s, receipt=True)
    finally:
        link.close()


def _formatted(data: bytes, form: str) -> bytes:
    """Write it as the machine reads it: https://docs.cloud-init.io/en/latest/reference/modules.html#seed-random."""
    if form == "raw":
        return data
    text = base64.b64encode(data).decode()
    return f"#cloud-config\nrandom_seed:\n  data: {text}\n  encoding: base64\n".encode()


class _Files:
    """The seed, its receipt and the receipt's key: new files, mode 0600, on disk whole or not there."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._open: dict[str, int] = {}
        self._written = False

    def __enter__(self) -> Self:
        try:
            for path in (self.path, self.path + ".receipt", self.path + ".receipt.key"):
                self._open[path] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError:
            self._drop()
            raise
        return self

    def write(self, seed: bytes, grant: Grant) -> None:
        for fd, data in zip(self._open.values(), (seed, grant.receipt, grant.receipt_key), strict=True):
            with os.fdopen(os.dup(fd), "wb") as file:
                file.write(data)
            os.fsync(fd)
        self._written = True

    def __exit__(self, *_: object) -> None:
        self._drop()

    def _drop(self) -> None:
        for path, fd in self._open.items():
            os.close(fd)
            if not self._written:
                os.unlink(path)
