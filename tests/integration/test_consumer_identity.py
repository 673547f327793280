"""Consumers that may draw over TLS: registered keys, and your own PKI."""

import asyncio
import contextlib
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from drawwell.authorisation import Principal
from drawwell.broker.control import Control
from drawwell.crypto import pki
from drawwell.crypto.tokens import parse_token
from drawwell.doors.tls import TlsDoor
from drawwell.enrolment.admin import ConsumerAdmin
from drawwell.enrolment.broker_details import BrokerDetails
from drawwell.enrolment.registry import GRACE_S, InvitedRegistry, OwnPkiRegistry
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import AuthenticationFailed, DrawwellError, PermissionRefused
from drawwell.links.identity import LinkIdentity, Staging, load_all
from drawwell.links.renewal import renew_if_due
from drawwell.links.tls import TlsLink
from drawwell.state.files import replace_file
from drawwell.state.store import Store
from drawwell.wire.contexts import client_context, server_context
from drawwell.wire.enrolment import JoinReply, JoinRequest
from support.certificates import own_authority, server_pair
from support.fake_broker import FakeBroker

DAY = 86400.0


class Broker(FakeBroker):
    """A broker with the admin's ``renew``."""

    def __init__(self, directory: str) -> None:
        super().__init__()
        self.ahead = 0.0
        self.store = Store(os.path.join(directory, "broker.db"))
        self.authority = own_authority(os.path.join(directory, "pki"), self.clock())
        self.registry = InvitedRegistry(self.store, self.clock)
        site = BrokerDetails("well", "127.0.0.1:1", ("127.0.0.1:2",))
        self.admin = ConsumerAdmin(self.store, self.registry, self.authority, site, clock=self.clock)

    def clock(self) -> float:
        return time.time() + self.ahead

    async def call(self, principal: Principal, verb: str, args: dict) -> dict:
        return await Control(self.admin.handlers())(principal, verb, args)

    def enrol(self, directory: str, name: str = "web01") -> LinkIdentity:
        token = parse_token(self.admin.invite(name)["token"])
        staging = Staging(directory, force=False)
        reply = self.admin.redeem(JoinRequest(token.invitation, token.secret, staging.csr_pem.decode()))
        assert isinstance(reply, JoinReply)
        return staging.finish(reply)

    def context(self) -> ssl.SSLContext:
        certificate, key = self.authority.server_files(["localhost", "127.0.0.1"], time.time())
        return server_context(certificate, key, self.authority.authorities)


@pytest.fixture
def broker(tmp_path):
    broker = Broker(str(tmp_path / "broker"))
    yield broker
    broker.store.close()


@pytest.fixture
def identity(broker, tmp_path) -> LinkIdentity:
    return broker.enrol(str(tmp_path / "links" / "well"))


@contextlib.asynccontextmanager
async def serving(broker: Broker, registry=None, context=None) -> AsyncIterator[int]:
    door = TlsDoor(
        "127.0.0.1", 0, context or broker.context, broker, registry or broker.registry, clock=broker.clock
    )
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(door.serve())
        await door.ready.wait()
        yield int(door.address.rpartition(":")[2])
        task.cancel()


@contextlib.asynccontextmanager
async def linked(port: int, certificate: str, key: str, ca: str) -> AsyncIterator[TlsLink]:
    link = TlsLink("127.0.0.1", port, context=lambda: client_context(certificate, key, ca))
    try:
        yield link
    finally:
        await link.aclose()


def paths(identity: LinkIdentity) -> tuple[str, str, str]:
    return identity.certificate_path, identity.key_path, identity.ca_path


def draw_once(broker: Broker, certificate: str, key: str, ca: str, **door) -> str:
    """Connect and draw; return the served consumer or the error's class."""

    async def run() -> str:
        async with serving(broker, **door) as port, linked(port, certificate, key, ca) as link:
            try:
                await link.draw(32, DrawClass.FULL)
            except DrawwellError as error:
                return type(error).__name__
        return next(iter(broker.drawn_bytes))

    return asyncio.run(run())


