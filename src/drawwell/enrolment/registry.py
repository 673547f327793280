"""Who may come in by the TLS door: consumers that joined by invitation, or those of the owner's own PKI.

Both answer from memory, on every request, so that a revocation holds from the next draw on.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from drawwell.authorisation import Principal, Role
from drawwell.crypto import pki
from drawwell.crypto.sshkeys import fingerprint
from drawwell.enrolment.bare_lines import note_on_bare_lines
from drawwell.errors import AuthenticationFailed, PermissionRefused
from drawwell.host.clock import clock_is_set
from drawwell.state.rows import ADMITTED, CertificateRow, ConsumerRow
from drawwell.state.store import Store

GRACE_S: Final = 30 * pki.DAY_S
"""For so long a machine that was off may renew the certificate that ran out meanwhile."""


@dataclass(frozen=True, slots=True)
class _Snapshot:
    consumers: Mapping[str, ConsumerRow]
    certificates: Mapping[str, CertificateRow]
    ssh_keys: Mapping[str, str]
    """Fingerprints."""

    @classmethod
    def of(
        cls, consumers: Mapping[str, ConsumerRow], certificates: Mapping[str, CertificateRow]
    ) -> "_Snapshot":
        keys = {name: fingerprint(row.ssh_key) for name, row in consumers.items() if row.ssh_key}
        return cls(consumers, certificates, keys)


_NOBODY: Final = _Snapshot({}, {}, {})


class InvitedRegistry:
    """Consumers that joined by invitation: a certificate counts when its key is registered and not revoked.

    What counts are the dates of the newest certificate issued for the key, so a renewal over an open session
    prolongs that session. One that has run out, or that a clock ahead of time has issued, may be renewed.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reading = threading.Lock()
        self._now_known = _NOBODY
        self._revoked: set[str] = set()
        """Consumers whose revocation may not be written yet."""
        self.refresh()

    def refresh(self) -> None:
        """Read the state again; any thread. When it cannot be read nobody may come in.

        One at a time: what is read last is the latest, so no older state ever hides a revocation.

        Raises:
            StateUnavailable: it could not be read.
        """
        with self._reading:
            known = _NOBODY
            try:
                known = _Snapshot.of(self._store.consumers(), self._store.certificates())
            finally:
                self._now_known = known

    def revoke(self, name: str) -> None:
        """Refuse a consumer from now on, until `revocation_written`."""
        self._revoked.add(name)

    def revocation_written(self, name: str) -> None:
        """Read the state with a revocation in it, and go by that; raises as `refresh`."""
        self.refresh()
        self._revoked.discard(name)

    def is_revoked(self, name: str) -> bool:
        """Is that consumer revoked, whether that is written or not?"""
        row = self._now_known.consumers.get(name)
        return row is None or row.revoked_at is not None or name in self._revoked

    def identify(self, certificate_der: bytes, now: float) -> Principal:
        """Say whose certificate this is; see `drawwell.ports.Registry`."""
        facts = _read(certificate_der)
        row = self._now_known.certificates.get(facts.spki_sha256.hex())
        if row is None or pki.consumer_name(facts) != row.consumer:
            raise AuthenticationFailed("no consumer joined with this certificate")
        try:
            return self.check(Principal(Role.CONSUMER, row.consumer, row.spki), now)
        except PermissionRefused as error:
            raise AuthenticationFailed(str(error), hint=error.hint) from None

    def check(self, principal: Principal, now: float) -> Principal:
        """Judge an identified peer again; see `drawwell.ports.Registry`."""
        row = self._now_known.certificates.get(principal.certificate_id)
        if row is None or row.revoked_at is not None or self.is_revoked(principal.name):
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
        """Return `name` where that consumer comes with the SSH key of the fingerprint `key`.

        Raises:
            PermissionRefused: unknown, revoked, or with another key.
        """
        known = self._now_known
        its_key = known.ssh_keys.get(name)
        if its_key is None or self.is_revoked(name):
            raise PermissionRefused(
                f"no consumer {name!r} comes with an SSH key",
                hint="Have the broker's operator invite it: drawwell consumer invite NAME --ssh-key FILE.",
            )
        if key == its_key or (not key and known.consumers[name].bare_line == ADMITTED):
            return name
        raise PermissionRefused(
            f"consumer {name} does not come with {'this key' if key else 'a line that names no key'}",
            hint="Have the broker's operator replace its line in authorized_keys: 'drawwell consumer invite NAME "
            "--ssh-key FILE' prints it.",
        )

    def note(self) -> str:
        """Say what of an earlier release must be replaced, "" for nothing."""
        return note_on_bare_lines(self._now_known.consumers)


class OwnPkiRegistry:
    """Consumers with certificates of the owner's own PKI; the configuration says which name is whose.

    Args:
        kind: What in a certificate names the consumer: ``uri``, ``dns`` or ``cn``.
        consumers: Each name as it stands in certificates, and the consumer that it is.
    """

    def __init__(self, kind: str, consumers: Mapping[str, str]) -> None:
        self._not_after: dict[str, float] = {}
        self.configure(kind, consumers)

    def identify(self, certificate_der: bytes, now: float) -> Principal:
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
