"""``drawwell join``: join a broker as a consumer."""

import argparse
import getpass
import os
import re
import shlex
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from drawwell.cli.output import Output, same_configuration

if TYPE_CHECKING:
    from drawwell.config.model import Config
    from drawwell.errors import DrawwellError
    from drawwell.links.identity import LinkIdentity


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    parser = nouns.add_parser(
        "join", parents=[common], help="join a broker with an invitation", allow_abbrev=False,
        description="Join a broker with an invitation and draw one byte as a test. As root, also write conf.d/LINK.toml"
        " and start the link's unit if systemd is running. To undo this, run 'drawwell leave LINK'.",
        epilog="Exit codes: 0 joined; 64 invalid token; 69 broker not reachable; 77 wrong broker, or the invitation "
        "was used or has expired.",
    )  # fmt: skip
    parser.add_argument(
        "token", nargs="?", metavar="TOKEN",
        help="the token from 'drawwell consumer invite'; without it or with -, the command prompts for the token or "
        "reads it from standard input. All local users can see a token on the command line",
    )  # fmt: skip
    parser.add_argument("--name", metavar="LINK", help="name for the link (default: the broker's host)")
    parser.add_argument(
        "--dir", metavar="DIR", help="store the identity in DIR instead of the state directory"
    )
    parser.add_argument("--force", action="store_true", help="replace the existing identity of the same name")
    parser.add_argument(
        "--rekey", action="store_true",
        help="replace this machine's key for the link that --name or --dir names; needs no token. The broker "
            "revokes the old key when the new key is first used",
    )  # fmt: skip
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    from drawwell.config.load import load
    from drawwell.crypto.tokens import parse_token
    from drawwell.links.enrol import join

    if args.rekey:
        return _rekey(args, out)
    token = parse_token(_token_text(args, out).strip().removeprefix("drawwell join ").strip())
    with out.working(f"joining {token.host}"):
        identity = join(token, _directory(args, token.host), force=args.force)
    name = identity.directory if args.dir else os.path.basename(identity.directory)
    out.say(f"joined {identity.broker} as {identity.consumer}; the identity is in {identity.directory}")
    if note := identity.clock_note(time.time()):
        out.say(f"{note}; correct the clock before you draw")
    own = _own_sources(load(args.config))
    written = _configure(args, identity, own, out)
    plain = _asked_plainly(args, identity)
    with out.working(f"waiting for the first byte from {identity.addresses[0]}"):
        error = _first_byte(identity)
    document = {
        "broker": identity.broker,
        "consumer": identity.consumer,
        "addresses": list(identity.addresses),
        "directory": identity.directory,
        "certificate_expires": identity.expires(),
        "configuration": written,
        "plain_draw": plain,
        "first_byte": not error,
    }
    draw = "drawwell draw 32 --hex" + ("" if plain else f" --via {shlex.quote(name)}")
    draw = same_configuration(args, draw)
    out.result(document, f"to draw from {identity.addresses[0]}, run '{draw}'")
    if error:
        out.say(f"could not draw the first byte: {error}")
        if error.hint:
            out.say(f"hint: {error.hint}")
    if not args.dir:
        leave = same_configuration(args, f"drawwell leave {name}")
        out.say(f"to undo this, run '{leave}'")
    return 0


def _asked_plainly(args: argparse.Namespace, identity: "LinkIdentity") -> bool:
    """Return whether a draw without ``--via`` goes to the new broker."""
    from drawwell.config.load import load
    from drawwell.errors import StateUnavailable
    from drawwell.roles.upstream import identities

    try:
        return identity.directory in {each.directory for each in identities(load(args.config), None)}
    except StateUnavailable:  # an [[upstream]] that this user has not joined
        return False


def _own_sources(config: "Config") -> bool:
    """Return whether a source is configured, running or connected here."""
    from drawwell.cli.client import ask
    from drawwell.drivers.discovery import discover
    from drawwell.errors import DrawwellError

    if config.draws_here:
        return True
    try:
        if ask(config.control.path, "status", {}).get("sources"):
            return True
    except DrawwellError:  # no broker runs, or it belongs to another user
        pass
    return not config.upstreams and any(device.path for device in discover())


