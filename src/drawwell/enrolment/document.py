"""A consumer as listed by ``consumer.list``."""

from typing import Any

from drawwell.crypto.sshkeys import fingerprint
from drawwell.state.rows import ListedConsumer


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
