"""``drawwell pki``: show and rotate the keys of the signer and the doors."""

import argparse
import os
import time
from typing import TYPE_CHECKING, Any

from drawwell.cli.output import Output
from drawwell.errors import UsageError

if TYPE_CHECKING:
    from drawwell.config.model import Config

KEYS = ("root", "finish-root", "intermediate", "receipts", "server")


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    parser = nouns.add_parser("pki", help="show and rotate the signer's keys; needs root", allow_abbrev=False)
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def verb(name: str, run: Any, about: str, **more: Any) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = verbs.add_parser(
            name, parents=[common], help=about, allow_abbrev=False, **more
        )
        added.set_defaults(run=run)
        return added

    verb("show", _show, "list the keys with their expiry dates")
    rotate = verb(
        "rotate", _rotate, "replace a key; except for 'server', consumers get the new key at their next renewal",
        epilog="'root' creates the next root and announces it to consumers. 'finish-root' switches to the next "
            "root. 'server' replaces the keys of the broker's TLS and enrolment doors. For a stolen key, see "
            "docs/keys.md.",
    )  # fmt: skip
    rotate.add_argument("key", choices=KEYS, metavar="KEY", help=", ".join(KEYS))
    export = verb("export-root", _export, "move the root key from the signer to a file")
    export.add_argument("file", metavar="FILE", help="the new file, created with mode 0600")
    restore = verb("import-root", _import, "return the root key to the signer for a renewal or rotation")
    restore.add_argument("file", metavar="FILE", help="the file from export-root")


def _ask(args: argparse.Namespace, op: str, **arguments: str) -> dict[str, Any]:
    from drawwell.config.load import load
    from drawwell.links.signer import RemoteKeys

    config = load(args.config)
    own = os.path.join(config.broker.state_dir, "pki")
    if not os.path.exists(os.path.join(own, "root.pem")):
        return RemoteKeys(config.signer.socket).ask(op, **arguments)
    if op == "describe":
        return _describe(own, config)
    raise UsageError(
        f"'drawwell run' has this broker's keys, in {own}",
        hint="To rotate or move keys, run a signer and 'drawwell broker run' instead (see docs/keys.md).",
    )


def _describe(directory: str, config: "Config") -> dict[str, Any]:
    """Describe the keys of a broker without a signer, from their files."""
    from drawwell.enrolment.key_files import RECEIPT_KEY
    from drawwell.enrolment.key_ring import KeyRing

    now, receipt_key = time.time(), os.path.join(config.broker.state_dir, RECEIPT_KEY)
    return KeyRing(directory, config.broker.name, now, receipt_key).describe(now) | {"member_of": ""}


def _show(args: argparse.Namespace, out: Output) -> int:
    found = _ask(args, "describe")
    rows = [
        ("root", found["root"], f"until {_date(found['root_expires'])}", _place(found)),
        ("next root", found["next_root"] or "none", "", ""),
        (
            "intermediate", found["intermediate"], f"until {_date(found['intermediate_expires'])}",
            _renewal(found),
        ),
        ("receipts", found["receipt_key"], "", f"{found['earlier_receipt_keys']} earlier"),
    ]  # fmt: skip
    out.result(found, out.style.table([("KEY", "SHA-256", "ENDS", "NOTE"), *rows]))
    return 0


def _rotate(args: argparse.Namespace, out: Output) -> int:
    if args.key == "server":
        return _rotate_server(args, out)
    found = _ask(args, "rotate", what=args.key)
    out.result({"key": args.key, **found}, found["next"])
    return 0


def _rotate_server(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.client import call

    until = call(args, "server.rotate", {})["until"]
    following = f"both doors use a new key, valid until {_date(until)}; consumers need no change"
    out.result({"key": args.key, "next": following, "until": until}, following)
    return 0


def _export(args: argparse.Namespace, out: Output) -> int:
    from drawwell.state.files import sync_directory

    fd = os.open(args.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(_ask(args, "export-root")["pem"].encode())
            file.flush()
            os.fsync(file.fileno())
        sync_directory(os.path.dirname(os.path.abspath(args.file)))
    except BaseException:
        os.unlink(args.file)
        raise
    _ask(args, "forget-root")
    out.result({"file": args.file}, f"the root key is now in {args.file} and was removed from the signer")
    out.say("keep the file, but not on this machine: without it, the intermediate CA cannot be renewed")
    return 0


def _import(args: argparse.Namespace, out: Output) -> int:
    from drawwell.state.files import read_secret

    try:
        key = read_secret(args.file).decode()
    except UnicodeDecodeError:
        raise UsageError(f"{args.file} is not PEM", hint="Use the file from 'pki export-root'.") from None
    found = _ask(args, "import-root", pem=key)
    until = _date(found["intermediate_expires"])
    out.result(found, f"the signer has the root key again; the intermediate CA is valid until {until}")
    return 0


def _renewal(found: dict[str, Any]) -> str:
    if not found["intermediate_is_due"]:
        return ""
    if found["member_of"]:
        return "renewal is due, by the fleet's root"
    return "renewal is due" if found["root_key_is_here"] else "renewal is due: pki import-root FILE"


def _place(found: dict[str, Any]) -> str:
    if found["member_of"]:
        return f"of the fleet {found['member_of']}"
    return "the key is on this machine" if found["root_key_is_here"] else "the key was exported"


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(seconds))
