"""``drawwell draw``: bytes from the broker to standard output or a file, with a receipt when asked for."""

import argparse
import base64
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from drawwell.cli.output import Output
from drawwell.entropy.blocks import DrawClass, DrawOptions, Grant
from drawwell.errors import DrawwellError, PermissionRefused, SourceUnavailable, UsageError
from drawwell.units import format_duration, format_size, parse_duration, parse_size
from drawwell.wire.limits import MAX_DRAW_BYTES

_PIECE_BYTES = MAX_DRAW_BYTES
"""Drawn at a time."""
_PIECES_WAIT_S = 600.0

if TYPE_CHECKING:  # start-up time
    from drawwell.config.model import Config
    from drawwell.roles.upstream import AnyLink


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
        "--receipt", metavar="FILE", help="write a signed receipt to a new FILE, and its key to FILE.key"
    )
    parser.add_argument(
        "--prediction-resistance",
        action="store_true",
        help="reseed your generator first; costs 48 bytes more",
    )
    parser.add_argument(
        "--wait",
        metavar="TIME",
        help="keep retrying a refused draw for up to TIME, such as 30s (default: 0, and 10min for each piece of"
        f" {format_size(_PIECE_BYTES)} where more than that is drawn)",
    )
    parser.add_argument("--via", metavar="LINK", help="a joined broker by name, tls://…, or unix:///PATH")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    from drawwell.config.load import load
    from drawwell.roles.upstream import choose_blocking, due_identities, renew_all

    try:
        total = parse_size(args.bytes)
        wait_s = _wait(args.wait, total)
    except ValueError as error:
        raise UsageError(str(error), hint="Say for instance: drawwell draw 4KiB --wait 30s.") from error
    if not (args.hex or args.base64 or args.output or args.raw or args.json):
        out.write_bytes(b"")  # refuse a terminal before anything is drawn
    if args.receipt and total > _PIECE_BYTES:
        raise UsageError(
            f"a receipt covers one draw of at most {format_size(_PIECE_BYTES)}",
            hint="Draw in several pieces.",
        )
    config = load(args.config)
    with _Sink(args, out) as sink, out.working(lambda: sink.doing(total, wait_s)):
        well = choose_blocking(config, args.via)
        if due := due_identities(config, args.via):
            import asyncio

            asyncio.run(renew_all(due))
        try:
            _draw(args, well, total, wait_s, sink)
        except SourceUnavailable as error:
            hint = _other_links(config, args.via) or error.hint
            raise SourceUnavailable(str(error), hint=hint) from error
        except PermissionRefused as error:
            hint = _as_consumer() if well.name == config.unix.path else error.hint
            raise PermissionRefused(str(error), hint=hint) from error
        sink.finish(well.name)
    if well.name != config.unix.path and not (args.via or args.json):
        out.say(f"drawn from {well.name}")
    return 0


def _wait(text: str | None, total: int) -> float:
    """Return how long a piece may wait, in seconds: several seldom fit into the reservoir at once."""
    if text is None:
        return _PIECES_WAIT_S if total > _PIECE_BYTES else 0.0
    return 0.0 if text == "0" else parse_duration(text)


def _as_consumer() -> str:
    """Return the hint that names the user who draws."""
    import pwd

    uid = os.geteuid()
    user = next((each.pw_name for each in pwd.getpwall() if each.pw_uid == uid), str(uid))
    return (
        f'Have root add [[consumer]] name = "{user}", user = "{user}" to the configuration, and type '
        "'systemctl reload drawwell-broker', or restart what serves here."
    )


def _other_links(config: "Config", via: str | None) -> str:
    """Return the hint that names a joined broker, where this machine's own one has no source."""
    from drawwell.links.identity import load_all
    from drawwell.roles.upstream import links_dir

    if via or not config.draws_here:
        return ""
    with suppress(DrawwellError, OSError):
        names = [os.path.basename(each.directory) for each in load_all(links_dir(config))]
        if names:
            return f"Another broker was joined: 'drawwell draw --via {names[0]}', or see 'drawwell doctor'."
    return ""


class _Sink:
    """Where the bytes go: text when all are there, raw bytes as they come; files are new, and whole or not at all."""

    def __init__(self, args: argparse.Namespace, out: Output) -> None:
        self._args, self._out = args, out
        self._as_text = (args.json or args.hex or args.base64) and not args.output
        self._kept = bytearray()
        self._written = self._serial = 0
        self._made: list[str] = []
        self._files: dict[str, BinaryIO] = {}

    def write(self, grant: Grant) -> None:
        if self._args.output:
            self._files["data"].write(grant.data)
        elif self._as_text:
            self._kept += grant.data
        else:
            self._out.write_bytes(grant.data, force=self._args.raw)
        self._written += len(grant)
        self._serial = grant.serial
        if self._args.receipt:
            self._files["receipt"].write(grant.receipt)
            self._files["key"].write(grant.receipt_key)

    def finish(self, broker: str) -> None:
        """Everything was drawn: print what was kept, and let the files stay."""
        for file in self._files.values():
            file.flush()
        self._made.clear()
        encoded = "" if self._args.output else base64.b64encode(self._kept).decode()
        if self._args.json:
            self._out.result(self._document(encoded, broker), "")
        elif self._as_text:
            self._out.result({}, self._kept.hex() if self._args.hex else encoded)

    def _document(self, encoded: str, broker: str) -> dict[str, Any]:
        args = self._args
        document = {"bytes": self._written, "class": args.draw_class, "serial": self._serial}
        document |= {"from": broker}
        document |= {"file": args.output} if args.output else {"data": encoded}
        return document | ({"receipt": args.receipt} if args.receipt else {})

    def __enter__(self) -> Self:
        args = self._args
        try:
            if args.output:
                self._new("data", args.output)
            if args.receipt:
                self._new("receipt", args.receipt)
                self._new("key", args.receipt + ".key")
        except OSError:
            self._drop()
            raise
        return self

    def _new(self, what: str, path: str) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._made.append(path)
        self._files[what] = os.fdopen(fd, "wb")

    def __exit__(self, error: object, *_: object) -> None:
        self._out.clear_progress()
        self._drop()
        if error and self._written:
            fate = "thrown away" if self._args.output or self._as_text else "written"
            self._out.say(
                f"the {format_size(self._written)} drawn so far were {fate}; they count against the quota"
            )

    def _drop(self) -> None:
        """Close the files, and remove them unless everything is in them."""
        for file in self._files.values():
            with suppress(OSError):
                file.close()
        for path in self._made:
            os.unlink(path)

    def doing(self, total: int, wait_s: float) -> str:
        """Return what the draw is at, for the progress line."""
        drawn = f"{format_size(self._written)} of {format_size(total)} drawn"
        return f"{drawn}, waiting up to {format_duration(wait_s)}" if wait_s else drawn


def _draw(args: argparse.Namespace, link: "AnyLink", total: int, wait_s: float, sink: _Sink) -> None:
    from drawwell.roles.upstream import draw_patiently

    options: DrawOptions = {
        "prediction_resistance": args.prediction_resistance,
        "receipt": bool(args.receipt),
    }
    drawn = 0
    try:
        while drawn < total:
            piece = min(_PIECE_BYTES, total - drawn)
            grant = draw_patiently(link, piece, DrawClass(args.draw_class), wait_s, **options)
            drawn += len(grant)
            sink.write(grant)
    finally:
        link.close()
