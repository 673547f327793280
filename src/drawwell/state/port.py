"""The seam between a broker and the engine that stores its consumers.

One row is read or written at a time, so no call grows with the number of consumers.
"""

from collections.abc import Mapping
from typing import Protocol

from drawwell.entropy.quota import QuotaState
from drawwell.state.overdue import OverdueWrites
from drawwell.state.rows import (
    CertificateRow,
    ConsumerRow,
    InvitationRow,
    KnownConsumer,
    ListedConsumer,
    SeedRow,
)


class ConsumerStore(Protocol):
    """Consumers, their credentials and their reservations.

    Every method waits for the engine and may be called from any thread: an event loop calls it
    in one. It returns when a change is durable.

    Raises:
        StateUnavailable: from every method: it cannot be read or written now, and nothing has
            changed.
    """

    overdue: OverdueWrites
    """Changes that are in effect and not durable yet."""

    def find(self, name: str) -> KnownConsumer | None:
        """Return a consumer with all its certificates, None if unknown."""

    def owner_of(self, key: str) -> str | None:
        """Return the consumer that a key is registered for.

        `key` is a certificate's `spki`, or an SSH public key.
        """

    def page(self, pattern: str, after: str, limit: int) -> list[ListedConsumer]:
        """Return at most `limit` consumers in the order of their names.

        They follow the name `after`. `pattern` is a glob of names, "" for all. Revoked
        consumers are included.
        """

    def count(self) -> int:
        """Return how many consumers are invited and not revoked."""

    def bare_lines(self) -> dict[str, ConsumerRow]:
        """Return the consumers whose SSH line names no key, by name."""

    def put_consumer(self, consumer: ConsumerRow) -> None:
        """Add a consumer or replace its terms and its SSH key."""

    def change_consumer(self, consumer: ConsumerRow, change: str) -> None:
        """Replace a consumer at once, and write it when that is possible.

        Raises:
            StateUnavailable: the `change` holds, but is not durable yet.
        """

    def invite(self, consumer: ConsumerRow, invitation: InvitationRow) -> None:
        """Write a consumer and its invitation.

        An older pending one of the same consumer becomes void.
        """

    def invitation(self, identifier: str) -> InvitationRow | None:
        """Return an invitation."""

    def last_invitation_ends(self, now: float) -> float | None:
        """Return when the last invitation ends, None if all have ended.

        Used ones count, those that a clock ahead of time made do not.
        """

    def expire_invitations(self, now: float) -> None:
        """Mark what has expired, or was made by a clock ahead of time."""

    def count_wrong_try(self, invitation: str, limit: int) -> None:
        """Count a wrong secret; the `limit`-th makes a pending invitation void."""

    def redeem(self, invitation: str, certificate: CertificateRow, now: float, host: str = "") -> bool:
        """Use up an invitation for a certificate.

        It replaces the consumer's earlier ones. Returns False, with nothing changed, if the
        invitation is no longer pending.
        """

    def renew(self, certificate: CertificateRow) -> bool:
        """Write a newer certificate for a key.

        Returns False if the key is unknown or revoked.
        """

    def rekey(self, consumer: str, kept: str, new: CertificateRow | None, now: float) -> None:
        """Revoke a consumer's certificates but that of `kept`, and add one."""

    def revoke(self, name: str, now: float) -> None:
        """Revoke a consumer, its certificates, SSH key and invitations."""

    def lease(self, wanted: Mapping[str, QuotaState]) -> Mapping[str, QuotaState]:
        """Reserve for many consumers in one durable write.

        Returns what each was granted.
        """

    def leased(self, consumer: str) -> QuotaState | None:
        """Return a consumer's last reservation, None if it has none."""

    def claim_seed(self, machine: str, now: float, *, again: bool) -> SeedRow | None:
        """Note that a seed for `machine` is about to be written.

        An earlier one is returned and nothing is noted, unless it is to be written `again`.
        """

    def settle_seed(self, machine: str, serial: int | None) -> None:
        """Note the serial number of the grant, None to withdraw the claim."""
