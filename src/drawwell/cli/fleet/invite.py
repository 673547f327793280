"""``drawwell fleet invite``: print invitations for brokers."""

import argparse
from typing import Any

from drawwell.cli.output import Output
from drawwell.errors import UsageError


def add_parser(verbs: Any, common: argparse.ArgumentParser) -> None:
    parser = verbs.add_parser(
        "invite", parents=[common], help="print invitations for other brokers", allow_abbrev=False,
        description="Print an invitation for each broker, to paste into 'drawwell fleet join -' on its machine. "
            "Run this command on the machine of 'drawwell fleet init', with the broker running and the root key "
            "present.",
        epilog="Exit codes: 0 printed; 64 no fleet root here, or the root's key was exported; 69 broker or signer "
            "not available.",
    )  # fmt: skip
    parser.add_argument("brokers", nargs="+", metavar="SITE", help="name of the new broker in the fleet")
    parser.add_argument("--ttl", default="1h", metavar="TIME", help="validity (default: 1h)")
    parser.add_argument(
        "--address", metavar="HOST:PORT",
        help="address of the enrolment door, as the other machine reaches it (default: from the configuration)",
    )  # fmt: skip
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.client import call
    from drawwell.cli.fleet import setting_up
    from drawwell.config.load import load
    from drawwell.config.values import NAME
    from drawwell.crypto import tokens
    from drawwell.links.signer import RemoteKeys
    from drawwell.units import parse_duration

    try:
        ttl_s, names = parse_duration(args.ttl), [str(NAME.parse(name)) for name in args.brokers]
    except ValueError as error:
        raise UsageError(str(error), hint="For example: drawwell fleet invite site-b --ttl 1h") from error
    config = load(args.config)
    for name in names:
        setting_up.require_short(setting_up.brokers_role(config), name)
    signer = RemoteKeys(config.signer.socket)
    root = bytes.fromhex(signer.ask("fleet-describe")["root"])
    opened = call(args, "fleet.open", {})
    host, port = tokens.parse_address(args.address or opened["enrol_address"])
    lines = []
    for name in names:
        made = signer.ask("fleet-invite", broker=name, ttl_s=ttl_s)
        secret = bytes.fromhex(made["secret"])
        token = tokens.Token(host, port, root, made["invitation"], secret, tokens.BROKER)
        lines.append({"broker": name, "token": token.reveal(), "expires": made["expires"]})
    call(args, "fleet.open", {})
    out.result(lines, "\n".join(str(line["token"]) for line in lines))
    out.say("run 'drawwell fleet join -' on the other machine as root, and paste the invitation")
    return 0
