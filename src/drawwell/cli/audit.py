"""``drawwell audit``: verify the hash chain of the audit log."""

import argparse
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from drawwell.cli.output import Output
from drawwell.errors import (
    AuthenticationFailed,
    LinkUnavailable,
    PermissionRefused,
    StateUnavailable,
    UsageError,
)

if TYPE_CHECKING:
    from drawwell.config.model import Config
    from drawwell.crypto.audit_chain import ChainCheck, ChainHead

MEANING: Final = (
    "Detect removed, changed and added lines. With a receipt or a signed head that was stored elsewhere, also detect "
    "that the end of the log was cut off or rewritten. Without either, three attacks stay undetected: a cut after the "
    "last remaining head, the removal of the whole log, and a log rewritten with the broker's receipt key."
)


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    parser = nouns.add_parser("audit", help="verify the audit log", allow_abbrev=False)
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    verify = verbs.add_parser(
        "verify", parents=[common], allow_abbrev=False, help="verify the audit log's hash chain and signed heads",
        description=MEANING, epilog="The exit code is 1 if a fault is found.",
    )  # fmt: skip
    verify.add_argument(
        "--receipt",
        metavar="FILE",
        action="append",
        default=[],
        help="a receipt from this broker (repeatable)",
    )
    verify.add_argument(
        "--head", metavar="FILE", action="append", default=[],
        help='a signed head that was stored elsewhere: a log line with "event":"head" (repeatable)',
    )  # fmt: skip
    verify.add_argument(
        "--key",
        metavar="FILE",
        help="a PEM file with the broker's public receipt key (default: from the state directory or the broker)",
    )
    verify.set_defaults(run=_verify)


def _verify(args: argparse.Namespace, out: Output) -> int:
    from drawwell.broker.audit_log import is_rotated
    from drawwell.config.load import load
    from drawwell.crypto.audit_chain import ChainCheck

    config = load(args.config)
    path, operators_path = config.audit.path or "", config.audit.operators_path
    if not path:
        raise UsageError("the audit log is not in a file", hint="Set [audit] path in the configuration.")
    log, operators = ChainCheck(path), ChainCheck(operators_path)
    public_key = _given_key(args.key) if args.key else _own_key(config)
    for name in args.receipt:
        log.expect(_receipt_head(name, public_key), name)
    for name in args.head:
        _expect_head(name, public_key, log, operators)
    last_signed = _read_log(path, public_key, log, operators)
    for _ in operators.read(_lines(operators_path)):
        pass
    for check in (log, operators):
        check.finish(rotated=is_rotated(check.name))
    return _report(out, log, operators, last_signed)


def _read_log(
    path: str, public_key: bytes, log: "ChainCheck", operators: "ChainCheck"
) -> dict[str, Any] | None:
    """Verify the log and its signed heads; return the last valid head."""
    from drawwell.crypto.audit_chain import SignedHead

    last = None
    for fields, before in log.read(_lines(path)):
        if fields.get("event") != "head":
            continue
        try:
            head = SignedHead.read(fields)
            head.check(public_key)
        except (ValueError, AuthenticationFailed) as error:
            log.faults.append(
                f"{log.name}: line {before.count + 1} is not a head signed by this broker: {error}"
            )
            continue
        if head.log != before:
            log.faults.append(f"{log.name}: the head at line {before.count + 1} does not match")
        operators.expect(head.operators, f"the head at line {before.count + 1} of {log.name}")
        last = fields
    return last


def _report(
    out: Output, log: "ChainCheck", operators: "ChainCheck", last_signed: dict[str, Any] | None
) -> int:
    faults = log.faults + operators.faults
    unsigned = log.head.count + operators.head.count
    if last_signed:
        unsigned -= last_signed["count"] + 1 + last_signed["operators_count"]
    document = {
        "good": not faults, "faults": faults, "last_head": last_signed, "unsigned_lines": unsigned,
        "logs": [
            {"path": each.name, "first": each.first, "last": each.head.count, "digest": each.head.digest,
             "unchained": each.unchained} for each in (log, operators)
        ],
    }  # fmt: skip
    text = [
        f"{each.name}: lines {each.first} to {each.head.count}"
        + (f", after {each.unchained} unprotected lines from an older release" if each.unchained else "")
        for each in (log, operators)
    ]
    text += faults or ["no lines were removed, changed or added"]
    text.append(f"{unsigned} lines after the last signed head" if unsigned else "signed to the end")
    out.result(document, "\n".join(text))
    return 1 if faults else 0


def _receipt_head(name: str, public_key: bytes) -> "ChainHead":
    from drawwell.crypto.audit_chain import ChainHead
    from drawwell.crypto.pki import pem_blocks
    from drawwell.crypto.receipts import public_key_id, read_receipt, verify_receipt

    receipt, keys = _read(name), pem_blocks(public_key)
    named = read_receipt(receipt).key_id
    body = verify_receipt(receipt, next((key for key in keys if public_key_id(key) == named), keys[0]))
    if not body.audit_count:
        raise UsageError(
            f"{name} does not refer to an audit log", hint="Use a receipt from release 0.2 or later."
        )
    return ChainHead(body.audit_count, body.audit_head)


def _expect_head(name: str, public_key: bytes, log: "ChainCheck", operators: "ChainCheck") -> None:
    from drawwell.crypto.audit_chain import SignedHead, parse_line

    try:
        head = SignedHead.read(parse_line(_read(name)))
        head.check(public_key)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name}: {error}", hint='Use a line of the log with "event":"head".') from error
    log.expect(head.log, name)
    operators.expect(head.operators, name)


def _given_key(path: str) -> bytes:
    from drawwell.crypto.pki import pem_blocks
    from drawwell.crypto.receipts import public_key_id

    public_key = _read(path)
    try:
        for each in pem_blocks(public_key):
            public_key_id(each)
    except ValueError as error:
        raise UsageError(
            f"{path}: {error}", hint="Specify the public key that 'drawwell join' saved."
        ) from error
    return public_key


def _own_key(config: "Config") -> bytes:
    """Return the broker's public receipt keys, from its files or its socket."""
    from drawwell.cli.client import receipt_keys
    from drawwell.enrolment.ca import RECEIPT_KEYS
    from drawwell.enrolment.key_files import RECEIPT_KEY, read_receipt_key
    from drawwell.state.files import read_file

    state = config.broker.state_dir
    try:
        if os.path.exists(public := os.path.join(state, "pki", RECEIPT_KEYS)):
            return read_file(public)
        with suppress(LinkUnavailable, PermissionRefused):
            return receipt_keys(config)
        return read_receipt_key(os.path.join(state, RECEIPT_KEY)).public_key
    except StateUnavailable as error:
        denied = isinstance(error.__cause__, PermissionError)
        first = "Run the command as root" if denied else "Start the broker and its signer"
        raise UsageError(
            f"cannot read the broker's receipt key: {error}",
            hint=f"{first}, or specify the public key with --key.",
        ) from error


def _lines(path: str) -> Iterator[bytes]:
    """Yield the lines of a log and its rotated files, oldest first."""
    from drawwell.broker.audit_log import files_of

    for name in files_of(path):
        try:
            with open(name, "rb") as file:
                yield from (line.removesuffix(b"\n") for line in file)
        except OSError as error:
            raise UsageError(f"cannot read {name}: {error.strerror}", hint="Run this as root.") from error


def _read(path: str) -> bytes:
    from drawwell.state.files import LIMIT_BYTES

    try:
        with open(path, "rb") as file:
            return file.read(LIMIT_BYTES)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", hint="Choose a readable file.") from error
