"""Authentication of consumers: invited, or from the owner's PKI.

A peer is looked up once. After that, both registries check every request from memory, so a
revocation applies from the next draw.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from drawwell.authorisation import Principal, Role
from drawwell.crypto import pki
from drawwell.crypto.sshkeys import fingerprint
from drawwell.enrolment.bare_lines import note_on_bare_lines
from drawwell.enrolment.patterns import consumer_named, first_match
from drawwell.errors import AuthenticationFailed, PermissionRefused
from drawwell.host.clock import clock_is_set
from drawwell.state.port import ConsumerStore
from drawwell.state.rows import ADMITTED, KnownConsumer

GRACE_S: Final = 30 * pki.DAY_S
"""How long an expired certificate can still be renewed, for machines that were off."""
_REMEMBERED: Final = 4096
"""The number of identities with a cached match, because every request needs the match."""


class InvitedRegistry:
    """Invited consumers. A consumer's key must be registered and not revoked.

    The dates of the key's newest certificate apply, so a renewal extends an open session.
    A certificate that has expired, or was issued with a fast clock, can be renewed.

    A consumer is read from the store when it first connects, and then kept in memory, even if
    the store fails. `refresh` applies a change.
    """

    def __init__(self, store: ConsumerStore, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._reading = threading.Lock()
        self._known: dict[str, KnownConsumer] = {}
        self._stale: set[str] = set()
        """Changed consumers that have not been read again yet."""
        self._revoked: set[str] = set()
        """Revoked consumers, until the revocation is written."""
        self._bare_lines = store.bare_lines()

    def refresh(self, name: str) -> None:
        """Read a changed consumer again; thread-safe; see `retry`.

        Raises:
            StateUnavailable: the store cannot be read.
        """
        self._stale.add(name)
        self._read(name, changed=True)

    def retry(self) -> None:
        """Read consumers that could not be read; same errors as `refresh`."""
        for name in tuple(self._stale):
            self.refresh(name)

    async def find(self, name: str) -> KnownConsumer | None:
        """Return a consumer from memory or the store, or None if never invited.

        Raises:
            StateUnavailable: the store cannot be read.
        """
        known = None if name in self._stale else self._known.get(name)
        return known or await asyncio.to_thread(self._read, name)

    def known(self, name: str) -> KnownConsumer | None:
        """Return a consumer from memory, or None if it is not in memory."""
        return self._known.get(name)

    def names(self) -> tuple[str, ...]:
        """Return the names of the consumers in memory."""
        return tuple(self._known)

    def _read(self, name: str, *, changed: bool = False) -> KnownConsumer | None:
        """Read a consumer, with a lock so that no stale read hides a revocation.

        A `changed` consumer stays in memory only if it was there.
        """
        with self._reading:
            if changed:  # a read that began before the change may have kept the old row just now
                self._stale.add(name)
            found = self._store.find(name)
            self._stale.discard(name)
            if found and (not changed or name in self._known):
                self._known[name] = found
            if name in self._bare_lines or (found and found.row.bare_line):
                others = {other: row for other, row in self._bare_lines.items() if other != name}
                verdict = {name: found.row} if found and found.row.bare_line else {}
                self._bare_lines = others | verdict  # replaced, not modified, because the loop reads it
            return found

    def revoke(self, name: str) -> None:
        """Refuse a consumer from now on, even before the revocation is written."""
        self._revoked.add(name)

    def revocation_written(self, name: str) -> None:
        """Read a consumer again after revocation; same errors as `refresh`."""
        self.refresh(name)
        self._revoked.discard(name)

    def refuses(self, name: str) -> bool:
        """Return whether a consumer has a revocation that is not written yet."""
        return name in self._revoked

    async def identify(self, certificate_der: bytes) -> Principal:
        """Return the certificate's consumer; see `drawwell.ports.Registry`."""
        facts = _read(certificate_der)
        name, key = pki.consumer_name(facts), facts.spki_sha256.hex()
        known = await self.find(name) if name else None
        if known is None or key not in known.certificates:
            raise AuthenticationFailed("this certificate does not belong to a consumer of this broker")
        try:
            return self.check(Principal(Role.CONSUMER, known.row.name, key))
        except PermissionRefused as error:
            raise AuthenticationFailed(str(error), hint=error.hint) from None

    def check(self, principal: Principal) -> Principal:
        """Check an identified peer again; see `drawwell.ports.Registry`."""
        known = self._known.get(principal.name)
        row = known.certificates.get(principal.certificate_id) if known else None
        if row is None or row.revoked_at is not None or principal.name in self._revoked:
            raise PermissionRefused(
                f"consumer {principal.name} is revoked",
                hint="Ask the broker's operator to invite this machine again.",
            )
        now = self._clock()
        if now >= row.latest_end + GRACE_S:
            raise PermissionRefused(
                f"the certificate of {principal.name} expired too long ago",
                hint="Compare the clocks of both machines. If they are right, ask the broker's operator to invite "
                "this machine again.",
            )
        issued_at = row.not_after - pki.CLIENT_LIFETIME_S
        begun = now >= issued_at - pki.BACKDATE_S or not clock_is_set()
        role = Role.CONSUMER if begun and now < row.not_after else Role.EXPIRED
        return principal if principal.role is role else replace(principal, role=role)

    def check_key(self, name: str, key: str) -> str:
        """Return `name` if `key` is the fingerprint of the consumer's SSH key.

        Raises:
            PermissionRefused: an unknown or revoked consumer, or another key.
        """
        known = self._known.get(name)
        if known is None or not known.row.ssh_key or name in self._revoked:
            raise PermissionRefused(
                f"{name!r} is not a consumer with an SSH key",
                hint="Ask the broker's operator to run 'drawwell consumer invite NAME --ssh-key FILE'.",
            )
        if key == fingerprint(known.row.ssh_key) or (not key and known.row.bare_line == ADMITTED):
            return name
        raise PermissionRefused(
            f"consumer {name} may not use {'this key' if key else 'a line in authorized_keys without a fingerprint'}",
            hint="Ask the broker's operator to replace the line in authorized_keys by the output of 'drawwell "
            "consumer invite NAME --ssh-key FILE'.",
        )

    def note(self) -> str:
        """Describe SSH lines of old releases that must be replaced, or return ""."""
        return note_on_bare_lines(self._bare_lines)


