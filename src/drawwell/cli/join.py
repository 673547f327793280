"""``drawwell join``: become a consumer of the broker that made an invitation."""

import argparse
import getpass
import os
import re
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from drawwell.cli.output import Output

if TYPE_CHECKING:
    from drawwell.config.model import Config
    from drawwell.errors import DrawwellError
    from drawwell.links.identity import LinkIdentity


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    """Add the noun."""
    parser = nouns.add_parser(
        "join", parents=[common], help="join a broker with an invitation", allow_abbrev=False,
        description="Join a broker with an invitation. As root it also writes conf.d/LINK.toml, starts the link's "
        "unit where systemd runs, and draws one byte. 'drawwell leave LINK' undoes it.",
        epilog="Exit codes: 0 joined, 64 not a token, 69 no broker listens there, 77 not the right broker, or the "
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
    parser.add_argument(
        "--rekey", action="store_true",
        help="replace this machine's key at the broker of --name or --dir, without a token; the earlier key is "
        "revoked as soon as the new one is in use",
    )  # fmt: skip
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    from drawwell.config.load import load
    from drawwell.crypto.tokens import parse_token
    from drawwell.links.enrol import join

    if args.rekey:
        return _rekey(args, out)
    token = parse_token(_token_text(args, out).strip().removeprefix("drawwell join ").strip())
    identity = join(token, _directory(args, token.host), force=args.force)
    name = args.dir or os.path.basename(identity.directory)
    out.say(f"joined {identity.broker} as {identity.consumer}; the identity is in {identity.directory}")
    if note := identity.clock_note(time.time()):
        out.say(f"{note}; set the clock before you draw")
    own = _own_sources(load(args.config))
    written = _configure(args, identity, own, out)
    plain = _asked_plainly(args, identity)
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
    draw = "drawwell draw 32 --hex" + ("" if plain else f" --via {name}")
    out.result(document, f"draw from {identity.addresses[0]}: {draw}")
    if error:
        out.say(f"no byte has come yet: {error}")
        if error.hint:
            out.say(f"hint: {error.hint}")
    if not args.dir:
        out.say(f"to undo all of it: drawwell leave {name}")
    return 0


def _asked_plainly(args: argparse.Namespace, identity: "LinkIdentity") -> bool:
    """Return whether a draw without ``--via`` asks that broker, by the configuration as it is now."""
    from drawwell.config.load import load
    from drawwell.errors import StateUnavailable
    from drawwell.roles.upstream import identities

    try:
        return identity.directory in {each.directory for each in identities(load(args.config), None)}
    except StateUnavailable:  # an [[upstream]] that this user has not joined
        return False


def _own_sources(config: "Config") -> bool:
    """Return whether this machine has a noise source of its own: written, running, or plugged in."""
    from drawwell.cli.client import ask
    from drawwell.drivers.discovery import discover
    from drawwell.errors import DrawwellError

    if config.draws_here:
        return True
    try:
        if ask(config.control.path, "status", {}).get("sources"):
            return True
    except DrawwellError:  # no broker runs, or it is another user's
        pass
    return not config.upstreams and any(device.path for device in discover())


def _configure(args: argparse.Namespace, identity: "LinkIdentity", own: bool, out: Output) -> str | None:
    """Write the link's part of the configuration and start its unit; return the file.

    Where another configuration is meant, the tables to add are printed, and nothing is written.
    """
    from drawwell.cli.set_up import MARK, parts_directory, write_part

    name = os.path.basename(identity.directory)
    directory = None if args.dir else parts_directory(args)
    if directory is None:
        if args.config or args.dir:
            out.say(f"for the daemons of this machine, add to a configuration:\n{_tables(identity, own)}")
        out.say("'drawwell draw' renews the certificate when that is due")
        return None
    head = f"{MARK.format('join')}'; 'drawwell leave {name}' removes it.\n"
    write_part(directory, name, head + _tables(identity, own))
    path = os.path.join(directory, f"{name}.toml")
    if own:
        out.say(f"wrote {path}; this machine keeps its own sources, and a plain 'drawwell draw' asks them")
    else:
        out.say(f"wrote {path}; a plain 'drawwell draw' asks {identity.addresses[0]}")
    _start(own, out)
    return path


def _tables(identity: "LinkIdentity", own: bool) -> str:
    """Return the TOML of a link; with `own`, also what keeps this machine's own sources."""
    links = os.path.join("links", os.path.basename(identity.directory))
    named = identity.directory.endswith(links)
    shown = os.path.basename(identity.directory) if named else identity.directory
    text = "".join(
        f'[[upstream]]\nurl = "tls://{address}"\nidentity = "{shown}"\n' for address in identity.addresses
    )
    return text + ("\n# without it, an [[upstream]] would end this machine's own broker\n"
                   "[broker]\ndeposits = true\n" if own else "")  # fmt: skip


def _start(own: bool, out: Output) -> None:
    from drawwell.cli.set_up import enable_and_restart, has_unit, restart_if_running

    if not has_unit(LINK_UNIT):
        out.say("no systemd here: 'drawwell draw' renews the certificate when that is due")
        return
    enable_and_restart(LINK_UNIT)
    if not own:  # the broker ends, as it has nothing to serve; the kernel's feed follows the link
        restart_if_running("drawwell-broker.service", "drawwell-kernel.service")
    out.say(f"{LINK_UNIT} runs, and keeps the certificate renewed")


LINK_UNIT: Final = "drawwell-link.service"
FIRST_BYTE_S: Final = 20.0


def _first_byte(identity: "LinkIdentity") -> "DrawwellError | None":
    """Draw one byte, of class drbg where it may; return the error that prevents it."""
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
    from drawwell.links.identity import rekey
    from drawwell.roles.upstream import joined, links_dir, named

    if args.token or not (args.name or args.dir):
        raise UsageError("--rekey takes no token, and a link", hint="Name it by --name LINK or --dir DIR.")
    name = os.path.abspath(args.dir) if args.dir else args.name
    identity = joined(name, links_dir(load(args.config)))

    def connect(shown: "LinkIdentity") -> "contextlib.aclosing[Any]":
        return contextlib.aclosing(named(shown.directory, ""))

    moved = asyncio.run(rekey(identity, connect))
    document = {"broker": moved.broker, "consumer": moved.consumer, "directory": moved.directory}
    out.result(document, f"{moved.consumer} has another key at {moved.broker}; the earlier one is revoked")
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
    from drawwell.config.load import load
    from drawwell.errors import UsageError
    from drawwell.roles.upstream import links_dir

    if args.dir:
        return str(args.dir)
    name = args.name or host.replace(":", "-").strip("-.")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", name):
        raise UsageError(f"{name!r} cannot be a link's name", hint="Use letters, digits, dot, _ and -.")
    return os.path.join(links_dir(load(args.config)), name)
