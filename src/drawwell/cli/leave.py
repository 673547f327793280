"""``drawwell leave``: undo ``drawwell join``."""

import argparse
from typing import TYPE_CHECKING, Any

from drawwell.cli.output import Output

if TYPE_CHECKING:
    from drawwell.config.model import Config


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    parser = nouns.add_parser(
        "leave", parents=[common], help="leave a joined broker", allow_abbrev=False,
        description="Leave a broker: remove the identity and the configuration that 'drawwell join' wrote. The broker"
        " still accepts this machine's key until you run 'drawwell consumer revoke' there.",
        epilog="Exit codes: 0 left, 64 no link with this name.",
    )  # fmt: skip
    parser.add_argument("link", metavar="LINK", help="name of the link, as shown by 'drawwell link list'")
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
        out.say(f"{place} still refers to this link: remove that [[upstream]]")
    out.say(f"the broker still accepts this machine; run there: drawwell consumer revoke {identity.consumer}")
    return 0


def _follow(out: Output) -> None:
    """Restart the units, to stop the link and start the broker again."""
    from drawwell.cli.join import LINK_UNIT
    from drawwell.cli.set_up import enable_and_restart, has_unit, restart_if_running

    if has_unit(LINK_UNIT):
        with out.working("restarting the units"):
            restart_if_running(LINK_UNIT, "drawwell-kernel.service")
            enable_and_restart("drawwell-broker.service")
        out.say("the units have been restarted")


def _still_named(config: "Config", link: str) -> list[str]:
    return [
        config.origin(f"upstream[{index}]")
        for index, each in enumerate(config.upstreams)
        if each.identity == link
    ]
