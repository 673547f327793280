"""Choose the broker to draw from, and connect to it.

For a broker on this machine, the modules for remote brokers are not imported.
"""

import os
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Unpack

from drawwell.entropy.blocks import DrawClass, DrawOptions, Grant
from drawwell.errors import DrawwellError, NoHealthySource, Refused, Unreachable, UsageError

if TYPE_CHECKING:
    from drawwell.config.consumer_side import UpstreamSection
    from drawwell.config.model import Config
    from drawwell.links.awaited import AwaitedLink
    from drawwell.links.blocking import BlockingLink
    from drawwell.links.identity import LinkIdentity
    from drawwell.ports import Upstream

    AnyLink = BlockingLink | AwaitedLink


def choose_upstream(config: "Config", via: str | None) -> "Upstream":
    """Return the broker that `via` or the configuration selects.

    A configuration with a source or ``deposits`` selects this machine's own broker. Otherwise
    the brokers in [[upstream]] are selected, or else the joined brokers, or else this
    machine's broker. Whether they work is not checked.

    Raises:
        Unreachable: no broker runs here, and no other broker is known.
        UsageError: `via` does not name a joined broker.
    """
    from drawwell.links.unix import UnixLink

    return _elsewhere(config, via) or UnixLink(_own_socket(config))


def choose_blocking(config: "Config", via: str | None) -> "BlockingLink | AwaitedLink":
    """Return a blocking link to this broker; same errors as `choose_upstream`."""
    from drawwell.links.blocking import BlockingLink

    elsewhere = _elsewhere(config, via)
    if elsewhere is None:
        return BlockingLink(_own_socket(config))
    from drawwell.links.awaited import AwaitedLink

    return AwaitedLink(elsewhere)


def _own_socket(config: "Config") -> str:
    if not listens(config.unix.path):
        raise Unreachable(
            "no broker is running here, and this machine has joined none",
            hint="Start one with 'drawwell run', or join one with 'drawwell join'.",
        )
    return config.unix.path


def links_dir(config: "Config") -> str:
    """Return the directory that contains an identity for each joined broker."""
    return os.path.join(config.broker.state_dir, "links")


def identities(config: "Config", via: str | None) -> "list[LinkIdentity]":
    """Return the identities that a draw uses; a local broker needs none."""
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
    """Return the selected remote broker; None for this machine's broker."""
    links = links_dir(config)
    if via:
        return named(via, links)
    if config.draws_elsewhere:
        from drawwell.roles.joined_links import JoinedLinks

        return _together(list(JoinedLinks(config.upstreams, links).links.values()), config.links.mix)
    if config.draws_here or not (identities := _all_joined(links)):
        return None
    return _together([named(each.directory, links) for each in identities])


def _together(links: "list[Upstream]", mix: int = 1) -> "Upstream":
    from drawwell.roles.joined_links import together

    return together(links, mix)


def _all_joined(links: str) -> "list[LinkIdentity]":
    if not os.path.isdir(links):
        return []
    from drawwell.links.identity import load_all

    return load_all(links)


def named(via: str, links: str) -> "Upstream":
    """Return a broker by its URL or by its link's name or directory."""
    from drawwell.roles.joined_links import broker_links, together
    from drawwell.roles.make_links_and_sinks import make_upstream

    if "://" in via:
        return make_upstream(_section(via), links)
    return together(list(broker_links(joined(via, links)).values()))


def _section(url: str) -> "UpstreamSection":
    from drawwell.config.consumer_side import UpstreamSection
    from drawwell.config.values import BrokerUrl

    try:
        return UpstreamSection(url=BrokerUrl().parse(url), identity="")
    except ValueError as error:
        raise UsageError(f"--via {error}", hint="Use the name of a joined broker, or a URL.") from error


def joined(name: str, links: str) -> "LinkIdentity":
    """Return the identity for a joined broker, by name or directory.

    Raises:
        UsageError: no identity has this name.
        StateUnavailable: the identity is damaged.
    """
    from drawwell.links.identity import LINK, load, load_all

    directory = os.path.join(links, name)
    if os.path.exists(os.path.join(directory, LINK)):
        return load(directory)
    names = ", ".join(os.path.basename(each.directory) for each in load_all(links))
    hint = f"Joined brokers: {names}." if names else "Join it with 'drawwell join'."
    raise UsageError(f"this machine has not joined a broker {name!r}", hint=hint)


def listens(path: str) -> bool:
    """Return whether a process listens on this socket."""
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
    """Renew a certificate if it is due; return whether it was renewed.

    Raises the same errors as `renew_if_due`.
    """
    from drawwell.links.renewal import renew_if_due

    if not force and not identity.renewal_due(time.time()):
        return False
    link = named(identity.directory, "")
    try:
        return await renew_if_due(link, identity, time.time(), force=force)
    finally:
        await link.aclose()


def due_identities(config: "Config", via: str | None) -> "list[LinkIdentity]":
    """Return a draw's identities whose certificates are due for renewal."""
    return [each for each in identities(config, via) if each.renewal_due(time.time())]


async def renew_all(due: "Iterable[LinkIdentity]") -> None:
    """Renew certificates; a failure that matters appears in the next draw."""
    for identity in due:
        with suppress(DrawwellError):
            await renew(identity)


TRY_AGAIN_S = 0.25
"""The time between two attempts that wait for a broker or a source to start."""


def draw_patiently(
    link: "AnyLink",
    n_bytes: int,
    draw_class: DrawClass,
    wait_s: float,
    *,
    persist: bool = False,
    **options: Unpack[DrawOptions],
) -> Grant:
    """Draw, and wait up to `wait_s` for the reservoir or a quota.

    With `persist`, also wait for a broker that cannot be reached or has no healthy source.
    Raises the same errors as `ports.Upstream.draw`.
    """
    deadline = time.monotonic() + wait_s
    while True:
        options["patience_s"] = max(0.0, deadline - time.monotonic())
        try:
            return link.draw(n_bytes, draw_class, **options)
        except (Refused, Unreachable) as error:
            pause = error.retry_after_s if isinstance(error, Refused) else None
            if pause is None and persist and isinstance(error, (NoHealthySource, Unreachable)):
                pause = TRY_AGAIN_S
            if pause is None or time.monotonic() + pause > deadline:
                raise
            link.pause(pause)
