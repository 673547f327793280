"""Who may come in by the TLS door: consumers that joined by invitation, or those of the owner's own PKI.

Who comes is looked up once; both answer from memory, on every request, so that a revocation holds from the next
draw on.
"""

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from drawwell.authorisation import Principal, Role
from drawwell.crypto import pki
from drawwell.crypto.sshkeys import fingerprint
from drawwell.enrolment.bare_lines import note_on_bare_lines
from drawwell.errors import AuthenticationFailed, PermissionRefused
from drawwell.host.clock import clock_is_set
from drawwell.state.port import ConsumerStore
from drawwell.state.rows import ADMITTED, KnownConsumer

GRACE_S: Final = 30 * pki.DAY_S
"""For so long a machine that was off may renew the certificate that ran out meanwhile."""


class InvitedRegistry:
    """Consumers that joined by invitation: a certificate counts when its key is registered and not revoked.

    What counts are the dates of the newest certificate issued for the key, so a renewal over an open session
    prolongs that session. One that has run out, or that a clock ahead of time has issued, may be renewed.

    A consumer is looked up in the store when it first comes, and kept: a store that cannot be read forgets
    none of those. `refresh` follows a change.
    """

    def __init__(self, store: ConsumerStore) -> None:
        self._store = store
        self._reading = threading.Lock()
        self._known: dict[str, KnownConsumer] = {}
        self._stale: set[str] = set()
        """Consumers that changed and could not be read since."""
        self._revoked: set[str] = set()
        """Consumers whose revocation may not be written yet."""
        self._bare_lines = store.bare_lines()

    def refresh(self, name: str) -> None:
        """Follow a change of a consumer; any thread. If it cannot be read, it stays as it was until `retry`.

        Raises:
            StateUnavailable: it could not be read.
        """
        self._stale.add(name)
        self._read(name, keep=name in self._known)

    def retry(self) -> None:
        """Follow the changes that could not be read yet; raises as `refresh`."""
        for name in tuple(self._stale):
            self.refresh(name)

    async def find(self, name: str) -> KnownConsumer | None:
        """Return a consumer from memory, else from the store; None if it was never invited.

        Raises:
            StateUnavailable: the store cannot be read.
        """
        known = None if name in self._stale else self._known.get(name)
        return known or await asyncio.to_thread(self._read, name, keep=True)

    def known(self, name: str) -> KnownConsumer | None:
        """Return a consumer that came before, as it is now, from memory."""
        return self._known.get(name)

    def _read(self, name: str, *, keep: bool) -> KnownConsumer | None:
        """Read a consumer; one read at a time, so that no older state ever hides a revocation."""
        with self._reading:
            found = self._store.find(name)
            self._stale.discard(name)
            if found and keep:
                self._known[name] = found
            if name in self._bare_lines or (found and found.row.bare_line):
                others = {other: row for other, row in self._bare_lines.items() if other != name}
                verdict = {name: found.row} if found and found.row.bare_line else {}
                self._bare_lines = others | verdict  # replaced, as the event loop reads it
            return found

    def revoke(self, name: str) -> None:
        """Refuse a consumer from now on, until `revocation_written`."""
        self._revoked.add(name)

    def revocation_written(self, name: str) -> None:
        """Read the consumer with its revocation, and go by that; raises as `refresh`."""
        self.refresh(name)
        self._revoked.discard(name)

    def refuses(self, name: str) -> bool:
        """Whether the consumer is revoked, which may not be written yet."""
        return name in self._revoked

    async def identify(self, certificate_der: bytes, now: float) -> Principal:
        """Say whose certificate this is; see `drawwell.ports.Registry`."""
        facts = _read(certificate_der)
        name, key = pki.consumer_name(facts), facts.spki_sha256.hex()
        known = await self.find(name) if name else None
        if known is None or key not in known.certificates:
            raise AuthenticationFailed("no consumer joined with this certificate")
        try:
            return self.check(Principal(Role.CONSUMER, known.row.name, key), now)
        except PermissionRefused as error:
            raise AuthenticationFailed(str(error), hint=error.hint) from None

    def check(self, principal: Principal, now: float) -> Principal:
        """Judge an identified peer again; see `drawwell.ports.Registry`."""
        known = self._known.get(principal.name)
        row = known.certificates.get(principal.certificate_id) if known else None
        if row is None or row.revoked_at is not None or principal.name in self._revoked:
            raise PermissionRefused(
                f"consumer {principal.name} is revoked",
                hint="Have the broker's operator invite this machine anew.",
            )
        if now >= row.latest_end + GRACE_S:
            raise PermissionRefused(
                f"the certificate of {principal.name} ran out too long ago",
                hint="Compare the clocks of both machines; if they are right, have the broker's operator invite "
                "this machine again.",
            )
        issued_at = row.not_after - pki.CLIENT_LIFETIME_S
        begun = now >= issued_at - pki.BACKDATE_S or not clock_is_set()
        role = Role.CONSUMER if begun and now < row.not_after else Role.EXPIRED
        return principal if principal.role is role else replace(principal, role=role)

    def check_key(self, name: str, key: str) -> str:
        """Return `name` where that consumer, found before, comes with the SSH key of the fingerprint `key`.

        Raises:
            PermissionRefused: unknown, revoked, or with another key.
        """
        known = self._known.get(name)
        if known is None or not known.row.ssh_key or name in self._revoked:
            raise PermissionRefused(
                f"no consumer {name!r} comes with an SSH key",
                hint="Have the broker's operator invite it: drawwell consumer invite NAME --ssh-key FILE.",
            )
        if key == fingerprint(known.row.ssh_key) or (not key and known.row.bare_line == ADMITTED):
            return name
        raise PermissionRefused(
            f"consumer {name} does not come with {'this key' if key else 'a line that names no key'}",
            hint="Have the broker's operator replace its line in authorized_keys: 'drawwell consumer invite NAME "
            "--ssh-key FILE' prints it.",
        )

    def note(self) -> str:
        """Say what of an earlier release must be replaced, "" for nothing."""
        return note_on_bare_lines(self._bare_lines)


