"""``drawwell consumer``: invite, list, limit and revoke consumers."""

import argparse
import os
import sys
import time
from typing import Any

from drawwell.cli.output import Output

_ALLOWANCE = "such as 4KiB/s or 10MiB/day; 'none' removes the limit"


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    noun = nouns.add_parser(
        "consumer",
        help="invite, list, limit and revoke consumers, such as other machines",
        allow_abbrev=False,
    )
    verbs = noun.add_subparsers(metavar="VERB", dest="verb", required=True)

    def verb(name: str, run: Any, summary: str, *, named: bool = True) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = verbs.add_parser(
            name, parents=[common], help=summary, allow_abbrev=False
        )
        if named:
            parser.add_argument("name", metavar="NAME", help="the consumer's name: a-z, 0-9, dot, _ and -")
        parser.set_defaults(run=run)
        return parser

    invite = verb("invite", _invite, "print a one-time token for another machine to join with")
    _add_terms(invite)
    invite.add_argument("--ttl", metavar="TIME", help="how long the invitation is valid (default: 15min)")
    invite.add_argument(
        "--address", metavar="HOST:PORT",
        help="address of the enrolment door, as the other machine reaches it (default: from the configuration)",
    )  # fmt: skip
    invite.add_argument(
        "--ssh-key", metavar="FILE",
        help="instead of a token, print an authorized_keys line that admits the machine with this public key",
    )  # fmt: skip
    listing = verb("list", _list, "list invited consumers", named=False)
    listing.add_argument(
        "pattern", nargs="?", metavar="PATTERN", help="list only matching names, such as 'web*'"
    )
    listing.add_argument("--all", action="store_true", help="include revoked consumers; implied by --json")
    listing.add_argument("--after", metavar="NAME", help="list only names that sort after this name")
    verb("revoke", _revoke, "permanently refuse a consumer and its certificate")
    _add_terms(verb("quota", _quota, "change a consumer's limits; limits that you do not name stay the same"))


def _add_terms(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", metavar="RATE", help=f"maximum rate, {_ALLOWANCE}")
    parser.add_argument("--quota", metavar="TOTAL", help=f"maximum total per period, {_ALLOWANCE}")
    parser.add_argument(
        "--class", dest="draw_class", choices=["full", "drbg", "both"], help="permitted classes"
    )
    parser.add_argument(
        "--stream", action=argparse.BooleanOptionalAction,
        help="send a plain stream of bytes to clients without drawwell's protocol, such as socat",
    )  # fmt: skip


def _terms(args: argparse.Namespace) -> dict[str, Any]:
    stream = None if args.stream is None else "yes" if args.stream else "no"
    wanted = {"rate": args.rate, "quota": args.quota, "draw_class": args.draw_class, "stream": stream}
    return {name: value for name, value in wanted.items() if value is not None}


def _invite(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.client import call

    if args.ssh_key is not None:
        return _invite_key(args, out)
    more = {name: value for name in ("ttl", "address") if (value := getattr(args, name)) is not None}
    result = call(args, "consumer.invite", {"name": args.name, **_terms(args), **more})
    out.result({**result, "command": "drawwell join"}, result["token"])
    out.say(
        f"on {args.name}, run 'drawwell join' and paste this token before {_when(result['expires'])}. It works once"
    )
    out.say(_reached_at(result))
    return 0


def _reached_at(invitation: dict[str, Any]) -> str:
    """Describe the addresses that the invited machine will connect to."""
    addresses = " and ".join((invitation["enrol_address"], *invitation["addresses"]))
    host = invitation["enrol_address"].rpartition(":")[0]
    text = f"the machine will connect to {addresses}; to use another name, set [tls] names, restart and invite again"
    return text if "." in host or ":" in host else f"{text}. Check that the machine can resolve {host!r}"


def _invite_key(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.client import call
    from drawwell.crypto.sshkeys import authorized_line
    from drawwell.errors import UsageError

    if args.ttl or args.address:
        raise UsageError(
            "--ttl and --address do not apply with --ssh-key",
            hint="Remove them: an SSH key needs no invitation.",
        )
    with open(args.ssh_key, encoding="utf-8", errors="replace") as file:
        text = file.read(_MOST_KEY_TEXT)
    result = call(args, "consumer.invite", {"name": args.name, **_terms(args), "ssh_key": text})
    line = authorized_line(_serve_stdio(args, result["fingerprint"]), result["ssh_key"], args.name)
    out.result({**result, "authorized_keys": line}, line)
    out.say(
        "add this line to authorized_keys of the user in [ssh]; it replaces any earlier line for this consumer"
    )
    return 0


_MOST_KEY_TEXT = 8192


def _serve_stdio(args: argparse.Namespace, fingerprint: str) -> list[str]:
    """Return the SSH forced command with the path of this program."""
    program = [os.path.abspath(sys.argv[0])]
    if os.path.basename(sys.argv[0]) == "__main__.py":
        program = [sys.executable, "-m", "drawwell"]
    config = ["-c", os.path.abspath(args.config)] if args.config else []
    return [*program, *config, "serve-stdio", "--consumer", args.name, "--key", fingerprint]


def _list(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.client import call_pages

    wanted = {name: value for name in ("pattern", "after") if (value := getattr(args, name)) is not None}
    pages = call_pages(args, "consumer.list", wanted)
    consumers = [consumer for page in pages for consumer in page["consumers"]]
    heading = ("NAME", "CLASS", "RATE", "QUOTA", "INVITATION", "CERTIFICATE OR KEY")
    rows = [
        (c["name"], c["class"], c["rate"] or "none", c["quota"] or "none", _invitation(c), _certificate(c))
        for c in consumers
        if args.all or not c["revoked_at"]
    ]
    none = "no invited consumer matches" if wanted else "no consumer has been invited yet"
    lines = [out.style.table([heading, *rows], drop=("INVITATION", "CLASS"))] if rows else []
    if hidden := len(consumers) - len(rows):
        lines.append(f"({hidden} revoked: --all)")
    out.result({"consumers": consumers}, "\n".join(lines) or none)
    return 0


def _invitation(consumer: dict[str, Any]) -> str:
    place = consumer.get("invitation_used_from")
    return (
        f"used from {place} {_when(consumer['invitation_used_at'])}" if place else str(consumer["invitation"])
    )


def _certificate(consumer: dict[str, Any]) -> str:
    if consumer["revoked_at"]:
        return f"revoked {_when(consumer['revoked_at'])}"
    expires = consumer["certificate_expires"]
    if expires is None:
        return f"SSH key {consumer['ssh_key']}" if consumer["ssh_key"] else "none yet"
    return f"{'until' if expires > time.time() else 'expired'} {_when(expires)}"


def _revoke(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.client import call

    out.result(call(args, "consumer.revoke", {"name": args.name}), f"{args.name} is revoked")
    return 0


def _quota(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.client import call
    from drawwell.errors import UsageError

    terms = _terms(args)
    if not terms:
        raise UsageError("nothing to change", hint="Use --rate, --quota, --class or --stream.")
    result = call(args, "consumer.quota", {"name": args.name, **terms})
    stream = ", with a stream" if result["stream"] else ""
    limits = (
        f"class {result['class']}, rate {result['rate'] or 'none'}, quota {result['quota'] or 'none'}{stream}"
    )
    out.result(result, f"{args.name}: {limits}")
    return 0


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
