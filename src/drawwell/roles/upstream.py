"""Choose the broker to draw from, and wait for it.

What a broker on another machine needs is not imported for one on this machine.
"""

import os
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Unpack

from drawwell.entropy.blocks import DrawClass, DrawOptions, Grant
from drawwell.errors import DrawwellError, LinkUnavailable, Refused, UsageError

if TYPE_CHECKING:
    from drawwell.config.consumer_side import UpstreamSection
    from drawwell.config.model import Config
    from drawwell.links.awaited import AwaitedLink
    from drawwell.links.blocking import BlockingLink
    from drawwell.links.identity import LinkIdentity
    from drawwell.ports import Upstream

    AnyLink = BlockingLink | AwaitedLink


def choose_upstream(config: "Config", via: str | None) -> "Upstream":
    """Return the broker that `via` or else the configuration names.

    The configuration names this machine's own broker where it has a source or ``deposits``,
    else the brokers of [[upstream]], else those that were joined, else its own. Whether
    any of them works makes no difference.

    Raises:
        LinkUnavailable: no broker runs here, and no other is known.
        UsageError: `via` names none that was joined.
    """
    from drawwell.links.unix import UnixLink

    return _elsewhere(config, via) or UnixLink(_own_socket(config))


def choose_blocking(config: "Config", via: str | None) -> "BlockingLink | AwaitedLink":
    """Return a blocking link to that broker; raises as `choose_upstream`."""
    from drawwell.links.blocking import BlockingLink

    elsewhere = _elsewhere(config, via)
    if elsewhere is None:
        return BlockingLink(_own_socket(config))
    from drawwell.links.awaited import AwaitedLink

    return AwaitedLink(elsewhere)


def _own_socket(config: "Config") -> str:
    if not listens(config.unix.path):
        raise LinkUnavailable(
            "no broker runs here, and none was joined",
            hint="Start one with 'drawwell run', or join one: 'drawwell join TOKEN'.",
        )
    return config.unix.path


def links_dir(config: "Config") -> str:
    """Return the directory with an identity for each joined broker."""
    return os.path.join(config.broker.state_dir, "links")


def identities(config: "Config", via: str | None) -> "list[LinkIdentity]":
    """Return the identities that a draw shows; a local broker needs none."""
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
    """Return the broker on another machine, None for this one's."""
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
    """Return one link as it is, several as one that falls over or mixes."""
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
    """Return the identity for a joined broker, by its name or directory.

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


def listens(path: str) -> bool:
    """Return whether a process listens on that socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return False
        except OSError:
            return True
    return True


async def renew(identity: "LinkIdentity", *, force: bool = False) -> bool:
    """Renew a certificate where it is due, and return whether it was.

    Raises as `renew_if_due`.
    """
    from drawwell.links.identity import renew_if_due

    if not force and not identity.renewal_due(time.time()):
        return False
    link = named(identity.directory, "")
    try:
        return await renew_if_due(link, identity, time.time(), force=force)
    finally:
        await link.aclose()


def due_identities(config: "Config", via: str | None) -> "list[LinkIdentity]":
    """Return the identities of a draw whose certificates are due for renewal."""
    return [each for each in identities(config, via) if each.renewal_due(time.time())]


async def renew_all(due: "Iterable[LinkIdentity]") -> None:
    """Renew certificates; a failure shows in the draw if it matters."""
    for identity in due:
        with suppress(DrawwellError):
            await renew(identity)


def draw_patiently(
    link: "AnyLink", n_bytes: int, draw_class: DrawClass, wait_s: float, **options: Unpack[DrawOptions]
) -> Grant:
    """Draw; wait up to `wait_s` for the reservoir or a quota.

    Raises:
        As `ports.Upstream.draw`.
    """
    deadline = time.monotonic() + wait_s
    while True:
        options["patience_s"] = max(0.0, deadline - time.monotonic())
        try:
            return link.draw(n_bytes, draw_class, **options)
        except Refused as error:
            pause = error.retry_after_s
            if pause is None or time.monotonic() + pause > deadline:
                raise
            link.pause(pause)
