"""Everything the broker's operator does to consumers, and how a machine becomes one and stays one.

Methods write to disk and may wait for it: from an event loop call them in a thread, as `handlers` does.
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
from drawwell.enrolment.broker_details import BrokerDetails
from drawwell.enrolment.ca import CertificateAuthority
from drawwell.enrolment.document import consumer_document
from drawwell.enrolment.refusals import UNKNOWN, refusal
from drawwell.enrolment.registry import InvitedRegistry
from drawwell.enrolment.renewal import Renewals, certificate_row
from drawwell.enrolment.terms import BOTH, changed, check_name, public_key, read
from drawwell.entropy.quota import QuotaState
from drawwell.errors import DrawwellError, StateUnavailable, UsageError
from drawwell.state.port import ConsumerStore
from drawwell.state.rows import PENDING, ConsumerRow, InvitationRow
from drawwell.units import parse_duration
from drawwell.verbs import Handler
from drawwell.wire.enrolment import REPLY_VERSION, JoinRefusal, JoinReply, JoinRequest

INVITATION_TTL_S: Final = 900.0
LONGEST_TTL_S: Final = 7 * pki.DAY_S
PAGE: Final = 256
"""Consumers in one answer: below the 1 MiB of a frame, and encoded in two milliseconds."""
WRONG_TRIES: Final = 5
"""So many wrong secrets make an invitation void."""
_NO_SECRET: Final = bytes(32)


class ConsumerAdmin:
    """Invites, enrols, renews and revokes.

    Args:
        store: Where it is written.
        registry: Brought up to date after each change.
        authority: Signs certificates.
        site: What joiners are told.
        clock: Seconds since 1970, never stepping back.
        guests: Names the guests of this machine.
        dates: The time that certificates are issued and judged by; `clock` when it is not given.
        fresh: Returns that many secret bytes, from the operating system.
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
    ) -> None:
        self.site = site
        self.listeners: list[Callable[[str], Awaitable[None] | None]] = []
        """Called in the event loop with the consumer's name after a change, and awaited."""
        self._store = store
        self._registry = registry
        self._authority = authority
        self._clock = clock
        self._guests = guests
        self._dates = dates or clock
        self._fresh = fresh
        self._changing = asyncio.Lock()
        self.renewals = Renewals(store, registry, authority, self._dates, self._tell)

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers of the verbs about consumers."""
        return {
            "consumer.invite": self._told(self.invite),
            "consumer.list": self._list,
            "consumer.revoke": self._told(self.revoke),
            "consumer.quota": self._told(self.set_quota),
            **self.renewals.handlers(),
        }

    def configure(self, names: Collection[str]) -> None:
        """Take over the names of the configuration, which no invitation may have."""
        self.site = replace(self.site, configured=names)

    # ---- for the operator --------------------------------------------------------------------------------

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
        """Make an invitation, and the consumer unless it exists; what is None stays as it was, at first unlimited.

        Allowances are written like ``4KiB/s`` or ``none``, `draw_class` is full, drbg or both, `stream` is yes or
        no, `address` is where the joiner reaches the enrolment door. Returns `token`, `expires` in seconds
        since 1970, and where the joiner will connect: `enrol_address`, then `addresses`.
        With `ssh_key`, a public key, nobody need join: returns `ssh_key` and its `fingerprint`.

        Raises:
            UsageError: an argument is off, or the configuration has a consumer of that name.
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
                "nobody can join this broker: its built-in CA serves no TLS door",
                hint='Set [tls] listen = "*:55000", or invite with --ssh-key.',
            )
        self._store.overdue.retry()
        host, port = tokens.parse_address(address or self.site.enrol_address)
        ttl_s = read(parse_duration, ttl) if ttl else INVITATION_TTL_S
        if ttl_s > LONGEST_TTL_S:
            raise UsageError(
                "an invitation lasts at most 7 days", hint="Invite when the machine is about to join."
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
        """Return a page of the consumers that were invited, in the order of their names.

        Returns `consumers` and `next`: the name to go on after, None at the end. Times are seconds
        since 1970, None for never.
        """
        self._store.expire_invitations(self._clock())
        page = self._store.page(pattern or "", after or "", PAGE + 1)
        documents = [consumer_document(listed) for listed in page[:PAGE]]
        return {"consumers": documents, "next": documents[-1]["name"] if len(page) > PAGE else None}

    def revoke(self, name: str) -> dict[str, Any]:
        """Revoke a consumer at once, also where that cannot be written yet.

        Raises:
            UsageError: no consumer of that name was invited.
            StateUnavailable: it is revoked, but that is not written yet.
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
        """Change what a consumer may have; None leaves it, ``none`` lifts it. Returns it as `list_consumers` does.

        Raises:
            UsageError: nobody of that name was invited, or an argument is off.
            StateUnavailable: the change holds, but that is not written yet.
        """
        known = self._known(name)
        consumer = changed(known, rate=rate, quota=quota, draw_class=draw_class, stream=stream)
        self._change(consumer, f"consumer {name} has other limits")
        self._store.expire_invitations(self._clock())
        (listed,) = self._store.page(name, "", 1)
        return consumer_document(listed)

    def lease(self, name: str) -> tuple[ConsumerRow, QuotaState | None] | None:
        """Return what a consumer may have and what it has reserved, None if it may not draw.

        Raises:
            StateUnavailable: the store cannot be read.
        """
        known = None if self._registry.refuses(name) else self._store.find(name)
        if known is None or known.row.revoked_at is not None:
            return None
        return known.row, self._store.leased(name)

    # ---- for the machine that joins ----------------------------------------------------------------------

    def open_until(self) -> float | None:
        """Return when the last invitation ends, used or not; None when all have, or a clock ahead made them."""
        now = self._clock()
        self._store.expire_invitations(now)
        return self._store.last_invitation_ends(now)

    def redeem(self, request: JoinRequest, host: str = "") -> JoinReply | JoinRefusal:
        """Turn an invitation into a certificate, once; that it is used is on disk before this returns.

        `host` is where the request came from. A peer without the secret learns nothing, not even whether there is
        such an invitation.

        Raises:
            StateUnavailable: it could not be written; nothing was issued.
        """
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
            return JoinRefusal("refused", "this key has joined before")
        if not self._store.redeem(invitation.id, row, now, host):
            return refusal(self._store.invitation(invitation.id) or invitation)
        self._registry.refresh(invitation.consumer)
        reply = self._reply(certificate, invitation.consumer)
        return replace(reply, version=min(request.accepts, REPLY_VERSION))

    # ---- inside ------------------------------------------------------------------------------------------

    def _check_name(self, name: str) -> None:
        check_name(name)
        if name in self.site.configured:
            raise UsageError(f"consumer {name} is in the configuration", hint="Choose another name.")
        if name in self._guests():
            raise UsageError(f"a guest is called {name}", hint="Choose another name.")

    def _admit_key(self, consumer: ConsumerRow, text: str) -> dict[str, Any]:
        """Give a consumer its SSH key, in the place of an earlier one."""
        if not self.site.ssh:
            raise UsageError(
                "this broker has no SSH door", hint='Set [ssh] user = "drawwell-ssh" and start again.'
            )
        key = public_key(text)
        other = self._store.owner_of(key)
        if other not in {None, consumer.name}:
            raise UsageError(f"this is the key of {other}", hint="Make a key for each consumer.")
        self._change(
            replace(consumer, ssh_key=key, bare_line=""), f"consumer {consumer.name} has another key"
        )
        return {"name": consumer.name, "ssh_key": key, "fingerprint": fingerprint(key)}

    def _change(self, consumer: ConsumerRow, change: str) -> None:
        """Replace a consumer at once, also where that cannot be written yet."""
        try:
            self._store.change_consumer(consumer, change)
        finally:
            self._registry.refresh(consumer.name)

    def _invitation(self, request: JoinRequest) -> InvitationRow | JoinRefusal:
        """Find the pending invitation that a request has the secret of."""
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
        )

    def _known(self, name: str) -> ConsumerRow:
        known = self._store.find(name)
        if known is None:
            where = "It is in the configuration: change it there." if name in self.site.configured else None
            raise UsageError(
                f"no consumer {name!r} was invited here",
                hint=where or "See 'drawwell consumer list' for the names.",
            )
        return known.row

    async def _list(self, _owner: Principal, **arguments: Any) -> dict[str, Any]:
        return await asyncio.to_thread(self.list_consumers, **arguments)

    def _told(self, method: Callable[..., dict[str, Any]]) -> Handler:
        """Make a handler of a method, and tell the listeners before its asker is answered."""

        async def answer(_owner: Principal, **arguments: Any) -> dict[str, Any]:
            name = arguments.get("name", "")
            try:
                async with self._changing:  # they read, then write: one after the other
                    result = await asyncio.to_thread(method, **arguments)
            except StateUnavailable:
                with suppress(DrawwellError):  # a revocation holds without its record
                    await self._tell(name)
                raise
            await self._tell(name)
            return result

        return answer

    async def _tell(self, name: str) -> None:
        """Call every listener, and raise the first error when all have been called."""
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