class OwnPkiRegistry:
    """Consumers with certificates from the owner's own PKI.

    Args:
        kind: The part of a certificate that contains the name: ``uri``, ``dns`` or ``cn``.
        consumers: The consumers by their names in certificates.
        patterns: Patterns that admit identities not in `consumers`.
        clock: Returns seconds since 1970.
    """

    def __init__(
        self,
        kind: str,
        consumers: Mapping[str, str],
        patterns: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self.configure(kind, consumers, patterns)

    async def identify(self, certificate_der: bytes) -> Principal:
        """Return the certificate's consumer; refuse an expired certificate."""
        facts, now = _read(certificate_der), self._clock()
        if now >= facts.not_after or (now < facts.not_before and clock_is_set()):
            raise AuthenticationFailed(
                f"the certificate is valid from {_date(facts.not_before)} to {_date(facts.not_after)}, "
                f"but this machine's clock shows {_date(now)}"
            )
        names = _names(facts, self._kind)
        named = {self._consumers[name] for name in names if name in self._consumers}
        if not named:
            identities = {consumer_named(self._kind, name) for name in names}
            named = {identity for identity in identities if self._matches(identity)}
        if len(named) != 1:
            raise AuthenticationFailed(
                f"the certificate's {self._kind} names {'no' if not named else 'more than one'} consumer"
                " of this broker"
            )
        return Principal(Role.CONSUMER, named.pop(), facts.spki_sha256.hex(), facts.not_after)

    def check(self, principal: Principal) -> Principal:
        """Check an identified peer's configuration and certificate again."""
        if principal.name not in self._admitted and not self._matches(principal.name):
            raise PermissionRefused(f"consumer {principal.name} is no longer configured")
        if self._clock() >= principal.not_after:
            raise PermissionRefused(
                f"the certificate of {principal.name} has expired", hint="Connect again with a new one."
            )
        return principal

    def configure(self, kind: str, consumers: Mapping[str, str], patterns: Sequence[str] = ()) -> None:
        """Apply a reloaded configuration."""

        @lru_cache(_REMEMBERED)
        def matches(name: str) -> bool:
            return first_match(kind, patterns, name) is not None

        self._kind, self._consumers, self._matches = kind, dict(consumers), matches
        self._admitted = frozenset(consumers.values())


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _read(certificate_der: bytes) -> pki.CertificateFacts:
    try:
        return pki.read_certificate(certificate_der)
    except ValueError as error:
        raise AuthenticationFailed(str(error)) from error


def _names(facts: pki.CertificateFacts, kind: str) -> tuple[str, ...]:
    """Return a certificate's names; ``drawwell://consumer/NAME`` adds NAME."""
    if kind == "uri":
        return (*facts.uris, *(uri.removeprefix(pki.CONSUMER_URI) for uri in facts.uris))
    return facts.dns_names if kind == "dns" else (facts.common_name,)
