"""``drawwell draw``: bytes from the broker to standard output or a file, with a receipt when asked for."""

import argparse
import asyncio
import base64
import os
from typing import Any, Self

from drawwell.cli.output import Output
from drawwell.entropy.blocks import DrawClass, Grant
from drawwell.errors import Refused, UsageError
from drawwell.ports import Upstream
from drawwell.units import parse_duration, parse_size


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    """Add the noun."""
    parser = nouns.add_parser(
        "draw", parents=[common], help="draw bytes, once and for you alone", allow_abbrev=False,
        epilog="Exit codes: 0 drawn, 69 no healthy source or no broker, 75 quota or starved (says when to retry).",
    )  # fmt: skip
    parser.add_argument(
        "bytes", nargs="?", default="32", metavar="BYTES", help="how many, such as 32 or 4KiB (default: 32)"
    )
    parser.add_argument(
        "--class", dest="draw_class", choices=[str(name) for name in DrawClass], default="full",
        help="full: full entropy from the hardware (default); drbg: your own generator, seeded from it",
    )  # fmt: skip
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--hex", action="store_true", help="print hexadecimal digits")
    form.add_argument("--base64", action="store_true", help="print base64")
    form.add_argument("--raw", action="store_true", help="raw bytes even to a terminal")
    parser.add_argument("-o", "--output", metavar="FILE", help="write raw bytes to a new FILE, mode 0600")
    parser.add_argument(
        "--receipt", metavar="FILE", help="write a signed receipt to FILE, and its key to FILE.key"
    )
    parser.add_argument(
        "--prediction-resistance",
        action="store_true",
        help="reseed your generator first; costs 48 bytes more",
    )
    parser.add_argument(
        "--wait", metavar="TIME", default="0", help="when refused, try again for so long, e.g. 30s"
    )
    parser.add_argument("--via", metavar="LINK", help="a joined broker by name, tls://…, or unix:///PATH")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.control import upstream

    try:
        total = parse_size(args.bytes)
        wait_s = parse_duration(args.wait) if args.wait != "0" else 0.0
    except ValueError as error:
        raise UsageError(str(error)) from error
    if not (args.hex or args.base64 or args.output or args.raw or args.json):
        out.write_bytes(b"")  # refuse a terminal before anything is drawn
    if args.receipt and total > _PIECE:
        raise UsageError(
            f"a receipt covers one draw of at most {_PIECE} bytes", hint="Draw in several pieces."
        )
    with _Sink(args, out) as sink:
        asyncio.run(_draw(args, upstream(args), total, wait_s, sink))
    return 0


_PIECE = 65_536


class _Sink:
    """Where the bytes go, in the form asked for."""

    def __init__(self, args: argparse.Namespace, out: Output) -> None:
        self._args, self._out = args, out
        self._fd = os.open(args.output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600) if args.output else None

    def write(self, grant: Grant) -> None:
        args, out = self._args, self._out
        if self._fd is not None:
            os.write(self._fd, grant.data)
        elif args.json:
            out.result(
                {
                    "bytes": len(grant), "class": str(grant.draw_class), "serial": grant.serial,
                    "data": base64.b64encode(grant.data).decode(),
                },
                "",
            )  # fmt: skip
        elif args.hex:
            out.result({}, grant.data.hex())
        elif args.base64:
            out.result({}, base64.b64encode(grant.data).decode())
        else:
            out.write_bytes(grant.data, force=args.raw)
        if args.receipt:
            _keep(args.receipt, grant.receipt)
            _keep(args.receipt + ".key", grant.receipt_key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._out.clear_progress()
        if self._fd is not None:
            os.close(self._fd)

    def progress(self, drawn: int, total: int) -> None:
        if total > _PIECE:
            self._out.progress(f"{drawn} of {total} bytes")


def _keep(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)


async def _draw(args: argparse.Namespace, upstream: Upstream, total: int, wait_s: float, sink: _Sink) -> None:
    drawn = 0
    try:
        while drawn < total:
            grant = await _draw_patiently(args, upstream, min(_PIECE, total - drawn), wait_s)
            drawn += len(grant)
            sink.write(grant)
            sink.progress(drawn, total)
    finally:
        await upstream.aclose()


async def _draw_patiently(args: argparse.Namespace, upstream: Upstream, n_bytes: int, wait_s: float) -> Grant:
    deadline = asyncio.get_running_loop().time() + wait_s
    while True:
        try:
            grant = await upstream.draw(
                n_bytes,
                DrawClass(args.draw_class),
                prediction_resistance=args.prediction_resistance,
                receipt=bool(args.receipt),
            )
        except Refused as error:
            pause = error.retry_after_s
            if pause is None or asyncio.get_running_loop().time() + pause > deadline:
                raise
            await asyncio.sleep(pause)
        else:
            return grant
