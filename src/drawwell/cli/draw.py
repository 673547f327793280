"""``drawwell draw``: draw bytes to standard output or a file."""

import argparse
import base64
import gc
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from drawwell.cli.output import Output
from drawwell.entropy.blocks import DrawClass, DrawOptions, Grant
from drawwell.errors import DrawwellError, PermissionRefused, SourceUnavailable, Unreachable, UsageError
from drawwell.state.new_files import NewFiles
from drawwell.units import format_duration, format_size, parse_duration, parse_size
from drawwell.wire.limits import MAX_DRAW_BYTES

_PIECE_BYTES = MAX_DRAW_BYTES
"""The most bytes in one draw."""
_PIECES_WAIT_S = 600.0

if TYPE_CHECKING:  # to start faster
    from drawwell.config.model import Config
    from drawwell.roles.upstream import AnyLink


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    parser = nouns.add_parser(
        "draw", parents=[common], help="draw random bytes", allow_abbrev=False,
        epilog="Exit codes: 0 success; 69 no healthy source or no broker; 75 quota used up or reservoir too low.",
    )  # fmt: skip
    parser.add_argument(
        "bytes", nargs="?", default="32", metavar="BYTES", help="number of bytes, e.g. 4KiB (default: 32)"
    )
    parser.add_argument(
        "--class", dest="draw_class", choices=[str(name) for name in DrawClass], default="full",
        help="full: full entropy from the hardware (default); drbg: output of your own DRBG, seeded from the hardware",
    )  # fmt: skip
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--hex", action="store_true", help="print hexadecimal digits")
    form.add_argument("--base64", action="store_true", help="print base64")
    form.add_argument("--raw", action="store_true", help="write raw bytes even to a terminal")
    parser.add_argument("-o", "--output", metavar="FILE", help="write raw bytes to a new FILE with mode 0600")
    parser.add_argument(
        "--receipt", metavar="FILE", help="write a signed receipt to a new FILE and its key to FILE.key"
    )
    parser.add_argument(
        "--prediction-resistance",
        action="store_true",
        help="reseed your DRBG first; this uses 48 more bytes",
    )
    parser.add_argument(
        "--wait",
        metavar="TIME",
        help="keep retrying for up to TIME, such as 30s, if the draw is refused, the broker cannot be reached or no "
        f"source is healthy (default: 0; if a draw of more than {format_size(_PIECE_BYTES)} is refused, 10min for each "
        f"{format_size(_PIECE_BYTES)})",
    )
    parser.add_argument("--via", metavar="LINK", help="broker to draw from: a link, tls://… or unix:///PATH")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    gc.disable()  # saves a twentieth of the import time
    from drawwell.config.load import load
    from drawwell.roles.upstream import due_identities, renew_all

    try:
        total = parse_size(args.bytes)
        wait_s = _wait(args.wait, total)
    except ValueError as error:
        raise UsageError(str(error), hint="Example: drawwell draw 4KiB --wait 30s.") from error
    if not (args.hex or args.base64 or args.output or args.raw or args.json):
        out.write_bytes(b"")  # refuse a terminal before drawing
    if args.receipt and total > _PIECE_BYTES:
        raise UsageError(
            f"a receipt covers one draw of at most {format_size(_PIECE_BYTES)}",
            hint="Split the draw.",
        )
    config = load(args.config)
    with _Sink(args, out) as sink, out.working(lambda: sink.doing(total, wait_s)):
        deadline = time.monotonic() + wait_s
        well = _choose(config, args.via, 0.0 if args.wait is None else deadline)
        if due := due_identities(config, args.via):
            import asyncio

            asyncio.run(renew_all(due))
        try:
            _draw(args, well, sink, total=total, wait_s=wait_s, deadline=deadline)
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
    """Return how long a piece may wait, in seconds."""
    if text is None:
        return _PIECES_WAIT_S if total > _PIECE_BYTES else 0.0
    return 0.0 if text == "0" else parse_duration(text)


