"""Refusals of invitations that are not valid, or that cannot be made."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from drawwell.authorisation import Principal
from drawwell.enrolment.document import consumer_page
from drawwell.enrolment.terms import BOTH, changed, check_name
from drawwell.errors import UsageError
from drawwell.state.port import ConsumerStore
from drawwell.state.rows import ConsumerRow, InvitationRow
from drawwell.verbs import CONTROL_VERBS, Handler
from drawwell.wire.enrolment import JoinRefusal

UNKNOWN: Final = JoinRefusal("refused", "unknown invitation")
_WHY_NOT: Final = {
    "expired": "this invitation has expired",
    "void": "this invitation was revoked, or tried too many times with a wrong secret",
}


def refusal(invitation: InvitationRow) -> JoinRefusal:
    """Return why an invitation is no longer pending."""
    return JoinRefusal(invitation.status, _WHY_NOT.get(invitation.status) or _used(invitation))


def _used(invitation: InvitationRow) -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(invitation.used_at or 0.0))
    place = f" from {invitation.used_from}" if invitation.used_from else ""
    return f"the invitation of {invitation.consumer} was already used{place} at {at}"


def no_invitations(store: ConsumerStore, clock: Callable[[], float]) -> dict[str, Handler]:
    """Return handlers that list consumers, but refuse to change them."""

    async def listed(_owner: Principal, **arguments: Any) -> dict[str, Any]:
        return await asyncio.to_thread(consumer_page, store, clock(), **arguments)

    async def refuse(_owner: Principal, *, name: str, **arguments: Any) -> dict[str, Any]:
        check_name(name)
        terms = {each: arguments.get(each) for each in ("rate", "quota", "draw_class", "stream")}
        changed(ConsumerRow(name, None, None, BOTH, 0.0), **terms)
        raise UsageError(
            "this broker cannot invite consumers: it has no SSH door, and no TLS door with the built-in CA",
            hint='Set listen = "*:55000" in [tls], or user in [ssh], and restart the broker.',
        )

    verbs = {verb: refuse for verb in CONTROL_VERBS if verb.startswith("consumer.")}
    return {**verbs, "consumer.list": listed}
