"""Renewal and change of keys for consumers that have joined."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from drawwell.authorisation import Principal, Role
from drawwell.crypto import pki
from drawwell.enrolment.ca import CertificateAuthority
from drawwell.enrolment.registry import GRACE_S, InvitedRegistry
from drawwell.errors import PermissionRefused, Refused, UsageError
from drawwell.state.port import ConsumerStore
from drawwell.state.rows import CertificateRow
from drawwell.verbs import Handler


class Renewals:
    """Answers the verbs that renew or replace a consumer's certificate.

    Args:
        store: Stores the certificates.
        registry: The registry to update after each change.
        authority: Signs certificates.
        dates: The clock for certificates' dates, in seconds since 1970.
        changed: Called in the event loop with a consumer's name after its key changed.
    """

    def __init__(
        self,
        store: ConsumerStore,
        registry: InvitedRegistry,
        authority: CertificateAuthority,
        dates: Callable[[], float],
        changed: Callable[[str], Awaitable[None]],
    ) -> None:
        self._store = store
        self._registry = registry
        self._authority = authority
        self._dates = dates
        self._changed = changed
        self._under_way: set[str] = set()

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers of the verbs ``renew`` and ``rekey``."""
        return {"renew": self._renew_own, "rekey": self._rekey_own}

    def renew(self, consumer: str, csr: str) -> dict[str, Any]:
        """Certify a consumer's registered key again, even in the grace period.

        Returns `certificate` (PEM, with the chain) and `keys` (the signed list of keys).

        Raises:
            PermissionRefused: the key is revoked, expired too long ago, or not the consumer's.
            UsageError: `csr` is not a valid signing request.
        """
        certificate, row = self._issue(consumer, csr)
        found = self._store.find(consumer)
        known = found.certificates.get(row.spki) if found else None
        if known is None or self._dates() >= known.latest_end + GRACE_S or not self._store.renew(row):
            raise PermissionRefused(
                f"{consumer} may not renew a certificate for this key",
                hint="Ask the broker's operator to invite this machine again.",
            )
        return self._answer(consumer, certificate)

    def rekey(self, consumer: str, present: str, csr: str) -> dict[str, Any]:
        """Register a new key of a consumer, in addition to the `present` key.

        Returns the same as `renew`. A request for the present key itself shows that this key
        is in use, and revokes all other keys.

        Raises:
            PermissionRefused: the key is already registered.
            UsageError: `csr` is not a valid signing request.
        """
        certificate, row = self._issue(consumer, csr)
        new = None if row.spki == present else row
        if new and self._store.owner_of(row.spki) is not None:
            raise PermissionRefused("this key has already joined", hint="Create a new key.")
        self._store.rekey(consumer, present, new, self._dates())
        return self._answer(consumer, certificate)

    def _issue(self, consumer: str, csr: str) -> tuple[bytes, CertificateRow]:
        try:
            certificate = self._authority.issue_client(csr.encode(), consumer, self._dates())
        except ValueError as error:
            raise UsageError(
                str(error), hint="Run 'drawwell renew' in the same version as the broker."
            ) from error
        return certificate, certificate_row(certificate, consumer)

    def _answer(self, consumer: str, certificate: bytes) -> dict[str, Any]:
        self._registry.refresh(consumer)
        return {"certificate": certificate.decode(), "keys": self._authority.public.key_list.decode()}

    async def _renew_own(self, principal: Principal, csr: str) -> dict[str, Any]:
        return await self._alone(principal, self.renew, principal.name, csr)

    async def _rekey_own(self, principal: Principal, csr: str) -> dict[str, Any]:
        result = await self._alone(principal, self.rekey, principal.name, principal.certificate_id, csr)
        await self._changed(principal.name)
        return result

    async def _alone(
        self, principal: Principal, method: Callable[..., dict[str, Any]], *arguments: str
    ) -> dict[str, Any]:
        """Run a method in a thread, one at a time per consumer."""
        name = principal.name
        if principal.role is Role.OWNER or not principal.certificate_id:
            raise UsageError("only a consumer that has a certificate can renew one")
        if name in self._under_way:
            raise Refused(
                f"{name} is already renewing", retry_after_s=1.0, estimate=True, hint="Wait for the answer."
            )
        self._under_way.add(name)
        try:
            return await asyncio.to_thread(method, *arguments)
        finally:
            self._under_way.discard(name)


def certificate_row(certificate: bytes, consumer: str) -> CertificateRow:
    """Return the store's row for a certificate (PEM); raises ValueError."""
    facts = pki.read_certificate(certificate)
    return CertificateRow(facts.spki_sha256.hex(), consumer, f"{facts.serial:x}", facts.not_after)
