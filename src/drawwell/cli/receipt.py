"""``drawwell receipt``: show a receipt and verify its signature and data."""

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

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
    from drawwell.config.model import Config
    from drawwell.crypto.receipts import ReceiptBody
    from drawwell.links.identity import LinkIdentity

FOLLOWS_S: Final = 120
"""How long a broker can still sign with a replaced key (enrolment/key_ring.py)."""
MEANING: Final = (
    "A receipt contains the broker's claims about these bytes. It does not prove that the broker is honest."
)


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    parser = nouns.add_parser("receipt", help="show and verify the receipt of a draw", allow_abbrev=False)
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    show = verbs.add_parser(
        "show", parents=[common], help="print a receipt without verifying it", description=MEANING,
        allow_abbrev=False,
    )  # fmt: skip
    show.set_defaults(run=_show)
    verify = verbs.add_parser(
        "verify", parents=[common], allow_abbrev=False, help="verify the signature and, with --data, the bytes",
        description=f"{MEANING} docs/receipts.md explains how to verify a receipt with only openssl.",
    )  # fmt: skip
    verify.add_argument(
        "--key",
        metavar="FILE",
        help="a PEM file with one or more public receipt keys (default: the keys of the local broker and of joined "
        "brokers)",
    )
    verify.add_argument("--data", metavar="FILE", help="the drawn bytes")
    verify.add_argument(
        "--hmac-key",
        metavar="FILE",
        help="the key file that belongs to the receipt (default: FILE.key)",
    )
    verify.set_defaults(run=_verify)
    for verb in (show, verify):
        verb.add_argument("file", metavar="FILE", help="the receipt from 'drawwell draw --receipt FILE'")


def _show(args: argparse.Namespace, out: Output) -> int:
    shown = [
        _Shown(_body(line), signature="not verified", data="not checked") for line in _lines(_read(args.file))
    ]
    _print(out, shown)
    return 0


def _verify(args: argparse.Namespace, out: Output) -> int:
    from drawwell.crypto.receipts import verify_receipt

    if args.hmac_key and not args.data:
        raise UsageError("--hmac-key needs --data", hint="Specify the drawn bytes with --data FILE.")
    lines = _lines(_read(args.file))
    bodies = [_body(line) for line in lines]
    if len({(body.key_id, body.serial) for body in bodies}) < len(bodies):
        raise AuthenticationFailed("the receipt contains the same grant twice", hint="Draw again.")
    keys = [_find_key(args, body) for body in bodies]
    try:
        for line, (public_key, _), part in zip(lines, keys, _parts(args, len(lines)), strict=True):
            verify_receipt(line, public_key, *part)
    except ValueError as error:
        raise UsageError(
            str(error),
            hint="--key needs the PEM file with the public key that 'drawwell join' saved. --hmac-key needs the key "
            "file that belongs to the receipt.",
        ) from error
    for body, (public_key, _) in zip(bodies, keys, strict=True):
        if ended := 0 if args.key else _ended(args, public_key):
            _require_before(body, ended)
    data = "matches" if args.data else "not checked"
    _print(
        out, [_Shown(body, "verified", data, whence) for body, (_, whence) in zip(bodies, keys, strict=True)]
    )
    return 0


def _lines(receipt: bytes) -> list[bytes]:
    """Split a receipt for mixed bytes into one receipt per broker."""
    return receipt.rstrip(b"\n").split(b"\n")


def _parts(args: argparse.Namespace, count: int) -> Sequence[tuple[bytes, bytes] | tuple[()]]:
    """Return each part's data and HMAC key; raise ValueError for a wrong key."""
    from drawwell.entropy.mixing import parts

    if not args.data:
        return [()] * count
    data, key = _read(args.data), _read(args.hmac_key or f"{args.file}.key")
    return [(data, key)] if count == 1 else parts(data, key, count)


def _ended(args: argparse.Namespace, public_key: bytes) -> int:
    """Return when a joined broker replaced a receipt key; 0 means never."""
    from drawwell.config.load import load
    from drawwell.links.renewal import known_keys

    for identity in _joined(load(args.config)):
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
            hint="The old key could have been stolen and misused. Contact the broker's operator.",
        )