def write_pair(tmp_path, pair: pki.KeyPair) -> tuple[str, str]:
    certificate, key = tmp_path / "other.pem", tmp_path / "other-key.pem"
    certificate.write_bytes(pair.certificate_pem)
    replace_file(str(key), pair.key_pem)
    return str(certificate), str(key)


def test_an_enrolled_machine_draws_as_itself(broker, identity) -> None:
    """A joined machine draws under the name in its invitation."""
    assert draw_once(broker, *paths(identity)) == "web01"


def test_a_self_made_certificate_is_turned_away(broker, identity, tmp_path) -> None:
    """A self-signed certificate with a known consumer's name is refused."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "web01")])
    own = pki.certificate_builder("web01", key.public_key(), time.time()).issuer_name(name)
    own = own.not_valid_after(pki.utc(time.time() + DAY)).sign(key, hashes.SHA256())
    pair = pki.KeyPair(own.public_bytes(serialization.Encoding.PEM), pki.encode_key(key))

    assert draw_once(broker, *write_pair(tmp_path, pair), identity.ca_path) == "AuthenticationFailed"
    assert broker.drawn_bytes == {}


def test_a_certificate_of_another_authority_is_turned_away(broker, identity, tmp_path) -> None:
    """A certificate of another CA with the same names is refused."""
    other = pki.new_ca("well", time.time())
    key, csr = pki.new_key_and_csr("web01")
    pair = pki.KeyPair(pki.issue_client(other, csr, "web01", time.time()), key)

    assert draw_once(broker, *write_pair(tmp_path, pair), identity.ca_path) == "AuthenticationFailed"


def test_a_certificate_that_is_not_registered_is_refused(broker, identity, tmp_path) -> None:
    """A certificate of our CA with a key that did not join is refused."""
    key, csr = pki.new_key_and_csr("web01")
    pair = pki.KeyPair(broker.authority.issue_client(csr, "web01", time.time()), key)

    assert draw_once(broker, *write_pair(tmp_path, pair), identity.ca_path) == "AuthenticationFailed"


def test_the_brokers_own_certificate_is_no_consumer(broker, identity) -> None:
    """The server's certificate is refused at its own door."""
    certificate, key = broker.authority.server_files(["localhost", "127.0.0.1"], broker.clock())

    assert draw_once(broker, certificate, key, identity.ca_path) == "AuthenticationFailed"


def test_a_consumers_certificate_is_no_broker(broker, identity, tmp_path) -> None:
    """A consumer cannot pose as the broker to another consumer."""
    other = broker.enrol(str(tmp_path / "links" / "other"), "web02")

    def context() -> ssl.SSLContext:
        return server_context(other.certificate_path, other.key_path, other.ca_path)

    assert draw_once(broker, *paths(identity), context=context) == "AuthenticationFailed"


def test_a_revoked_machine_is_turned_away(broker, identity) -> None:
    """After revocation a new connection is refused."""
    broker.admin.revoke("web01")

    assert draw_once(broker, *paths(identity)) == "AuthenticationFailed"
    assert broker.drawn_bytes == {}


def test_revocation_reaches_an_open_session_at_its_next_draw(broker, identity) -> None:
    """An open session of a revoked consumer cannot draw any more."""

    async def run() -> None:
        async with serving(broker) as port, linked(port, *paths(identity)) as link:
            await link.draw(32, DrawClass.FULL)
            broker.admin.revoke("web01")
            with pytest.raises(PermissionRefused, match="revoked"):
                await link.draw(32, DrawClass.FULL)

    asyncio.run(run())
    assert broker.drawn_bytes == {"web01": 32}


def test_a_revocation_survives_a_restart(broker, identity) -> None:
    """A registry that newly reads the state knows the revocation."""
    broker.admin.revoke("web01")

    assert (
        draw_once(broker, *paths(identity), registry=InvitedRegistry(broker.store, broker.clock))
        == "AuthenticationFailed"
    )


def test_joining_again_shuts_out_the_earlier_key(broker, identity, tmp_path) -> None:
    """If a consumer joins on another machine, the first key is refused."""
    second = broker.enrol(str(tmp_path / "links" / "second"))

    assert draw_once(broker, *paths(identity)) == "AuthenticationFailed"
    assert draw_once(broker, *paths(second)) == "web01"


