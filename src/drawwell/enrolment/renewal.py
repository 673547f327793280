"""Certificates of consumers that joined: renewed, or moved to another key."""

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
    """Answers the verbs by which a consumer keeps its certificate.

    Args:
        store: Holds the certificates.
        registry: Brought up to date after each change.
        authority: Signs certificates.
        dates: The time that certificates are issued and judged by, in seconds since 1970.
        changed: Called in the event loop with the name of a consumer that has another key.
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
        """Return the handlers of the verbs."""
        return {"renew": self._renew_own, "rekey": self._rekey_own}

    def renew(self, consumer: str, csr: str) -> dict[str, Any]:
        """Certify a consumer's registered key again, also within the grace period.

        Returns `certificate`, PEM with its chain, and `keys`, the signed list of keys.

        Raises:
            PermissionRefused: revoked, run out too long ago, or not a key of this consumer.
            UsageError: not a signing request.
        """
        certificate, row = self._issue(consumer, csr)
        found = self._store.find(consumer)
        known = found.certificates.get(row.spki) if found else None
        if known is None or self._dates() >= known.latest_end + GRACE_S or not self._store.renew(row):
            raise PermissionRefused(
                f"{consumer} may not renew with this key",
                hint="Have the broker's operator invite this machine again.",
            )
        return self._answer(consumer, certificate)

    def rekey(self, consumer: str, present: str, csr: str) -> dict[str, Any]:
        """Register another key of a consumer next to the `present` one.

        Answers as `renew`. A request for the present key itself revokes all others: it is in
        use.

        Raises:
            PermissionRefused: the key is registered already.
            UsageError: not a signing request.
        """
        certificate, row = self._issue(consumer, csr)
        new = None if row.spki == present else row
        if new and self._store.owner_of(row.spki) is not None:
            raise PermissionRefused("this key has joined before", hint="Make another key.")
        self._store.rekey(consumer, present, new, self._dates())
        return self._answer(consumer, certificate)

    def _issue(self, consumer: str, csr: str) -> tuple[bytes, CertificateRow]:
        try:
            certificate = self._authority.issue_client(csr.encode(), consumer, self._dates())
        except ValueError as error:
            raise UsageError(
                str(error), hint="Run 'drawwell renew' of the same version as the broker."
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
        """Run a method in a thread, one at a time for each consumer."""
        name = principal.name
        if principal.role is Role.OWNER or not principal.certificate_id:
            raise UsageError("only a consumer with a certificate renews it")
        if name in self._under_way:
            raise Refused(
                f"{name} is being renewed", retry_after_s=1.0, estimate=True, hint="Wait for the answer."
            )
        self._under_way.add(name)
        try:
            return await asyncio.to_thread(method, *arguments)
        finally:
            self._under_way.discard(name)


def certificate_row(certificate: bytes, consumer: str) -> CertificateRow:
    """Return what the store keeps of a certificate (PEM); raises ValueError."""
    facts = pki.read_certificate(certificate)
    return CertificateRow(facts.spki_sha256.hex(), consumer, f"{facts.serial:x}", facts.not_after)
