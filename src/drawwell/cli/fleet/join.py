"""``drawwell fleet join``: add this machine's broker to a fleet."""

import argparse
import getpass
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from drawwell.cli.output import Output
from drawwell.errors import UsageError

if TYPE_CHECKING:
    from drawwell.config.model import Config
    from drawwell.wire.enrolment import FleetReply

_LIMIT: Final = 4096


def add_parser(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "join", parents=[common], help="add this machine's broker to a fleet", allow_abbrev=False,
        description="Read an invitation from standard input, fetch the address of the fleet's store and a "
            "certificate from the fleet's root, and restart the broker. If the command fails, repeat it with the "
            "same invitation.",
        epilog="Exit codes: 0 joined; 64 invalid invitation, or the broker already has consumers; 69 the inviting "
            "broker is not reachable; 77 wrong broker, or the invitation was used or has expired.",
    )  # fmt: skip
    parser.add_argument(
        "line", nargs="?", default="-", metavar="-",
        help="read the invitation from standard input or prompt for it, because all local users can see an argument",
    )  # fmt: skip
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.fleet import setting_up
    from drawwell.crypto.tokens import BROKER, parse_token
    from drawwell.fleet.shared_address import SharedAddress
    from drawwell.links.enrol import join_fleet
    from drawwell.links.signer import RemoteKeys

    if args.line != "-":
        raise UsageError(
            "every local user can see an argument, and the invitation is a secret",
            hint="Print a new invitation, run 'drawwell fleet join -' and paste it.",
        )
    setting_up.require_psycopg()
    config, directory = setting_up.prepare(args)
    token = parse_token(_line(), BROKER)
    signer = RemoteKeys(config.signer.socket)
    request = signer.ask("fleet-request")
    with setting_up.alone():
        with setting_up.stopped_broker(config):
            _require_no_consumers(config)
            with out.working(f"joining through {token.address}"):
                reply = join_fleet(token, request["csr"].encode(), request["receipt_key"].encode())
        store = setting_up.keep_address(config, SharedAddress(reply.store, reply.password, reply.store_ca))
        signer.ask("fleet-adopt", **_answer(reply))
        setting_up.write_tables(directory, "join", reply.broker, reply.fleet, store, owns=False)
    out.result(
        {"broker": reply.broker, "fleet": reply.fleet},
        f"this broker is now {reply.broker} in the fleet {reply.fleet}",
    )
    setting_up.start(out)
    return 0


def _answer(reply: "FleetReply") -> dict[str, str]:
    return {name: getattr(reply, name) for name in ("fleet", "certificate", "root", "keys")}


def _line() -> str:
    if sys.stdin.isatty():
        return getpass.getpass("invitation from 'drawwell fleet invite': ").strip()
    return sys.stdin.readline(_LIMIT).strip()


def _require_no_consumers(config: "Config") -> None:
    """Raise UsageError if consumers joined here: they pin another root."""
    from drawwell.ownership import rights_of_owner
    from drawwell.state.store import Store

    path = os.path.join(config.broker.state_dir, "broker.db")
    if config.fleet.store or not os.path.exists(path):
        return
    with rights_of_owner(path):
        store = Store(path)
        try:
            count = store.count()
        finally:
            store.close()
    if count:
        raise UsageError(
            f"this broker already has {count} consumers",
            hint="Revoke them here ('drawwell consumer list'), and invite them again where 'drawwell fleet init' was "
            "run.",
        )
