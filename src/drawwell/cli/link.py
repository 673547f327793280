"""``drawwell link``: the brokers on other machines that this one draws from."""

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
    """Add the noun and its verb."""
    parser = nouns.add_parser(
        "link", help="list the links to other machines' brokers, or run them", allow_abbrev=False
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    run = verbs.add_parser(
        "run", parents=[common], allow_abbrev=False,
        help="draw from every [[upstream]] for this machine, until Ctrl-C; needs no privilege",
        epilog="It serves link.sock in run_dir to 'drawwell kernel run', to root and to its own user, and keeps the "
        "certificates renewed.",
    )  # fmt: skip
    add_options(run)
    run.set_defaults(run=_run)
    listing = verbs.add_parser(
        "list", parents=[common], allow_abbrev=False,
        help="list the brokers that were joined or configured, and ask each for its state",
        epilog="DRAW tells which brokers a plain 'drawwell draw' asks.",
    )  # fmt: skip
    listing.set_defaults(run=_list)


def _run(args: argparse.Namespace, out: Output) -> int:
    from drawwell.config.load import load
    from drawwell.host.openssl import require_post_quantum
    from drawwell.roles.link_process import LinkProcess
    from drawwell.service.loops import loop_factory
    from drawwell.service.systemd import Manager

    set_up_logging(verbose=args.verbose, quiet=out.quiet)
    manager = Manager(os.environ)
    config = load(args.config)
    if not config.upstreams and manager.listens:
        return idle(manager, out, "nothing to link to: no [[upstream]]")
    if config.tls.require_pq:
        require_post_quantum()
    return run_until_stopped(LinkProcess(config, manager).run, out, loop_factory(os.environ))


@dataclass(frozen=True, slots=True)
class _KnownLink:
    """A broker that was joined or configured; `via` is what ``--via`` takes."""

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
    out.result(rows, shown if rows else "no broker was joined")
    return 0


def _known(config: "Config") -> list[_KnownLink]:
    """Return the joined brokers, then the other ones of [[upstream]]."""
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
    """Return why that broker serves nothing now, "" when it does."""
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
    except DrawwellError as error:  # no identity
        return str(error)


def _until(expires: float | None) -> str:
    if expires is None:
        return "-"
    day = time.strftime("%Y-%m-%d", time.localtime(expires))
    return f"until {day}" if expires > time.time() else f"ended {day}"
