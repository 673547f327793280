"""Findings about libvirt domains: virtio-rng, backend, owner, clones."""

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
"""QEMU's default if libvirt sets no limit."""
_LIBVIRT_PERIOD_MS: Final = 1000
"""libvirt's default period for a limit (formatdomain, "rate")."""


def facts(domain: Domain, *, running: bool, shared: frozenset[str]) -> GuestFacts:
    """Return a domain's facts; `shared`: sockets that several domains use."""
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
    what = "the host can reseed copies of the machine"
    if domain.agent:
        return GuestFinding(what, GuestVerdict.HOLDS, f"QEMU guest agent, {domain.agent}")
    return GuestFinding(
        what, GuestVerdict.FAILS, "the domain has no channel for the QEMU guest agent",
        hint="Add <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>.",
    )  # fmt: skip


def _copies(domain: Domain, shared: frozenset[str]) -> Iterator[GuestFinding]:
    for place in sorted(_sockets(domain) & shared):
        yield GuestFinding(
            "the socket is not shared", GuestVerdict.FAILS, f"another domain uses {place}: the two are one consumer",
            hint="Add each domain as its own guest: 'drawwell guest apply libvirt NAME'.",
        )  # fmt: skip


def shared_sockets(domains: Iterable[Domain]) -> frozenset[str]:
    """Return the sockets that several domains use, usually after cloning."""
    count = Counter(place for domain in domains for place in _sockets(domain))
    return frozenset(place for place, times in count.items() if times > 1)


def _sockets(domain: Domain) -> set[str]:
    fed = (
        each for each in domain.devices("rng", "redirdev") if attribute(each, "backend", "model") != "random"
    )
    return {place for each in fed if (place := source_path(each))}


def owner_of(domain: Domain, capabilities: str) -> tuple[int | None, int | None]:
    """Return the uid and gid of a domain's QEMU: its DAC label or the default.

    Raises:
        GuestUnavailable: libvirt's label cannot be parsed.
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
    """Parse ``+64055:+107`` or ``qemu:qemu`` (formatdomain, "Security label")."""
    user, _, group = label.partition(":")
    try:
        uid = int(user.removeprefix("+")) if user.startswith("+") else pwd.getpwnam(user).pw_uid
        gid = int(group.removeprefix("+")) if group.startswith("+") else grp.getgrnam(group).gr_gid
    except (KeyError, ValueError):
        raise GuestUnavailable(
            f"libvirt's label {label!r} is not a user and group on this machine",
            hint="Check 'user' and 'group' in /etc/libvirt/qemu.conf.",
        ) from None
    return uid, gid
