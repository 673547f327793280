"""How verbs reach a running broker: on this machine by its sockets, elsewhere by a link that was joined."""

import argparse
import os
import socket
from typing import TYPE_CHECKING, Any

from drawwell.errors import LinkUnavailable, PermissionRefused, UsageError

if TYPE_CHECKING:  # start-up time
    from drawwell.cli.awaited import AwaitedLink
    from drawwell.config.consumer_side import UpstreamSection
    from drawwell.config.model import Config
    from drawwell.links.blocking import BlockingLink
    from drawwell.links.identity import LinkIdentity
    from drawwell.ports import Upstream


def call(args: argparse.Namespace, verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Ask the running broker a control verb, as its owner.

    Raises:
        NoBroker: none runs on this machine.
        PermissionRefused: we are not its owner.
        LinkUnavailable: it went away before it answered.
        DrawwellError: whatever the broker refused it with.
    """
    return call_pages(args, verb, arguments)[0]


def call_pages(args: argparse.Namespace, verb: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """Ask the running broker a control verb whose answer may have a `next` page, for all of them.

    Raises:
        As `call`.
    """
    from drawwell.config.load import load

    try:
        return _ask_pages(load(args.config).control.path, verb, arguments)
    except PermissionRefused as error:
        raise PermissionRefused(
            "only the broker's owner may ask that", hint="Ask as root or as the broker's own user."
        ) from error


def ask(path: str, verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Ask a control verb on one of the broker's sockets; raises as `call`."""
    return _ask_pages(path, verb, arguments)[0]


def _ask_pages(path: str, verb: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
    from drawwell.links.blocking import BlockingLink

    link = BlockingLink(path, answer_deadline_s=ANSWER_DEADLINE_S)
    try:
        link.open()
    except LinkUnavailable as error:
        if listens(path):
            raise
        raise NoBroker(
            "no broker runs here",
            hint="Start one with 'drawwell run', try 'drawwell demo', or ask 'drawwell doctor'.",
        ) from error
    try:
        pages = [link.call(verb, arguments)]
        while (after := pages[-1].get("next")) is not None:
            pages.append(link.call(verb, {**arguments, "after": after}))
        return pages
    finally:
        link.close()


def listens(path: str) -> bool:
    """Does anybody listen on that socket, whether he answers or not?"""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return False
        except OSError:
            return True
    return True


class NoBroker(LinkUnavailable):
    """Nobody listens on this machine."""


ANSWER_DEADLINE_S = 60.0
"""A firmware dump and on-demand tests of a slow source take their time."""


def source_command(
    args: argparse.Namespace, source: str | None, verb: str, arguments: dict[str, Any]
) -> dict[str, Any] | None:
    """Ask a running source a verb; None when nobody runs it, so that the caller may open the device itself.

    `source` is a name or a device path; None means the only one that runs.
    """
    try:
        running = call(args, "status", {})["sources"]
    except NoBroker:
        return None
    if source and source.startswith("/"):
        node = os.path.realpath(source)
        names = [s["identity"]["name"] for s in running if os.path.realpath(s["identity"]["path"]) == node]
        if not names:
            return None
        source = names[0]
    return call(args, "source.command", {"source": source, "verb": verb, "args": arguments})


def upstream(args: argparse.Namespace) -> "Upstream":
    """Return the broker to draw from: what ``--via`` names, else what the configuration says.

    That is this machine's own broker where a source or ``deposits`` is written, else the brokers of
    [[upstream]], else those that were joined, else this machine's own. Whether any of them works
    makes no difference.

    Raises:
        LinkUnavailable: no broker runs here, and no other is known.
    """
    from drawwell.config.load import load
    from drawwell.links.unix import UnixLink

    config = load(args.config)
    return _elsewhere(config, getattr(args, "via", None)) or UnixLink(_own_socket(config))


def blocking(args: argparse.Namespace) -> "BlockingLink | AwaitedLink":
    """Return a blocking link to the broker of `upstream`; raises as that."""
    from drawwell.config.load import load
    from drawwell.links.blocking import BlockingLink

    config = load(args.config)
    elsewhere = _elsewhere(config, args.via)
    if elsewhere is None:
        return BlockingLink(_own_socket(config))
    from drawwell.cli.awaited import AwaitedLink

    return AwaitedLink(elsewhere)


def _own_socket(config: "Config") -> str:
    if not listens(config.unix.path):
        raise LinkUnavailable(
            "no broker runs here, and none was joined",
            hint="Start one with 'drawwell run', or join one: 'drawwell join TOKEN'.",
        )
    return config.unix.path


def links_dir(config: "Config") -> str:
    """Return the directory with one identity for each broker that this machine joined."""
    return os.path.join(config.broker.state_dir, "links")


def identities(config: "Config", via: str | None) -> "list[LinkIdentity]":
    """Return the joined identities that a draw shows; none for this machine's own broker."""
    links = links_dir(config)
    if via and "://" not in via:
        return [joined(via, links)]
    if config.draws_here and not via:
        return []
    if not (sections := [_section(via)] if via else config.upstreams):
        return _all_joined(links)
    from drawwell.links.identity import LINK, load
    from drawwell.roles.make_links_and_sinks import identity_directory

    directories = [identity_directory(each, links) for each in sections if each.joined]
    return [load(each) for each in directories if os.path.exists(os.path.join(each, LINK))]


def _elsewhere(config: "Config", via: str | None) -> "Upstream | None":
    """Return the broker on another machine; none of its imports for one on this machine."""
    links = links_dir(config)
    if via:
        return named(via, links)
    if config.draws_elsewhere:
        from drawwell.roles.make_links_and_sinks import make_upstream

        return _together([make_upstream(each, links) for each in config.upstreams], config.links.mix)
    if config.draws_here or not (identities := _all_joined(links)):
        return None
    return _together([named(each.directory, links) for each in identities])


def _all_joined(links: str) -> "list[LinkIdentity]":
    if not os.path.isdir(links):
        return []
    from drawwell.links.identity import load_all

    return load_all(links)


def _together(links: "list[Upstream]", mix: int = 1) -> "Upstream":
    """One link as it is; several as one that falls over, or that mixes so many."""
    import random

    from drawwell.links.failover import Failover

    return links[0] if len(links) == 1 else Failover(links, jitter=random.random, mix=mix)


def named(via: str, links: str) -> "Upstream":
    """A broker by URL, by the name of its link, or by the link's directory."""
    from drawwell.config.values import parse_host_port
    from drawwell.roles.make_links_and_sinks import make_upstream, tls_link

    if "://" in via:
        return make_upstream(_section(via), links)
    identity = joined(via, links)
    return _together(
        [tls_link(identity.directory, parse_host_port(address)) for address in identity.addresses]
    )


def _section(url: str) -> "UpstreamSection":
    from drawwell.config.consumer_side import UpstreamSection
    from drawwell.config.values import BrokerUrl

    try:
        return UpstreamSection(url=BrokerUrl().parse(url), identity="")
    except ValueError as error:
        raise UsageError(f"--via {error}", hint="Name a broker that was joined, or its URL.") from error


def joined(name: str, links: str) -> "LinkIdentity":
    """The identity of one broker that this machine joined, by its name or its directory.

    Raises:
        UsageError: none of that name.
        StateUnavailable: it is damaged.
    """
    from drawwell.links.identity import LINK, load, load_all

    directory = os.path.join(links, name)
    if os.path.exists(os.path.join(directory, LINK)):
        return load(directory)
    names = ", ".join(os.path.basename(each.directory) for each in load_all(links))
    hint = f"Joined are: {names}." if names else "Join it: 'drawwell join TOKEN'."
    raise UsageError(f"no broker {name!r} was joined", hint=hint)