def _body(receipt: bytes) -> "ReceiptBody":
    from drawwell.crypto.receipts import read_receipt

    try:
        return read_receipt(receipt)
    except RemoteProtocolError as error:
        error.hint = "Use the file from 'drawwell draw --receipt FILE'."
        raise


def _find_key(args: argparse.Namespace, body: "ReceiptBody") -> tuple[bytes, str]:
    """Return the public key that the receipt names, and the key's origin."""
    from drawwell.crypto.pki import pem_blocks
    from drawwell.crypto.receipts import public_key_id

    given = pem_blocks(_read(args.key)) if args.key else []
    if len(given) == 1:
        return given[0], args.key
    known = ((key, args.key) for key in given) if args.key else _known_keys(args)
    for public_key, whence in known:
        with suppress(ValueError):
            if public_key_id(public_key) == body.key_id:
                return public_key, whence
    raise UsageError(
        f"unknown receipt key {body.key_id} of broker {body.broker}",
        hint="Specify the broker's public receipt key with --key. 'drawwell join' saves this key.",
    )


def _known_keys(args: argparse.Namespace) -> Iterator[tuple[bytes, str]]:
    """Yield the receipt keys of the joined brokers and the local broker."""
    from drawwell.cli.client import receipt_keys
    from drawwell.config.load import load
    from drawwell.crypto.pki import pem_blocks
    from drawwell.state.files import read_file

    with suppress(StateUnavailable):
        for identity in _joined(load(args.config)):
            for key in pem_blocks(read_file(identity.receipt_key_path)):
                yield key, f"joined broker {identity.broker}"
    with suppress(LinkUnavailable, PermissionRefused):
        for key in pem_blocks(receipt_keys(load(args.config))):
            yield key, "the broker on this machine"


def _joined(config: "Config") -> list["LinkIdentity"]:
    """Return the identities of the joined brokers and of [[upstream]]."""
    from drawwell.links.identity import load_all
    from drawwell.roles.upstream import identities, links_dir

    return [*load_all(links_dir(config)), *identities(config, None)]


def _read(path: str) -> bytes:
    from drawwell.state.files import LIMIT_BYTES

    try:
        with open(path, "rb") as file:
            return file.read(LIMIT_BYTES)
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {os.strerror(error.errno or 0).lower()}",
            hint="Choose a file that you can read.",
        ) from error


class _Shown(NamedTuple):
    """A receipt with the results for its signature and data."""

    body: "ReceiptBody"
    signature: str
    data: str
    whence: str = ""


def _print(out: Output, shown: Sequence[_Shown]) -> None:
    documents = [
        {"signature": each.signature, "key_of": each.whence, "data": each.data, "body": asdict(each.body)}
        for each in shown
    ]
    text = "\n\n".join(out.style.table(_rows(each)) for each in shown)
    if len(shown) == 1:
        out.result({**documents[0], "meaning": MEANING}, f"{text}\n{MEANING}")
    else:
        text = f"mixed bytes of {len(shown)} brokers\n\n{text}"
        out.result({"mixed": documents, "meaning": MEANING}, f"{text}\n{MEANING}")


def _rows(shown: _Shown) -> list[tuple[str, str]]:
    body, whence = shown.body, shown.whence
    return [
        ("receipt", f"number {body.serial} of broker {body.broker}, for consumer {body.consumer}"),
        ("signature", f"{shown.signature}, key {body.key_id}" + (f" ({whence})" if whence else "")),
        ("data", shown.data),
        ("granted", f"{body.n_bytes} bytes of class {body.draw_class}, {_time(body.time_s)}"),
        ("made of", _combined(body)),
        ("audit log", f"{body.audit_count} lines at the last signature"),
        *(("source", _source(source)) for source in asdict(body)["sources"]),
    ]


def _combined(body: "ReceiptBody") -> str:
    """Describe how many sources are combined in each byte or DRBG seed."""
    if not body.combined:
        return "unknown; this older receipt lists all sources of the broker"
    what = "byte" if body.draw_class == "full" else "byte of the seed"
    return f"each {what} comes from {body.combined} of these sources"


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