def _configure(args: argparse.Namespace, identity: "LinkIdentity", own: bool, out: Output) -> str | None:
    """Write the link's configuration file and start its unit; return the file.

    With ``--config`` or ``--dir``, only print the tables to add.
    """
    from drawwell.cli.set_up import MARK, parts_directory, write_part

    name = os.path.basename(identity.directory)
    directory = None if args.dir else parts_directory(args)
    if directory is None:
        if args.config or args.dir:
            out.say(f"to use the link in daemons, add this to their configuration:\n{_tables(identity, own)}")
        out.say("'drawwell draw' renews the certificate when it is due")
        return None
    head = f"{MARK.format('join')}'; 'drawwell leave {name}' removes it.\n"
    write_part(directory, name, head + _tables(identity, own))
    path = os.path.join(directory, f"{name}.toml")
    if own:
        out.say(f"wrote {path}; 'drawwell draw' still uses this machine's own sources")
    else:
        out.say(f"wrote {path}; 'drawwell draw' now draws from {identity.addresses[0]}")
    _start(own, out)
    return path


def _tables(identity: "LinkIdentity", own: bool) -> str:
    """Return the TOML for a link; with `own`, keep this machine's sources."""
    links = os.path.join("links", os.path.basename(identity.directory))
    named = identity.directory.endswith(links)
    shown = os.path.basename(identity.directory) if named else identity.directory
    text = "".join(
        f'[[upstream]]\nurl = "tls://{address}"\nidentity = "{shown}"\n' for address in identity.addresses
    )
    return text + ("\n# without this, an [[upstream]] stops this machine's own broker\n"
                   "[broker]\ndeposits = true\n" if own else "")  # fmt: skip


def _start(own: bool, out: Output) -> None:
    from drawwell.cli.set_up import enable_and_restart, has_unit, restart_if_running

    if not has_unit(LINK_UNIT):
        out.say("systemd is not running here: 'drawwell draw' renews the certificate when it is due")
        return
    with out.working(f"starting {LINK_UNIT}"):
        enable_and_restart(LINK_UNIT)
        if not own:  # the broker has nothing to serve and exits; the kernel feed uses the link
            restart_if_running("drawwell-broker.service", "drawwell-kernel.service")
    out.say(f"{LINK_UNIT} is running and renews the certificate")


LINK_UNIT: Final = "drawwell-link.service"
FIRST_BYTE_S: Final = 20.0


def _first_byte(identity: "LinkIdentity") -> "DrawwellError | None":
    """Draw one byte, of class drbg if permitted; return an error or None."""
    import asyncio

    from drawwell.entropy.blocks import DrawClass
    from drawwell.errors import DrawwellError
    from drawwell.roles.upstream import named

    async def draw() -> None:
        link = named(identity.directory, "")
        draw_class = DrawClass.DRBG if "drbg" in identity.classes() else DrawClass.FULL
        try:
            await link.draw(1, draw_class, patience_s=FIRST_BYTE_S)
        finally:
            await link.aclose()

    try:
        asyncio.run(draw())
    except DrawwellError as error:
        return error
    return None


def _rekey(args: argparse.Namespace, out: Output) -> int:
    import asyncio
    import contextlib

    from drawwell.config.load import load
    from drawwell.errors import UsageError
    from drawwell.links.renewal import rekey
    from drawwell.roles.upstream import joined, links_dir, named

    if args.token or not (args.name or args.dir):
        raise UsageError("--rekey needs a link, not a token", hint="Use --name LINK or --dir DIR.")
    name = os.path.abspath(args.dir) if args.dir else args.name
    identity = joined(name, links_dir(load(args.config)))

    def connect(shown: "LinkIdentity") -> "contextlib.aclosing[Any]":
        return contextlib.aclosing(named(shown.directory, ""))

    with out.working(f"replacing the key at {identity.addresses[0]}"):
        moved = asyncio.run(rekey(identity, connect))
    document = {"broker": moved.broker, "consumer": moved.consumer, "directory": moved.directory}
    out.result(document, f"{moved.consumer} has a new key at {moved.broker}; the old key is revoked")
    return 0


_TOKEN_LIMIT = 4096


def _token_text(args: argparse.Namespace, out: Output) -> str:
    """Return the token; warn if it is an argument, because users can see it."""
    if args.token not in {None, "-"}:
        out.say("all local users can see this token; next time, run 'drawwell join' and paste the token")
        return str(args.token)
    if sys.stdin.isatty():
        return getpass.getpass("token from 'drawwell consumer invite': ")
    return sys.stdin.readline(_TOKEN_LIMIT)


def _directory(args: argparse.Namespace, host: str) -> str:
    """Return the directory for the identity: by default, named like the link."""
    from drawwell.config.load import load
    from drawwell.errors import UsageError
    from drawwell.roles.upstream import links_dir

    if args.dir:
        return str(os.path.abspath(args.dir))
    name = args.name or host.replace(":", "-").strip("-.")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", name):
        raise UsageError(f"{name!r} is not a valid link name", hint="Use letters, digits, dot, _ and -.")
    return os.path.join(links_dir(load(args.config)), name)
