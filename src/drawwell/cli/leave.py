"""``drawwell leave``: undo ``drawwell join``."""

import argparse
from typing import TYPE_CHECKING, Any

from drawwell.cli.output import Output

if TYPE_CHECKING:
    from drawwell.config.model import Config


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    """Add the noun."""
    parser = nouns.add_parser(
        "leave", parents=[common], help="leave a broker that was joined", allow_abbrev=False,
        description="Leave a broker: remove its identity and the configuration that 'drawwell join' wrote. The broker "
        "still knows this machine; there, 'drawwell consumer revoke' ends it.",
        epilog="Exit codes: 0 left, 64 no broker of that name was joined.",
    )  # fmt: skip
    parser.add_argument("link", metavar="LINK", help="the broker's name here, as 'drawwell link list' has it")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace, out: Output) -> int:
    from drawwell.cli.set_up import parts_directory, remove_part
    from drawwell.config.load import load
    from drawwell.links.identity import remove
    from drawwell.roles.upstream import joined, links_dir

    identity = joined(args.link, links_dir(load(args.config)))
    directory = parts_directory(args)
    part = bool(directory) and remove_part(str(directory), args.link, "join")
    remove(identity)
    if directory:
        _follow(out)
    document = {"link": args.link, "broker": identity.broker, "configuration_removed": part}
    out.result(document, f"left {identity.broker}")
    for place in _still_named(load(args.config), args.link):
        out.say(f"{place} still names this link: remove that [[upstream]]")
    out.say(f"the broker still knows this machine; there: drawwell consumer revoke {identity.consumer}")
    return 0


def _follow(out: Output) -> None:
    """Restart the units: the link ends, and the broker starts again."""
    from drawwell.cli.join import LINK_UNIT
    from drawwell.cli.set_up import enable_and_restart, has_unit, restart_if_running

    if has_unit(LINK_UNIT):
        restart_if_running(LINK_UNIT, "drawwell-kernel.service")
        enable_and_restart("drawwell-broker.service")
        out.say("the units follow")


def _still_named(config: "Config", link: str) -> list[str]:
    return [
        config.origin(f"upstream[{index}]")
        for index, each in enumerate(config.upstreams)
        if each.identity == link
    ]
