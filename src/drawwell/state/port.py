"""The interface between a broker and the store of its consumers.

Most calls read or write a single row, so their time does not depend on the number of rows.
"""

from typing import NamedTuple, Protocol

from drawwell.state.overdue import OverdueWrites
from drawwell.state.rows import (
    CertificateRow,
    ConsumerRow,
    InvitationRow,
    KnownConsumer,
    ListedConsumer,
    SeedRow,
)


class Changes(NamedTuple):
    """The consumers that changed, up to change number `last`.

    If `complete` is false, other consumers have changed too.
    """

    last: int
    consumers: tuple[str, ...] = ()
    complete: bool = True


class ConsumerStore(Protocol):
    """Consumers and their credentials.

    Every method blocks until a change is durable, and can be called from any thread. An event
    loop must call it in a thread.

    Raises:
        StateUnavailable: in every method, if the store cannot be read or written now. Then
            nothing has changed.
    """

    overdue: OverdueWrites
    """Changes that are in effect but not durable yet."""

    def require_owner(self) -> None:
        """Check that this broker may invite, revoke and change terms.

        Raises:
            PermissionRefused: only another broker of the fleet may; the hint names it.
        """

    def find(self, name: str) -> KnownConsumer | None:
        """Return a consumer with all its certificates, or None if unknown."""

    def owner_of(self, key: str) -> str | None:
        """Return the consumer for which a key is registered, or None.

        `key` is a certificate's `spki`, or an SSH public key.
        """

    def page(self, pattern: str, after: str, limit: int) -> list[ListedConsumer]:
        """Return at most `limit` consumers after the name `after`, sorted by name.

        `pattern` is a glob for names, or "" for all. Revoked consumers are included.
        """

    def count(self) -> int:
        """Return how many consumers are invited and not revoked."""

    def bare_lines(self) -> dict[str, ConsumerRow]:
        """Return the consumers whose SSH line does not have a key, by name."""

    def put_consumer(self, consumer: ConsumerRow) -> None:
        """Add a consumer, or replace its terms and SSH key."""

    def change_consumer(self, consumer: ConsumerRow, change: str) -> None:
        """Replace a consumer. Outside a fleet, this takes effect immediately.

        Raises:
            StateUnavailable: the `change` is in effect but not durable yet, or has not
                happened. The message states which.
        """

    def invite(self, consumer: ConsumerRow, invitation: InvitationRow) -> None:
        """Write a consumer and its invitation.

        An earlier pending invitation of the same consumer becomes void.
        """

    def invitation(self, identifier: str) -> InvitationRow | None:
        """Return an invitation, or None if unknown."""

    def last_invitation_ends(self, now: float) -> float | None:
        """Return when the last invitation ends, or None if all have ended.

        Used invitations count. Invitations made with a fast clock do not count.
        """

    def expire_invitations(self, now: float) -> None:
        """Mark invitations that have expired or were made with a fast clock."""

    def count_wrong_try(self, invitation: str, limit: int) -> None:
        """Count a wrong secret; after `limit`, void a pending invitation."""

    def redeem(
        self, invitation: str, secret: bytes, certificate: CertificateRow, now: float, host: str = ""
    ) -> bool:
        """Use up an invitation, and store the certificate issued for it.

        The certificate replaces the consumer's earlier ones. If the invitation is no longer
        pending or has another secret, returns False and changes nothing. `host` is the peer's
        address.
        """

    def renew(self, certificate: CertificateRow) -> bool:
        """Store a newer certificate for a registered key.

        Returns False if the key is unknown or revoked.
        """

    def rekey(self, consumer: str, kept: str, new: CertificateRow | None, now: float) -> None:
        """Revoke a consumer's certificates except that of key `kept`; add `new`."""

    def revoke(self, name: str, now: float) -> None:
        """Revoke a consumer, its certificates, SSH key and invitations."""

    def changes(self, after: int) -> Changes:
        """Return the consumers that changed after change number `after`."""

    def claim_seed(self, machine: str, now: float, *, again: bool) -> SeedRow | None:
        """Record that a seed for `machine` is about to be written.

        If there was an earlier seed and `again` is false, returns it and records nothing.
        """

    def settle_seed(self, machine: str, serial: int | None) -> None:
        """Record the serial number of the seed's grant, or None to undo the claim."""
