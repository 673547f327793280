"""``drawwell receipt``: show what a receipt says, and verify who said it and about which bytes."""

import argparse
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from drawwell.cli.output import Output
from drawwell.errors import (
    AuthenticationFailed,
    LinkUnavailable,
    PermissionRefused,
    RemoteProtocolError,
    StateUnavailable,
    UsageError,
)

if TYPE_CHECKING:
    from drawwell.crypto.receipts import ReceiptBody

FOLLOWS_S: Final = 120
"""A broker signs so long by a key that its signer has replaced (enrolment/key_ring.py)."""
MEANING: Final = (
    "A receipt says what the broker claims about these bytes; it does not prove that the broker is honest."
)


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    """Add ``receipt show`` and ``receipt verify``."""
    parser = nouns.add_parser("receipt", help="show and verify the receipt of a draw", allow_abbrev=False)
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    show = verbs.add_parser(
        "show", parents=[common], help="print what a receipt says, unverified", description=MEANING,
        allow_abbrev=False,
    )  # fmt: skip
    show.set_defaults(run=_show)
    verify = verbs.add_parser(
        "verify", parents=[common], allow_abbrev=False, help="check the signature, and the bytes when given",
        description=f"{MEANING} docs/receipts.md tells how to check one with openssl alone.",
    )  # fmt: skip
    verify.add_argument(
        "--key",
        metavar="FILE",
        help="the broker's public receipt key in PEM (default: the one that the "
        "receipt names, of the broker on this machine or of those that were joined)",
    )
    verify.add_argument("--data", metavar="FILE", help="the bytes as they were drawn")
    verify.add_argument(
        "--hmac-key",
        metavar="FILE",
        help="the key that came with the receipt (default: the receipt's FILE.key)",
    )
    verify.set_defaults(run=_verify)
    for verb in (show, verify):
        verb.add_argument(
            "file", metavar="FILE", help="the receipt, as 'drawwell draw --receipt FILE' wrote it"
        )


def _show(args: argparse.Namespace, out: Output) -> int:
    body = _body(_read(args.file))
    _print(out, body, signature="not verified", data="not checked")
    return 0


def _verify(args: argparse.Namespace, out: Output) -> int:
    from drawwell.crypto.receipts import verify_receipt

    if args.hmac_key and not args.data:
        raise UsageError("--hmac-key without --data", hint="Give the drawn bytes with --data FILE.")
    receipt = _read(args.file)
    body = _body(receipt)
    public_key, whence = (_read(args.key), args.key) if args.key else _find_key(args, body)
    data = _read(args.data) if args.data else None
    hmac_key = _read(args.hmac_key or f"{args.file}.key") if args.data else None
    try:
        verify_receipt(receipt, public_key, data, hmac_key)
    except ValueError as error:
        raise UsageError(
            str(error),
            hint="--key takes the public key in PEM that 'drawwell join' kept; --hmac-key takes 32 bytes.",
        ) from error
    if ended := 0 if args.key else _ended(args, public_key):
        _require_before(body, ended)
    _print(
        out, body, signature="verified", data="matches" if data is not None else "not checked", whence=whence
    )
    return 0


def _ended(args: argparse.Namespace, public_key: bytes) -> int:
    """Return when a key of receipts was replaced, by the lists of the brokers that were joined; 0 for never."""
    from drawwell.config.load import load
    from drawwell.links.identity import known_keys, load_all
    from drawwell.roles.upstream import links_dir

    for identity in load_all(links_dir(load(args.config))):
        listed = known_keys(identity)
        for key in listed.receipt_keys if listed else ():
            if key.public_key.encode() == public_key:
                return key.until
    return 0


def _require_before(body: "ReceiptBody", ended: int) -> None:
    if body.time_s > ended + FOLLOWS_S:
        shown = datetime.fromtimestamp(ended, UTC).strftime("%Y-%m-%d %H:%M UTC")
        raise AuthenticationFailed(
            f"the receipt is dated after {shown}, when broker {body.broker} replaced its key",
            hint="Another holder of the earlier key may have made it: ask the broker's operator.",
        )


def _body(receipt: bytes) -> "ReceiptBody":
    from drawwell.crypto.receipts import read_receipt

    try:
        return read_receipt(receipt)
    except RemoteProtocolError as error:
        error.hint = "Name the file that 'drawwell draw --receipt FILE' wrote."
        raise


def _find_key(args: argparse.Namespace, body: "ReceiptBody") -> tuple[bytes, str]:
    """The public key that the receipt names, of a broker that this machine knows, and whose it is."""
    from drawwell.crypto.receipts import public_key_id

    for public_key, whence in _known_keys(args):
        with suppress(ValueError):
            if public_key_id(public_key) == body.key_id:
                return public_key, whence
    raise UsageError(
        f"this machine knows no broker with receipt key {body.key_id}",
        hint=f"Give the public receipt key of broker {body.broker} with --key; 'drawwell join' keeps it.",
    )


def _known_keys(args: argparse.Namespace) -> Iterator[tuple[bytes, str]]:
    """The receipt keys of the brokers that were joined, and of the one that runs here."""
    from drawwell.cli.client import ask
    from drawwell.config.load import load
    from drawwell.crypto.pki import pem_blocks
    from drawwell.links.identity import load_all
    from drawwell.roles.upstream import links_dir
    from drawwell.state.files import read_file

    with suppress(StateUnavailable):
        for identity in load_all(links_dir(load(args.config))):
            for key in pem_blocks(read_file(identity.receipt_key_path)):
                yield key, f"broker {identity.broker}, which was joined"
    with suppress(LinkUnavailable, PermissionRefused):
        reply = ask(load(args.config).unix.path, "receipt-key", {})
        for key in pem_blocks(str(reply["public_key"]).encode()):
            yield key, "the broker on this machine"


def _read(path: str) -> bytes:
    from drawwell.state.files import LIMIT_BYTES

    try:
        with open(path, "rb") as file:
            return file.read(LIMIT_BYTES)
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {os.strerror(error.errno or 0).lower()}",
            hint="Name a file that can be read.",
        ) from error


def _print(out: Output, body: "ReceiptBody", *, signature: str, data: str, whence: str = "") -> None:
    document = {
        "signature": signature, "key_of": whence, "data": data, "body": asdict(body), "meaning": MEANING,
    }  # fmt: skip
    rows = [
        ("receipt", f"number {body.serial} of broker {body.broker}, for consumer {body.consumer}"),
        ("signature", f"{signature}, key {body.key_id}" + (f" ({whence})" if whence else "")),
        ("data", data),
        ("granted", f"{body.n_bytes} bytes of class {body.draw_class}, {_time(body.time_s)}"),
        ("made of", _combined(body)),
        ("audit log", f"had {body.audit_count} lines when it was last signed"),
        *(("source", _source(source)) for source in asdict(body)["sources"]),
    ]
    out.result(document, f"{out.style.table(rows)}\n{MEANING}")


def _combined(body: "ReceiptBody") -> str:
    """How many sources went into each byte, or into the seed that the bytes come of."""
    if not body.combined:
        return "not known: a receipt of the old form names all sources of the broker"
    return (
        f"{body.combined} of these in each byte {'' if body.draw_class == 'full' else 'of the seed'}".strip()
    )


def _source(source: dict[str, Any]) -> str:
    simulated = "SIMULATED, " if source["simulated"] else ""
    return (
        f"{source['name']} ({source['kind']}): {simulated}{source['state']}, health epoch {source['health_epoch']},"
        f" {source['noise']}, firmware: {source['firmware']}"
    )


def _time(time_s: int) -> str:
    try:
        return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"{time_s} s after 1970"
