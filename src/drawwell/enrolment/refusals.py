"""Why an invitation gives no certificate."""

import time
from typing import Final

from drawwell.state.rows import InvitationRow
from drawwell.wire.enrolment import JoinRefusal

UNKNOWN: Final = JoinRefusal("refused", "the broker knows no such invitation")
_WHY_NOT: Final = {
    "expired": "this invitation has expired",
    "void": "this invitation was withdrawn, or tried too often with a wrong secret",
}


def refusal(invitation: InvitationRow) -> JoinRefusal:
    """Return why an invitation is no longer pending."""
    return JoinRefusal(invitation.status, _WHY_NOT.get(invitation.status) or _used(invitation))


def _used(invitation: InvitationRow) -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(invitation.used_at or 0.0))
    place = f" from {invitation.used_from}" if invitation.used_from else ""
    return f"the invitation of {invitation.consumer} was used already,{place} at {at}"
