"""The operator's actions on consumers, and the enrolment of machines.

Methods write to disk and can block, so an event loop must call them in a thread.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from drawwell.authorisation import Principal
from drawwell.crypto import pki, tokens
from drawwell.crypto.sshkeys import fingerprint
from drawwell.enrolment.broker_details import BrokerAdmission, BrokerDetails
from drawwell.enrolment.ca import CertificateAuthority
from drawwell.enrolment.document import consumer_document, consumer_page
from drawwell.enrolment.refusals import UNKNOWN, refusal
from drawwell.enrolment.registry import InvitedRegistry
from drawwell.enrolment.renewal import Renewals, certificate_row
from drawwell.enrolment.terms import BOTH, changed, check_name, public_key, read
from drawwell.errors import DrawwellError, StateUnavailable, UsageError
from drawwell.state.port import Changes, ConsumerStore
from drawwell.state.rows import PENDING, ConsumerRow, InvitationRow
from drawwell.units import parse_duration
from drawwell.verbs import Handler
from drawwell.wire.brokers import NONE_KNOWN, KnownBrokers
from drawwell.wire.enrolment import REPLY_VERSION, FleetReply, JoinRefusal, JoinReply, JoinRequest

INVITATION_TTL_S: Final = 900.0
LONGEST_TTL_S: Final = 7 * pki.DAY_S
WRONG_TRIES: Final = 5
"""The number of wrong secrets that voids an invitation."""
_NO_SECRET: Final = bytes(32)


class ConsumerAdmin:
    """Invites, enrols, renews and revokes consumers.

    Args:
        store: Stores the consumers.
        registry: The registry to update after each change.
        authority: Signs certificates.
        site: The broker's details for joining machines.
        clock: Returns seconds since 1970, and never steps back.
        guests: Returns the names of this machine's guests.
        dates: The clock for certificates' dates; by default `clock`.
        fresh: Returns secret bytes from the operating system.
        known: Returns the brokers that joining machines can draw from.
        fleet: Admits brokers to the fleet; None if brokers cannot join.
    """

    def __init__(
        self,
        store: ConsumerStore,
        registry: InvitedRegistry,
        authority: CertificateAuthority,
        site: BrokerDetails,
        *,
        clock: Callable[[], float],
        guests: Callable[[], Collection[str]] = tuple,
        dates: Callable[[], float] | None = None,
        fresh: Callable[[int], bytes] = os.urandom,
        known: Callable[[], KnownBrokers] = lambda: NONE_KNOWN,
        fleet: BrokerAdmission | None = None,
    ) -> None:
        self.site = site
        self.listeners: list[Callable[[str], Awaitable[None] | None]] = []
        """Called in the event loop, and awaited, with the name of each changed consumer."""
        self._store = store
        self._registry = registry
        self._authority = authority
        self._clock = clock
        self._guests = guests
        self._dates = dates or clock
        self._fresh = fresh
        self._known_brokers = known
        self._fleet = fleet
        self._changing = asyncio.Lock()
        self.renewals = Renewals(store, registry, authority, self._dates, self._tell)

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers of the verbs about consumers."""
        return {
            "consumer.invite": self._notifying(self.invite),
            "consumer.list": self._list,
            "consumer.revoke": self._notifying(self.revoke),
            "consumer.quota": self._notifying(self.set_quota),
            **self.renewals.handlers(),
        }

    def configure(self, names: Collection[str]) -> None:
        """Set the names in the configuration, which invitations may not use."""
        self.site = replace(self.site, configured=names)

    # ---- for the operator ------------------------------------------------------------------

    def invite(
        self,
        name: str,
        *,
        rate: str | None = None,
        quota: str | None = None,
        draw_class: str | None = None,
        stream: str | None = None,
        ssh_key: str | None = None,
        ttl: str | None = None,
        address: str | None = None,
    ) -> dict[str, Any]:
        """Create an invitation, and the consumer unless it exists.

        None keeps a value; a new consumer has no limits. Allowances are like ``4KiB/s``, or
        ``none``. `draw_class` is full, drbg or both. `stream` is yes or no. `address` is the
        enrolment door's address for joining machines. Returns `token`, `expires` (seconds
        since 1970), `enrol_address` and `addresses`; with `ssh_key`, the key and its
        `fingerprint`.

        Raises:
            UsageError: an argument is invalid, or the name is in the configuration.
        """
        now = self._clock()
        self._check_name(name)
        known = self._store.find(name)
        known_row = known.row if known else ConsumerRow(name, None, None, BOTH, now)
        terms = changed(known_row, rate=rate, quota=quota, draw_class=draw_class, stream=stream)
        consumer = replace(terms, revoked_at=None)
        if ssh_key is not None:
            return self._admit_key(consumer, ssh_key)
        if not self.site.enrol_address:
            raise UsageError(
                "machines cannot join this broker: it has no TLS door with the built-in CA",
                hint='Set listen = "*:55000" in [tls], or invite with --ssh-key.',
            )
        self._store.overdue.retry()
        host, port = tokens.parse_address(address or self.site.enrol_address)
        ttl_s = read(parse_duration, ttl) if ttl else INVITATION_TTL_S
        if ttl_s > LONGEST_TTL_S:
            raise UsageError(
                "an invitation can last at most 7 days", hint="Invite when the machine is about to join."
            )
        secret = self._fresh(tokens.SECRET_BYTES)
        invitation = tokens.invitation_name(self._fresh(tokens.INVITATION_BYTES))
        token = tokens.Token(host, port, self._authority.spki_sha256, invitation, secret)
        row = InvitationRow(invitation, name, tokens.secret_hash(secret), now, now + ttl_s)
        self._store.invite(consumer, row)
        self._registry.refresh(name)
        return {
            "name": name,
            "token": token.reveal(),
            "expires": row.expires,
            "enrol_address": token.address,
            "addresses": list(self.site.addresses),
        }

    def list_consumers(self, pattern: str | None = None, after: str | None = None) -> dict[str, Any]:
        """Return a page of the invited consumers; see `consumer_page`."""
        return consumer_page(self._store, self._clock(), pattern, after)

    def revoke(self, name: str) -> dict[str, Any]:
        """Revoke a consumer immediately, even if the store cannot be written yet.

        Raises:
            UsageError: no consumer with that name was invited.
            StateUnavailable: the consumer is revoked, but the store is not written yet.
        """
        self._known(name)
        now = self._clock()

        def write() -> None:
            self._store.revoke(name, now)
            self._registry.revocation_written(name)

        self._registry.revoke(name)
        self._store.overdue.write(f"consumer {name} is revoked", write)
        return {"name": name, "revoked": True}

    def set_quota(
        self,
        name: str,
        *,
        rate: str | None = None,
        quota: str | None = None,
        draw_class: str | None = None,
        stream: str | None = None,
    ) -> dict[str, Any]:
        """Change a consumer's terms; return the consumer as in `list_consumers`.

        None keeps a value; ``none`` removes a limit.

        Raises:
            UsageError: no consumer with that name was invited, or an argument is invalid.
            StateUnavailable: the change is in effect but not written yet.
        """
        known = self._known(name)
        consumer = changed(known, rate=rate, quota=quota, draw_class=draw_class, stream=stream)
        self._change(consumer, f"consumer {name} has new limits")
        self._store.expire_invitations(self._clock())
        (listed,) = self._store.page(name, "", 1)
        return consumer_document(listed)

    def entitled(self, name: str) -> ConsumerRow | None:
        """Return a consumer's terms, or None if it may not draw.

        Raises:
            StateUnavailable: the store cannot be read.
        """
        known = None if self._registry.refuses(name) else self._store.find(name)
        return known.row if known and known.row.revoked_at is None else None

    async def follow(self, changes: Changes) -> None:
        """Apply changes made by other brokers of the fleet.

        Raises:
            StateUnavailable: the store cannot be read; call this method again.
        """
        for name in changes.consumers if changes.complete else self._registry.names():
            await asyncio.to_thread(self._registry.refresh, name)
            await self._tell(name)

    # ---- for the joining machine -----------------------------------------------------------

    def open_until(self) -> float | None:
        """Return when the last valid invitation ends, or None if there is none."""
        now = self._clock()
        self._store.expire_invitations(now)
        ends = [self._store.last_invitation_ends(now) or 0.0]
        ends += [self._fleet.invited_until] if self._fleet else []
        return max((end for end in ends if end > now), default=None)

    def redeem(self, request: JoinRequest, host: str = "") -> JoinReply | FleetReply | JoinRefusal:
        """Exchange an invitation for a certificate, once.

        The invitation counts as used on disk before this method returns. `host` is the peer's
        address. Without the secret, a peer does not learn whether the invitation exists.

        Raises:
            StateUnavailable: the use cannot be written; no certificate was issued.
        """
        if request.receipt_key:
            return self._fleet.admit(request) if self._fleet else UNKNOWN
        now = self._clock()
        self._store.overdue.retry()
        self._store.expire_invitations(now)
        invitation = self._invitation(request)
        if isinstance(invitation, JoinRefusal):
            return invitation
        try:
            certificate = self._authority.issue_client(
                request.csr.encode(), invitation.consumer, self._dates()
            )
        except ValueError as error:
            return JoinRefusal("refused", str(error))
        row = certificate_row(certificate, invitation.consumer)
        if self._store.owner_of(row.spki) is not None:
            return JoinRefusal("refused", "this key has already joined")
        if not self._store.redeem(invitation.id, request.secret, row, now, host):
            return refusal(self._store.invitation(invitation.id) or invitation)
        self._registry.refresh(invitation.consumer)
        reply = self._reply(certificate, invitation.consumer)
        return replace(reply, version=min(request.accepts, REPLY_VERSION))

    # ---- internals -------------------------------------------------------------------------

    def _check_name(self, name: str) -> None:
        check_name(name)
        if name in self.site.configured:
            raise UsageError(f"consumer {name} is in the configuration", hint="Choose another name.")
        if name in self._guests():
            raise UsageError(f"{name} is a guest", hint="Choose another name.")

    def _admit_key(self, consumer: ConsumerRow, text: str) -> dict[str, Any]:
        """Set a consumer's SSH key, replacing an earlier one."""
        if not self.site.ssh:
            raise UsageError(
                "this broker has no SSH door", hint='Set user = "drawwell-ssh" in [ssh], and restart.'
            )
        key = public_key(text)
        other = self._store.owner_of(key)
        if other not in {None, consumer.name}:
            raise UsageError(f"this key belongs to {other}", hint="Create a separate key for each consumer.")
        self._change(replace(consumer, ssh_key=key, bare_line=""), f"consumer {consumer.name} has a new key")
        return {"name": consumer.name, "ssh_key": key, "fingerprint": fingerprint(key)}

    def _change(self, consumer: ConsumerRow, change: str) -> None:
        """Change a consumer immediately, even if the store cannot be written yet."""
        try:
            self._store.change_consumer(consumer, change)
        finally:
            self._registry.refresh(consumer.name)

    def _invitation(self, request: JoinRequest) -> InvitationRow | JoinRefusal:
        """Return the request's pending invitation, or a refusal."""
        invitation = self._store.invitation(request.invitation)
        right = tokens.secret_matches(request.secret, invitation.secret_hash if invitation else _NO_SECRET)
        if invitation is None:
            return UNKNOWN
        if not right:
            self._store.count_wrong_try(invitation.id, WRONG_TRIES)
            return UNKNOWN
        return invitation if invitation.status == PENDING else refusal(invitation)

    def _reply(self, certificate: bytes, name: str) -> JoinReply:
        consumer = self._known(name)
        return JoinReply(
            consumer=name,
            certificate=certificate.decode(),
            ca_certificate=self._authority.public.roots.decode(),
            broker=self.site.broker,
            addresses=self.site.addresses,
            rate=str(consumer.rate or ""),
            quota=str(consumer.quota or ""),
            draw_class="+".join(sorted(consumer.classes)),
            receipt_public_key=self._authority.public.receipt_key.decode(),
            known=self._known_brokers(),
        )

    def _known(self, name: str) -> ConsumerRow:
        known = self._store.find(name)
        if known is None:
            where = "Change this consumer in the configuration." if name in self.site.configured else None
            raise UsageError(
                f"{name!r} is not an invited consumer",
                hint=where or "Run 'drawwell consumer list' for the names.",
            )
        return known.row

    async def _list(self, _owner: Principal, **arguments: Any) -> dict[str, Any]:
        return await asyncio.to_thread(self.list_consumers, **arguments)

    def _notifying(self, method: Callable[..., dict[str, Any]]) -> Handler:
        """Create a handler that calls the listeners before it answers."""

        async def answer(_owner: Principal, **arguments: Any) -> dict[str, Any]:
            name = arguments.get("name", "")
            try:
                await asyncio.to_thread(self._store.require_owner)
                async with self._changing:  # each call reads and then writes
                    result = await asyncio.to_thread(method, **arguments)
            except StateUnavailable:
                with suppress(DrawwellError):  # a revocation is in effect before it is written
                    await self._tell(name)
                raise
            await self._tell(name)
            return result

        return answer

    async def _tell(self, name: str) -> None:
        """Call all listeners, then raise the first error."""
        errors = []
        for listener in self.listeners:
            try:
                following = listener(name)
                if following is not None:
                    await following
            except DrawwellError as error:
                errors.append(error)
        if errors:
            raise errors[0]