class OwnPkiRegistry:
    """Consumers with certificates of the owner's own PKI; the configuration says which name is whose.

    Args:
        kind: What in a certificate names the consumer: ``uri``, ``dns`` or ``cn``.
        consumers: Each name as it stands in certificates, and the consumer that it is.
    """

    def __init__(self, kind: str, consumers: Mapping[str, str]) -> None:
        self._not_after: dict[str, float] = {}
        self.configure(kind, consumers)

    async def identify(self, certificate_der: bytes, now: float) -> Principal:
        """Say whose certificate this is; one that ran out is nobody's."""
        facts = _read(certificate_der)
        if now >= facts.not_after or (now < facts.not_before and clock_is_set()):
            raise AuthenticationFailed(
                f"the certificate is not valid now: it is from {_date(facts.not_before)} to "
                f"{_date(facts.not_after)}, and this machine's clock shows {_date(now)}"
            )
        named = {self._consumers[name] for name in _names(facts, self._kind) if name in self._consumers}
        if len(named) != 1:
            raise AuthenticationFailed(f"the certificate's {self._kind} names no one consumer of this broker")
        certificate_id = facts.spki_sha256.hex()
        self._not_after = {known: end for known, end in self._not_after.items() if now < end}
        self._not_after[certificate_id] = facts.not_after
        return Principal(Role.CONSUMER, named.pop(), certificate_id)

    def check(self, principal: Principal, now: float) -> Principal:
        """Judge an identified peer again: is it still in the configuration and its certificate not run out?"""
        if principal.name not in self._admitted:
            raise PermissionRefused(f"consumer {principal.name} is not configured any more")
        if now >= self._not_after.get(principal.certificate_id, 0.0):
            raise PermissionRefused(
                f"the certificate of {principal.name} ran out", hint="Connect again with a new one."
            )
        return principal

    def configure(self, kind: str, consumers: Mapping[str, str]) -> None:
        """Take over a configuration that was read again."""
        self._kind, self._consumers = kind, dict(consumers)
        self._admitted = frozenset(consumers.values())


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _read(certificate_der: bytes) -> pki.CertificateFacts:
    try:
        return pki.read_certificate(certificate_der)
    except ValueError as error:
        raise AuthenticationFailed(str(error)) from error


def _names(facts: pki.CertificateFacts, kind: str) -> tuple[str, ...]:
    """Return what may name the consumer; of ``drawwell://consumer/NAME`` also NAME alone."""
    if kind == "uri":
        return (*facts.uris, *(uri.removeprefix(pki.CONSUMER_URI) for uri in facts.uris))
    return facts.dns_names if kind == "dns" else (facts.common_name,)
