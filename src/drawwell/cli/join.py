"""``drawwell join``: become a consumer of the broker that made an invitation."""

import argparse
import getpass
import os
import re
import sys
import time
from typing import Any

from drawwell.cli.output import Output


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    """Add the noun."""
    parser = nouns.add_parser(
        "join", parents=[common], help="join a broker with an invitation", allow_abbrev=False,
        epilog="Exit codes: 0 joined, 64 not a token, 69 nobody listens there, 77 not the right broker, or the "
        "invitation is used or expired.",
    )  # fmt: skip
    parser.add_argument(
        "token", nargs="?", metavar="TOKEN",
        help="what 'drawwell consumer invite' printed; without it, or with -, it is asked for or read from standard "
        "input. As an argument every local user can see it",
    )  # fmt: skip
    parser.add_argument("--name", metavar="LINK", help="what to call the broker here (default: its host)")
    parser.add_argument(
        "--dir", metavar="DIR", help="keep the identity in DIR and not in the state directory"
    )
    parser.add_argument("--force", action="store_true", help="replace an identity of that name")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    from drawwell.crypto.tokens import parse_token
    from drawwell.links.enrol import join

    token = parse_token(_token_text(args, out).strip().removeprefix("drawwell join ").strip())
    identity = join(token, _directory(args, token.host), force=args.force)
    document = {
        "broker": identity.broker,
        "consumer": identity.consumer,
        "addresses": list(identity.addresses),
        "directory": identity.directory,
        "certificate_expires": identity.expires(),
    }
    words = f"joined {identity.broker} as {identity.consumer}; the identity is in {identity.directory}"
    out.result(document, words)
    if note := identity.clock_note(time.time()):
        out.say(f"{note}; set the clock before you draw")
    upstreams = "".join(f'\n[[upstream]]\nurl = "tls://{address}"' for address in identity.addresses)
    out.say(f"for 'drawwell run' on this machine, add to its configuration:{upstreams}")
    out.say(f"try it: drawwell draw --hex --via {args.dir or os.path.basename(identity.directory)}")
    return 0


_TOKEN_LIMIT = 4096


def _token_text(args: argparse.Namespace, out: Output) -> str:
    """Read the token from where no other user sees it; take it from the arguments with a warning."""
    if args.token not in {None, "-"}:
        out.say("every local user can see a token that is an argument: type 'drawwell join', and paste it")
        return str(args.token)
    if sys.stdin.isatty():
        return getpass.getpass("the line that 'drawwell consumer invite' printed: ")
    return sys.stdin.readline(_TOKEN_LIMIT)


def _directory(args: argparse.Namespace, host: str) -> str:
    """Where the identity goes: below the state directory, under the link's name."""
    from drawwell.errors import UsageError

    if args.dir:
        return str(args.dir)
    name = args.name or host.replace(":", "-").strip("-.")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", name):
        raise UsageError(f"{name!r} cannot be a link's name", hint="Use letters, digits, dot, _ and -.")
    return os.path.join(links_dir(args), name)


def links_dir(args: argparse.Namespace) -> str:
    """The directory with one identity for each broker that this machine joined."""
    from drawwell.config.load import load
    from drawwell.links.identity import LINKS

    return os.path.join(load(args.config).broker.state_dir, LINKS)
