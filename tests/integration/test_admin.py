"""Enrolment's admin and registry on a real store, one check at a time."""

import asyncio
import os

import pytest

from drawwell.authorisation import Principal, Role
from drawwell.broker.control import Control
from drawwell.crypto import pki
from drawwell.crypto.tokens import Token, parse_token
from drawwell.enrolment.admin import INVITATION_TTL_S, ConsumerAdmin
from drawwell.enrolment.broker_details import BrokerDetails
from drawwell.enrolment.registry import GRACE_S, InvitedRegistry
from drawwell.errors import AuthenticationFailed, PermissionRefused, StateUnavailable, UsageError
from drawwell.state.store import Store
from drawwell.wire.enrolment import JoinRefusal, JoinReply, JoinRequest
from support.certificates import own_authority
from support.principals import OWNER

NOW = 1_700_000_000.0


class Office:
    """An administrator with an adjustable clock."""

    def __init__(self, directory: str) -> None:
        self.now = NOW
        self.store = Store(os.path.join(directory, "broker.db"))
        self.registry = InvitedRegistry(self.store, lambda: self.now)
        self.authority = own_authority(os.path.join(directory, "pki"), NOW)
        site = BrokerDetails("well", "127.0.0.1:1", ("127.0.0.1:2",))
        self.admin = ConsumerAdmin(self.store, self.registry, self.authority, site, clock=lambda: self.now)

    def invite(self, name: str = "web01") -> Token:
        return parse_token(self.admin.invite(name)["token"])

    def join(self, token: Token, csr: bytes) -> JoinReply | JoinRefusal:
        return self.admin.redeem(JoinRequest(token.invitation, token.secret, csr.decode()))

    def identify(self, certificate: bytes) -> Principal:
        return asyncio.run(self.registry.identify(certificate))

    def joined(self, name: str = "web01") -> tuple[bytes, bytes]:
        """Let a machine join; return its signing request and certificate (PEM)."""
        _, csr = pki.new_key_and_csr(name)
        reply = self.join(self.invite(name), csr)
        assert isinstance(reply, JoinReply)
        return csr, reply.certificate.encode()


@pytest.fixture
def office(tmp_path):
    office = Office(str(tmp_path))
    yield office
    office.store.close()


def test_a_key_joins_once(office) -> None:
    """A request that joined before is refused, even for another consumer."""
    csr, _ = office.joined("web01")

    assert office.join(office.invite("web02"), csr) == JoinRefusal("refused", "this key has already joined")


def test_an_invitation_expires_by_itself(office) -> None:
    """An invitation expires at its time, for the first caller, too."""
    token, (_, csr) = office.invite(), pki.new_key_and_csr("any")
    office.now += INVITATION_TTL_S

    refusal = office.join(token, csr)
    assert isinstance(refusal, JoinRefusal)
    assert refusal.reason == "expired"


def test_an_invitation_used_while_it_is_redeemed_is_used(office) -> None:
    """Of two concurrent joins, the first written one succeeds."""
    token, (_, csr), (_, other) = office.invite(), pki.new_key_and_csr("any"), pki.new_key_and_csr("any")
    issue = office.authority.issue_client

    def meanwhile(csr_pem: bytes, consumer: str, now: float) -> bytes:
        office.authority.issue_client = issue
        assert isinstance(office.join(token, other), JoinReply)
        return issue(csr_pem, consumer, now)

    office.authority.issue_client = meanwhile
    refusal = office.join(token, csr)
    assert isinstance(refusal, JoinRefusal)
    assert refusal.reason == "used"
    assert len(office.store.certificates("web01")) == 1


def test_a_revoked_consumer_may_be_invited_again(office) -> None:
    """A new invitation readmits the name, but not the old certificate."""
    _, old = office.joined()
    office.admin.revoke("web01")
    assert office.admin.entitled("web01") is None

    _, new = office.joined()
    assert office.admin.entitled("web01") is not None
    assert office.identify(new).name == "web01"
    with pytest.raises(AuthenticationFailed):
        office.identify(old)


def test_renewal_ends_with_the_grace_period(office) -> None:
    """A key can renew in the grace period, and not a second later."""
    csr, _ = office.joined()
    ends = next(iter(office.store.certificates("web01").values())).not_after + GRACE_S

    office.now = ends
    with pytest.raises(PermissionRefused, match="may not renew"):
        office.admin.renewals.renew("web01", csr.decode())
    office.now = ends - 1
    assert office.admin.renewals.renew("web01", csr.decode())["certificate"]


def test_a_certificate_of_the_day_after_tomorrow_may_only_be_renewed(office) -> None:
    """A registered key can renew a certificate that is not valid yet."""
    csr, certificate = office.joined()
    office.now = NOW - 2 * pki.DAY_S

    peer = office.identify(certificate)
    assert peer.role is Role.EXPIRED
    office.admin.renewals.renew("web01", csr.decode())
    assert office.registry.check(peer).role is Role.CONSUMER


def test_a_registered_key_under_another_name_is_unknown(office) -> None:
    """Key and name must both match the enrolment."""
    csr, _ = office.joined("web01")
    office.joined("web02")
    certificate = office.authority.issue_client(csr, "web02", NOW)

    with pytest.raises(AuthenticationFailed, match="does not belong to a consumer"):
        office.identify(certificate)


def test_a_store_that_cannot_be_read_forgets_no_consumer(office) -> None:
    """A known consumer stays known; changes and new consumers follow later."""
    _, certificate = office.joined()
    _, strangers = office.joined("web02")
    peer = office.identify(certificate)
    office.store.close()

    assert office.registry.check(peer) == peer
    assert office.identify(certificate) == peer
    with pytest.raises(StateUnavailable):
        office.identify(strangers)
    with pytest.raises(StateUnavailable):
        office.registry.refresh("web01")
    assert office.registry.check(peer) == peer
    with pytest.raises(StateUnavailable):
        office.registry.retry()


@pytest.mark.parametrize("verb", ["consumer.invite", "consumer.revoke", "consumer.quota"])
@pytest.mark.parametrize(
    "arguments", [{}, {"name": ""}, {"name": None}, {"name": 7}, {"name": "a", "x": "y"}]
)
def test_a_verb_without_its_arguments_is_a_usage_error(office, verb, arguments) -> None:
    """Arguments from the control socket are checked before a method runs."""
    with pytest.raises(UsageError):
        asyncio.run(Control(office.admin.handlers())(OWNER, verb, arguments))