def test_an_expired_machine_only_renews_and_then_draws(broker, identity) -> None:
    """After almost a month off, a machine must renew before it can draw."""
    broker.ahead = 7 * DAY + GRACE_S - 60

    async def run() -> bool:
        async with serving(broker) as port, linked(port, *paths(identity)) as link:
            with pytest.raises(PermissionRefused, match="renewed"):
                await link.draw(32, DrawClass.FULL)
            renewed = await renew_if_due(link, identity, broker.clock())
            await link.draw(32, DrawClass.FULL)
            return renewed

    old_end = identity.expires()
    assert asyncio.run(run())
    assert broker.drawn_bytes == {"web01": 32}
    assert identity.expires() == pytest.approx(old_end + broker.ahead, abs=60)


def test_after_the_grace_period_nothing_helps(broker, identity) -> None:
    """A certificate that expired more than 30 days ago is refused."""
    broker.ahead = 7 * DAY + GRACE_S + 60

    assert draw_once(broker, *paths(identity)) == "AuthenticationFailed"


def test_an_expired_and_revoked_machine_does_not_renew(broker, identity) -> None:
    """A revoked consumer cannot renew an expired certificate."""
    broker.ahead = 8 * DAY
    broker.admin.revoke("web01")

    async def run() -> None:
        async with serving(broker) as port, linked(port, *paths(identity)) as link:
            await renew_if_due(link, identity, broker.clock())

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(run())
    assert caught.group_contains(AuthenticationFailed)


def test_a_certificate_is_renewed_at_two_thirds_of_its_life_and_not_before(broker, identity) -> None:
    """Renewal is due after two thirds of the lifetime, in the open session."""

    async def run() -> list[bool]:
        async with serving(broker) as port, linked(port, *paths(identity)) as link:
            return [await renew_if_due(link, identity, broker.clock() + days * DAY) for days in (4, 5)]

    assert asyncio.run(run()) == [False, True]
    assert draw_once(broker, *paths(identity)) == "web01"


def test_renewal_with_a_key_that_never_joined_is_refused(broker, identity) -> None:
    """A session cannot certify another key; this needs an invitation."""
    _, csr = pki.new_key_and_csr("web01")

    with pytest.raises(PermissionRefused):
        broker.admin.renewals.renew("web01", csr.decode())


def test_renewal_with_another_consumers_key_is_refused(broker, identity, tmp_path) -> None:
    """One consumer cannot renew another's key under its own name."""
    other = broker.enrol(str(tmp_path / "links" / "other"), "web02")
    with open(other.key_path, "rb") as file:
        csr = pki.csr_for(file.read(), "web01")

    with pytest.raises(PermissionRefused):
        broker.admin.renewals.renew("web01", csr.decode())


def test_all_links_are_found_by_name(broker, tmp_path) -> None:
    """Every directory that join created is found, and no other."""
    for name in ("b", "a"):
        broker.enrol(str(tmp_path / "links" / name), name)
    (tmp_path / "links" / ".c.new").mkdir()

    assert [identity.consumer for identity in load_all(str(tmp_path / "links"))] == ["a", "b"]
    assert load_all(str(tmp_path / "nowhere")) == []


def own_certificate(
    tmp_path, sans: list[x509.GeneralName], *, common_name: str = "", ends: float = DAY
) -> tuple[str, str, str, Callable[[], ssl.SSLContext]]:
    """Issue a client certificate of your own PKI; return paths and context."""
    ca = pki.new_ca("corp", time.time())
    (tmp_path / "ca.pem").write_bytes(ca.certificate_pem)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = pki.certificate_builder(common_name or "any", key.public_key(), time.time())
    certificate = pki._issue(
        ca, builder, sans, purpose=x509.ExtendedKeyUsageOID.CLIENT_AUTH, not_after=time.time() + ends
    )
    paths = write_pair(tmp_path, pki.KeyPair(certificate, pki.encode_key(key)))
    server = server_pair(ca, ["127.0.0.1"], time.time())
    (tmp_path / "server.pem").write_bytes(server.certificate_pem)
    replace_file(str(tmp_path / "server-key.pem"), server.key_pem)
    names = [str(tmp_path / name) for name in ("server.pem", "server-key.pem", "ca.pem")]
    return (*paths, str(tmp_path / "ca.pem"), lambda: server_context(*names))


