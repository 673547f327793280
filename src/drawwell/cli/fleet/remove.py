"""``drawwell fleet remove``: remove a broker that is retired or stolen."""

import argparse
import os
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from drawwell.cli.output import Output
from drawwell.errors import UsageError

if TYPE_CHECKING:
    from drawwell.config.model import Config


def add_parser(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "remove", parents=[common], help="remove a broker that is retired or stolen", allow_abbrev=False,
        description="Remove a broker: the store closes the broker's sessions and refuses new ones, consumers no "
            "longer get its addresses, its certificate is not renewed, and its receipt key expires. The broker can "
            "join again with a new invitation. Run this as root on the machine of 'drawwell fleet init', with the "
            "root key present.",
        epilog="Exit codes: 0 removed; 64 unknown or running broker, or no fleet root here; 69 store or signer "
        "not available; 77 not the owner's machine.",
    )  # fmt: skip
    parser.add_argument("broker", metavar="BROKER", help="name from 'drawwell fleet status'")
    parser.add_argument(
        "--running", action="store_true",
        help="remove the broker even if it is using the store, as a stolen broker might",
    )  # fmt: skip
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.fleet import setting_up
    from drawwell.config.load import load
    from drawwell.links.signer import RemoteKeys

    setting_up.require_psycopg()
    config = load(args.config)
    if not config.fleet.store:
        raise UsageError(
            "this machine's broker is not in a fleet",
            hint="Run this where 'drawwell fleet init' was run.",
        )
    if args.broker == config.broker.name:
        raise UsageError(
            f"{args.broker} is this machine's broker, which has the fleet's root",
            hint="'drawwell fleet status' shows the other brokers.",
        )
    with closing(RemoteKeys(config.signer.socket)) as signer:
        found = signer.ask("fleet-describe")
        if not found["holds_root"]:
            raise UsageError(
                "the root's key is not on this machine",
                hint="Run 'drawwell pki import-root FILE' first, on the machine of 'drawwell fleet init'.",
            )
        known = args.broker in found["brokers"]
        _remove_from_store(config, args.broker, known=known, running=args.running)
        signer.ask("fleet-remove", broker=args.broker)
    out.result(
        {"broker": args.broker, "fleet": found["fleet"]},
        f"removed {args.broker} from fleet {found['fleet']}",
    )
    return 0


def _remove_from_store(config: "Config", broker: str, *, known: bool, running: bool) -> None:
    from drawwell.cli.fleet.setting_up import OWNER_FILE
    from drawwell.fleet.mail import FleetOwner

    if not os.path.exists(config.fleet.owner):
        config = replace(config, fleet=replace(config.fleet, owner=OWNER_FILE))
    with closing(FleetOwner(config)) as owner:
        owner.remove(broker, known=known, running=running)
