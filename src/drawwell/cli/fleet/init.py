"""``drawwell fleet init``: make this broker the first in a fleet."""

import argparse
import getpass
import os
import re
import sys
from typing import TYPE_CHECKING, Any, Final

from drawwell.cli.output import Output
from drawwell.errors import UsageError

if TYPE_CHECKING:
    from drawwell.config.model import Config
    from drawwell.fleet.founding import Founding

_LIMIT: Final = 8192
_FLEET: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)
"""Matches the name of a fleet: a DNS label."""


def add_parser(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "init", parents=[common], help="make this broker the first of a fleet", allow_abbrev=False,
        description="Create the fleet's tables and this broker's role in a PostgreSQL database, move the broker's "
        "consumers there, and restart the broker as part of the fleet. Joined consumers continue to work. It is safe "
        "to repeat this command.",
        epilog="Exit codes: 0 done; 64 not root or invalid name; 69 database or signer not available; "
        "78 invalid address.",
    )  # fmt: skip
    parser.add_argument("--name", required=True, metavar="SITE", help="this broker's name in the fleet")
    parser.add_argument(
        "--fleet", default="drawwell", metavar="NAME", help="the fleet's name (default: drawwell)"
    )
    parser.add_argument(
        "--store-from", required=True, metavar="FILE",
        help="a file with the database address for the owner's role, such as "
            "postgresql://OWNER:PASSWORD@HOST/DATABASE?sslmode=verify-full; '-' prompts for the address or reads "
            "it from standard input",
    )  # fmt: skip
    parser.add_argument(
        "--role", default="drawwell_broker", metavar="ROLE",
        help="the role to create as the group of all brokers; the name of each broker's own role begins with it "
            "(default: drawwell_broker)",
    )  # fmt: skip
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.fleet import setting_up
    from drawwell.links.signer import RemoteKeys

    setting_up.require_psycopg()
    _check_names(args)
    config, directory = setting_up.prepare(args)
    signer = RemoteKeys(config.signer.socket)
    if not signer.ask("fleet-describe")["holds_root"]:
        raise UsageError(
            "the root key is not on this machine", hint="Run 'drawwell pki import-root FILE' first."
        )
    with setting_up.alone(), setting_up.stopped_broker(config), out.working("setting up the database"):
        moved, store = _set_up(args, config)
    signer.ask("fleet-found", fleet=args.fleet)
    setting_up.write_tables(directory, "init", args.name, args.fleet, store, owns=True)
    out.result(
        {"broker": args.name, "fleet": args.fleet, "consumers_moved": moved},
        f"{args.name} is the first broker of fleet {args.fleet}; consumers moved: {moved}",
    )
    setting_up.start(out)
    out.say("next, run 'drawwell fleet invite SITE'")
    return 0


def _set_up(args: argparse.Namespace, config: "Config") -> tuple[int, str]:
    """Set up the database; return the number of consumers and the store."""
    from drawwell.cli.fleet import setting_up
    from drawwell.fleet.founding import Founding

    founding = Founding(_address(args.store_from))
    with founding:
        kept = setting_up.kept_password(config, f"{args.role}_{args.name}")
        shared = founding.shared(args.role, args.name, kept)
        store = setting_up.keep_address(config, shared)  # store the password before the role gets it
        founding.install(args.fleet, args.role, args.name)
        founding.admit(args.name, shared.password)
        moved = _move(config, founding)
    setting_up.keep_owner(founding.whole_address(), store)
    return moved, store


def _check_names(args: argparse.Namespace) -> None:
    from drawwell.cli.fleet import setting_up
    from drawwell.config.values import NAME

    if not _FLEET.fullmatch(args.fleet):
        raise UsageError(
            f"{args.fleet!r} is not a valid fleet name", hint="Use up to 40 of a-z, 0-9 and hyphen."
        )
    try:
        setting_up.require_short(args.role, NAME.parse(args.name))
    except ValueError as error:
        raise UsageError(f"--name {error}", hint="Use the name of the site, such as site-a.") from error


def _address(source: str) -> str:
    """Read the owner's address from a place that no other user can see."""
    if source != "-":
        with open(source, encoding="utf-8") as file:
            return file.read(_LIMIT).strip()
    if sys.stdin.isatty():
        return getpass.getpass("address of the database, with its owner's role: ").strip()
    return sys.stdin.readline(_LIMIT).strip()


def _move(config: "Config", founding: "Founding") -> int:
    """Move the consumers of this broker, and return their number."""
    from drawwell.ownership import rights_of_owner
    from drawwell.state.store import Store

    path = os.path.join(config.broker.state_dir, "broker.db")
    if not os.path.exists(path):
        return 0
    with rights_of_owner(path):
        store = Store(path)
        try:
            return founding.move(store)
        finally:
            store.close()