@pytest.mark.parametrize(
    ("kind", "name", "sans", "common_name"),
    [
        ("uri", "spiffe://corp/web", [x509.UniformResourceIdentifier("spiffe://corp/web")], ""),
        ("uri", "web01", [x509.UniformResourceIdentifier("drawwell://consumer/web01")], ""),
        ("dns", "web.corp", [x509.DNSName("web.corp"), x509.DNSName("alias.corp")], ""),
        ("cn", "web", [x509.DNSName("other")], "web"),
    ],
)
def test_own_pki_names_the_consumer_as_configured(broker, tmp_path, kind, name, sans, common_name) -> None:
    """With your own PKI the configured kind of name is the identity."""
    certificate, key, ca, context = own_certificate(tmp_path, sans, common_name=common_name)
    registry = OwnPkiRegistry(kind, {name: "web01"})

    assert draw_once(broker, certificate, key, ca, registry=registry, context=context) == "web01"


@pytest.mark.parametrize(
    ("kind", "consumers", "ends"),
    [
        ("cn", {"web.corp": "web01"}, DAY),
        ("dns", {"other.corp": "web01"}, DAY),
        ("dns", {"web.corp": "web01", "alias.corp": "web02"}, DAY),
        ("dns", {"web.corp": "web01"}, -60.0),
    ],
    ids=["another kind", "another name", "two consumers at once", "expired"],
)
def test_own_pki_turns_away_whom_it_does_not_name(broker, tmp_path, kind, consumers, ends) -> None:
    """Other, unknown and ambiguous names and expired certificates are refused."""
    sans = [x509.DNSName("web.corp"), x509.DNSName("alias.corp")]
    certificate, key, ca, context = own_certificate(tmp_path, sans, ends=ends)
    registry = OwnPkiRegistry(kind, consumers)

    assert (
        draw_once(broker, certificate, key, ca, registry=registry, context=context) == "AuthenticationFailed"
    )


def test_own_pki_follows_a_configuration_read_again(broker, tmp_path) -> None:
    """Removing a consumer from the configuration ends its session."""
    certificate, key, ca, context = own_certificate(tmp_path, [x509.DNSName("web.corp")])
    registry = OwnPkiRegistry("dns", {"web.corp": "web01"}, clock=broker.clock)

    async def run() -> None:
        async with serving(broker, registry, context) as port, linked(port, certificate, key, ca) as link:
            await link.draw(32, DrawClass.FULL)
            registry.configure("dns", {})
            with pytest.raises(PermissionRefused, match="no longer configured"):
                await link.draw(32, DrawClass.FULL)

    asyncio.run(run())


def test_own_pki_certificates_run_out_on_open_sessions(broker, tmp_path) -> None:
    """A session ends when its certificate of your own PKI expires."""
    certificate, key, ca, context = own_certificate(tmp_path, [x509.DNSName("web.corp")])

    async def run() -> None:
        registry = OwnPkiRegistry("dns", {"web.corp": "web01"}, clock=broker.clock)
        async with serving(broker, registry, context) as port, linked(port, certificate, key, ca) as link:
            await link.draw(32, DrawClass.FULL)
            broker.ahead = 2 * DAY
            with pytest.raises(PermissionRefused, match="has expired"):
                await link.draw(32, DrawClass.FULL)

    asyncio.run(run())


def test_the_servers_certificate_is_kept_until_due_or_renamed(broker) -> None:
    """The server's certificate is renewed when due or when names change."""

    def serial(names: list[str], days: float) -> int:
        path, _ = broker.authority.server_files(names, broker.clock() + days * DAY)
        with open(path, "rb") as file:
            return pki.read_certificate(file.read()).serial

    serials = [serial(["a"], 0), serial(["a"], 59), serial(["a"], 61), serial(["a", "b"], 61)]

    assert serials[0] == serials[1]
    assert len(set(serials)) == 3