def _as_consumer() -> str:
    """Return a hint that names the current user."""
    import pwd

    uid = os.geteuid()
    user = next((each.pw_name for each in pwd.getpwall() if each.pw_uid == uid), str(uid))
    return (
        f'As root, add [[consumer]] name = "{user}", user = "{user}" to the configuration and run '
        "'systemctl reload drawwell-broker' or restart the broker."
    )


def _other_links(config: "Config", via: str | None) -> str:
    """Return a hint that suggests another joined broker."""
    from drawwell.links.identity import load_all
    from drawwell.roles.upstream import links_dir

    if via or not config.draws_here:
        return ""
    with suppress(DrawwellError, OSError):
        names = [os.path.basename(each.directory) for each in load_all(links_dir(config))]
        if names:
            return f"Use another broker: 'drawwell draw --via {names[0]}', or run 'drawwell doctor'."
    return ""


class _Sink:
    """The output of a draw. Text and files are written after the last byte."""

    def __init__(self, args: argparse.Namespace, out: Output) -> None:
        self._args, self._out = args, out
        self._as_text = (args.json or args.hex or args.base64) and not args.output
        self._kept = bytearray()
        self._written = self._serial = 0
        receipt = [args.receipt, f"{args.receipt}.key"] if args.receipt else []
        self._files = NewFiles(*([args.output] if args.output else []), *receipt)

    def write(self, grant: Grant) -> None:
        pieces = [grant.receipt, grant.receipt_key] if self._args.receipt else []
        if self._args.output:
            pieces.insert(0, grant.data)
        elif self._as_text:
            self._kept += grant.data
        else:
            self._out.write_bytes(grant.data, force=self._args.raw)
        self._written += len(grant)
        self._serial = grant.serial
        self._files.write(*pieces)

    def finish(self, broker: str) -> None:
        """Print the text and keep the files after a complete draw."""
        self._files.keep()
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
        self._files.__enter__()
        return self

    def __exit__(self, error: object, *_: object) -> None:
        self._out.clear_progress()
        self._files.__exit__()
        if error and self._written:
            fate = "discarded" if self._args.output or self._as_text else "written"
            self._out.say(
                f"{format_size(self._written)} had been drawn and were {fate}; they still count against the quota"
            )

    def doing(self, total: int, wait_s: float) -> str:
        """Return the progress of the draw on one line."""
        drawn = f"{format_size(self._written)} of {format_size(total)} drawn"
        return f"{drawn}, waiting up to {format_duration(wait_s)}" if wait_s else drawn


def _choose(config: "Config", via: str | None, deadline: float) -> "AnyLink":
    """Choose the broker, and wait for a broker on this machine to start."""
    from drawwell.roles.upstream import TRY_AGAIN_S, choose_blocking

    while True:
        try:
            return choose_blocking(config, via)
        except Unreachable:
            if time.monotonic() + TRY_AGAIN_S > deadline:
                raise
            time.sleep(TRY_AGAIN_S)


def _draw(
    args: argparse.Namespace, link: "AnyLink", sink: _Sink, *, total: int, wait_s: float, deadline: float
) -> None:
    """Draw in pieces.

    The first piece may wait until `deadline`, each other piece for `wait_s`.
    """
    from drawwell.roles.upstream import draw_patiently

    options: DrawOptions = {
        "prediction_resistance": args.prediction_resistance,
        "receipt": bool(args.receipt),
    }
    drawn = 0
    try:
        while drawn < total:
            piece = min(_PIECE_BYTES, total - drawn)
            left_s = wait_s if drawn else max(0.0, deadline - time.monotonic())
            grant = draw_patiently(
                link, piece, DrawClass(args.draw_class), left_s, persist=args.wait is not None, **options
            )
            drawn += len(grant)
            sink.write(grant)
    finally:
        link.close()
