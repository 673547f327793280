"""``drawwell link``: list or run the links to remote brokers."""

import argparse
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drawwell.cli.output import Output
from drawwell.cli.run import add_options, idle, run_until_stopped, set_up_logging

if TYPE_CHECKING:
    from drawwell.config.model import Config


def add_parser(nouns: Any, common: argparse.ArgumentParser) -> None:
    parser = nouns.add_parser(
        "link", help="list the links to remote brokers, or run them in their own process", allow_abbrev=False
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    run = verbs.add_parser(
        "run", parents=[common], allow_abbrev=False,
        help="draw from the brokers in [[upstream]] for this machine until Ctrl-C; needs no privileges",
        epilog="The link serves 'drawwell kernel run', root and its own user on link.sock in run_dir. It also renews "
        "the certificates.",
    )  # fmt: skip
    add_options(run)
    run.set_defaults(run=_run)
    listing = verbs.add_parser(
        "list", parents=[common], allow_abbrev=False,
        help="list joined and configured brokers with their states",
        epilog="Column DRAW is 'plain' for brokers that 'drawwell draw' uses without --via.",
    )  # fmt: skip
    listing.set_defaults(run=_list)


def _run(args: argparse.Namespace, out: Output) -> int:
    from drawwell.config.load import load
    from drawwell.host.memory import lock_memory
    from drawwell.host.openssl import require_post_quantum
    from drawwell.roles.link_process import LinkProcess
    from drawwell.service.loops import loop_factory
    from drawwell.service.systemd import Manager

    set_up_logging(verbose=args.verbose, quiet=out.quiet)
    manager = Manager(os.environ)
    config = load(args.config)
    if not config.upstreams and manager.listens:
        return idle(manager, out, "nothing to link to: the configuration has no [[upstream]]")
    if config.tls.require_pq:
        require_post_quantum()
    return run_until_stopped(
        LinkProcess(config, manager, note=lock_memory()).run, out, loop_factory(os.environ)
    )


@dataclass(frozen=True, slots=True)
class _KnownLink:
    """A joined or configured broker; `via` is its name for ``--via``."""

    via: str
    consumer: str
    addresses: tuple[str, ...]
    expires: float | None
    plain_draw: bool


def _list(args: argparse.Namespace, out: Output) -> int:
    from drawwell.config.load import load

    config = load(args.config)
    rows: list[dict[str, Any]] = []
    for link in _known(config):
        state = _state(link.via, config)
        rows.append(
            {
                "link": link.via,
                "consumer": link.consumer,
                "addresses": list(link.addresses),
                "certificate_expires": link.expires,
                "plain_draw": link.plain_draw,
                "ready": not state,
                "not_ready_because": state,
            }
        )
    heading = ("LINK", "BROKER", "CONSUMER", "CERTIFICATE", "DRAW", "STATE")
    lines = [
        (
            str(row["link"]), ", ".join(row["addresses"]), row["consumer"] or "-", _until(row["certificate_expires"]),
            "plain" if row["plain_draw"] else "--via", row["not_ready_because"] or "ready",
        )
        for row in rows
    ]  # fmt: skip
    shown = out.style.table([heading, *lines], drop=("CONSUMER", "CERTIFICATE"))
    out.result(rows, shown if rows else "no broker has been joined")
    return 0


def _known(config: "Config") -> list[_KnownLink]:
    """Return the joined brokers, then any other brokers in [[upstream]]."""
    from drawwell.errors import StateUnavailable
    from drawwell.links.identity import load_all
    from drawwell.roles.upstream import links_dir

    urls = {each.url.partition("://")[2]: each for each in config.upstreams}
    known = []
    for identity in load_all(links_dir(config)):
        configured = [urls.pop(address) for address in identity.addresses if address in urls]
        plain = not config.draws_here and bool(configured or not config.upstreams)
        expires = None
        with suppress(StateUnavailable):
            expires = identity.expires()
        name = os.path.basename(identity.directory)
        known.append(_KnownLink(name, identity.consumer, identity.addresses, expires, plain))
    for address, each in urls.items():
        known.append(_KnownLink(each.url, "", (address,), None, not config.draws_here))
    return known


def _state(via: str, config: "Config") -> str:
    """Return why the broker cannot serve draws, or ""."""
    import asyncio

    from drawwell.errors import DrawwellError
    from drawwell.roles.link_process import broker_state
    from drawwell.roles.upstream import links_dir, named

    async def ask() -> str:
        link = named(via, links_dir(config))
        try:
            return await broker_state(link)
        finally:
            await link.aclose()

    try:
        return asyncio.run(ask())
    except DrawwellError as error:  # not joined
        return str(error)


def _until(expires: float | None) -> str:
    if expires is None:
        return "-"
    day = time.strftime("%Y-%m-%d", time.localtime(expires))
    return f"until {day}" if expires > time.time() else f"expired {day}"
