"""Consumers as listed by ``consumer.list``."""

from typing import Any, Final

from drawwell.crypto.sshkeys import fingerprint
from drawwell.state.port import ConsumerStore
from drawwell.state.rows import ListedConsumer

PAGE: Final = 256
"""Consumers per answer. They fit in a frame of 1 MiB and are encoded in two milliseconds."""


def consumer_page(store: ConsumerStore, now: float, pattern: str | None, after: str | None) -> dict[str, Any]:
    """Return a page of the invited consumers, sorted by name.

    Returns `consumers`, and in `next` the value of `after` for the next page, or None at the
    end. Times are seconds since 1970; None means never.
    """
    store.expire_invitations(now)
    page = store.page(pattern or "", after or "", PAGE + 1)
    documents = [consumer_document(listed) for listed in page[:PAGE]]
    return {"consumers": documents, "next": documents[-1]["name"] if len(page) > PAGE else None}


def consumer_document(listed: ListedConsumer) -> dict[str, Any]:
    """Return a consumer as JSON; times are seconds since 1970, or None."""
    consumer, invitation = listed.row, listed.invitation
    return {
        "name": consumer.name,
        "rate": str(consumer.rate or ""),
        "quota": str(consumer.quota or ""),
        "class": "+".join(sorted(consumer.classes)),
        "created": consumer.created,
        "revoked_at": consumer.revoked_at,
        "stream": consumer.stream,
        "ssh_key": fingerprint(consumer.ssh_key) if consumer.ssh_key else "",
        "certificate_expires": listed.certificate_expires,
        "invitation": invitation.status if invitation else "",
        "invitation_expires": invitation.expires if invitation else None,
        "invitation_used_at": invitation.used_at if invitation else None,
        "invitation_used_from": invitation.used_from if invitation else "",
    }
