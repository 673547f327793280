"""What libvirt says of a domain: has it virtio-rng, what feeds it, who runs it, would a copy repeat it."""

import grp
import pwd
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final
from xml.dom.minidom import Element

from drawwell.errors import GuestUnavailable
from drawwell.guests.libvirt.domain_xml import (
    Domain,
    attribute,
    children,
    first,
    parsed,
    source_path,
    text_at,
)
from drawwell.guests.model import GuestFacts, GuestFinding, GuestKind, GuestVerdict
from drawwell.guests.qemu.findings import Generator, backends, device_findings, generation_finding, limits

_QEMU_PERIOD_MS: Final = 65536
"""QEMU's own, where libvirt sets no limit."""
_LIBVIRT_PERIOD_MS: Final = 1000
"""libvirt's own, where a limit has none (formatdomain, "rate")."""


def facts(domain: Domain, *, running: bool, shared: frozenset[str]) -> GuestFacts:
    """Return what can be said of a domain; `shared` are sockets that more than one domain has."""
    found = [_generator(each) for each in domain.devices("rng")]
    return GuestFacts(
        kind=GuestKind.LIBVIRT,
        name=domain.name,
        running=running,
        virtio_rng=bool(found),
        backend=backends(found),
        limit=limits(found),
        generation_id=domain.has_generation_id,
        findings=(
            *device_findings(found),
            generation_finding(present=domain.has_generation_id),
            _agent(domain),
            *_copies(domain, shared),
        ),
    )


def _generator(rng: Element) -> Generator:
    max_bytes, period_ms = _limit(rng)
    return Generator(
        backend=f"rng-{attribute(rng, 'backend', 'model')}",
        place=source_path(rng),
        reconnects=attribute(rng, "backend", "source", "reconnect", "enabled") == "yes",
        max_bytes=max_bytes,
        period_ms=period_ms,
    )


def _limit(rng: Element) -> tuple[int | None, int]:
    rate = first(rng, "rate")
    if rate is None:
        return None, _QEMU_PERIOD_MS
    limit, period = rate.getAttribute("bytes"), rate.getAttribute("period")
    period_ms = int(period) if period.isdecimal() else _LIBVIRT_PERIOD_MS
    return int(limit) if limit.isdecimal() else None, period_ms


def _agent(domain: Domain) -> GuestFinding:
    what = "its copies can be reseeded from here"
    if domain.agent:
        return GuestFinding(what, GuestVerdict.HOLDS, f"QEMU guest agent, {domain.agent}")
    return GuestFinding(
        what, GuestVerdict.FAILS, "it has no channel for the QEMU guest agent",
        hint="Add <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>.",
    )  # fmt: skip


def _copies(domain: Domain, shared: frozenset[str]) -> Iterator[GuestFinding]:
    for place in sorted(_sockets(domain) & shared):
        yield GuestFinding(
            "its socket is its own", GuestVerdict.FAILS, f"{place} is another domain's as well: they are one consumer",
            hint="Give each a guest of its own: 'drawwell guest apply libvirt NAME'.",
        )  # fmt: skip


def shared_sockets(domains: Iterable[Domain]) -> frozenset[str]:
    """Return the sockets that more than one domain is fed from: one of them is a clone of another."""
    count = Counter(place for domain in domains for place in _sockets(domain))
    return frozenset(place for place, times in count.items() if times > 1)


def _sockets(domain: Domain) -> set[str]:
    fed = (
        each for each in domain.devices("rng", "redirdev") if attribute(each, "backend", "model") != "random"
    )
    return {place for each in fed if (place := source_path(each))}


def owner_of(domain: Domain, capabilities: str) -> tuple[int | None, int | None]:
    """Return who runs a domain's QEMU: its own DAC label, else what libvirt gives every domain of its type.

    Raises:
        GuestUnavailable: libvirt says it in no way that is known.
    """
    for label in children(domain.root, "seclabel"):
        if label.getAttribute("model") == "dac" and (own := text_at(label, "label")):
            return _ids(own)
    for model in parsed(capabilities).getElementsByTagName("secmodel"):
        if text_at(model, "model") == "dac":
            for label in children(model, "baselabel"):
                if label.getAttribute("type") == domain.root.getAttribute("type"):
                    return _ids(text_at(label))
    return None, None


def _ids(label: str) -> tuple[int, int]:
    """Read ``+64055:+107`` or ``qemu:qemu`` (formatdomain, "Security label")."""
    user, _, group = label.partition(":")
    try:
        uid = int(user.removeprefix("+")) if user.startswith("+") else pwd.getpwnam(user).pw_uid
        gid = int(group.removeprefix("+")) if group.startswith("+") else grp.getgrnam(group).gr_gid
    except (KeyError, ValueError):
        raise GuestUnavailable(
            f"libvirt's label {label!r} names no user and group of this machine",
            hint="See user and group in /etc/libvirt/qemu.conf.",
        ) from None
    return uid, gid
