"""Inviting, joining and renewing over real sockets on loopback, with every way in which it must fail."""

import asyncio
import contextlib
import dataclasses
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from drawwell.broker.control import Control
from drawwell.crypto import pki, tokens
from drawwell.crypto.receipts import ReceiptSigner, receipt_key_from_seed
from drawwell.crypto.tokens import Token, parse_token
from drawwell.doors import enrol
from drawwell.doors.enrol import EnrolDoor
from drawwell.doors.enrol_places import JoiningPeer, network_of, one_too_many
from drawwell.enrolment.admin import BrokerDetails, ConsumerAdmin
from drawwell.enrolment.ca import CertificateAuthority
from drawwell.enrolment.registry import InvitedRegistry
from drawwell.errors import (
    AuthenticationFailed,
    ConfigError,
    LinkUnavailable,
    PermissionRefused,
    RemoteProtocolError,
    StateUnavailable,
    UsageError,
)
from drawwell.links.enrol import join
from drawwell.links.identity import load
from drawwell.state.store import Store
from drawwell.testing.waiting import DEADLINE_S

RECEIPT_KEY = ReceiptSigner(receipt_key_from_seed(bytes(32))).public_key.decode()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


class Clock:
    """The wall clock, moved by hand."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Broker:
    """Everything that enrolment needs of a broker, and its door in a thread."""

    def __init__(self, directory: str) -> None:
        self.clock = Clock()
        self.port = free_port()
        self.store = Store(os.path.join(directory, "broker.db"))
        self.authority = CertificateAuthority(os.path.join(directory, "pki"), "well", self.clock())
        self.registry = InvitedRegistry(self.store)
        site = BrokerDetails(
            "well", f"127.0.0.1:{self.port}", ("127.0.0.1:55000",), RECEIPT_KEY, configured=("local",)
        )
        self.admin = ConsumerAdmin(self.store, self.registry, self.authority, site, clock=self.clock)
        self.control = Control(self.admin.handlers())
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)

    def ask(self, verb: str, **arguments: str) -> dict:
        return asyncio.run_coroutine_threadsafe(self.control("owner", verb, arguments), self.loop).result(20)

    def invite(self, name: str = "web01", **arguments: str) -> Token:
        return parse_token(self.ask("consumer.invite", name=name, **arguments)["token"])

    def wait(self, event: asyncio.Event) -> None:
        asyncio.run_coroutine_threadsafe(event.wait(), self.loop).result(20)

    @contextlib.contextmanager
    def running(self) -> Iterator["Broker"]:
        self.thread.start()
        certificate, key = self.authority.ca_files
        self.door = EnrolDoor(
            self.admin, "127.0.0.1", self.port, certificate=certificate, key=key, clock=self.clock
        )
        serving = asyncio.run_coroutine_threadsafe(self.door.serve(), self.loop)
        self.wait(self.door.shut)
        try:
            yield self
        finally:
            serving.cancel()
            asyncio.run_coroutine_threadsafe(_settle(), self.loop).result(20)
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
            self.loop.close()
            self.store.close()


async def _settle() -> None:
    """Wait until every other task of the loop has ended."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others)


@pytest.fixture
def broker(tmp_path):
    with Broker(str(tmp_path / "broker")).running() as broker:
        yield broker


@pytest.fixture
def link(tmp_path):
    return str(tmp_path / "links" / "well")


def text(path: str) -> str:
    with open(path) as file:
        return file.read()


def status(broker: Broker, token: Token) -> str:
    return broker.store.invitations()[token.invitation].status


def test_a_machine_joins_with_its_token(broker, link) -> None:
    """Who has the token gets a certificate that the registry knows, and everything else that it needs."""
    token = broker.invite(rate="4KiB/s", quota="10MiB/day")

    identity = join(token, link)

    certificate = ssl.PEM_cert_to_DER_cert(text(identity.certificate_path))
    assert broker.registry.identify(certificate, time.time()).consumer == "web01"
    assert (identity.broker, identity.consumer, identity.addresses) == ("well", "web01", ("127.0.0.1:55000",))
    assert text(identity.receipt_key_path) == RECEIPT_KEY
    assert load(link) == identity
    assert os.stat(identity.key_path).st_mode & 0o777 == 0o600
    assert os.stat(link).st_mode & 0o777 == 0o700
    assert os.listdir(os.path.dirname(link)) == ["well"]
    assert status(broker, token) == "used"


def test_the_door_stays_open_until_the_invitation_ends(broker, link) -> None:
    """It is shut before an invitation, and open after its use until its end."""
    before = broker.door.ready.is_set()
    token = broker.invite()
    join(token, link)

    assert not before
    assert broker.door.ready.is_set()
    broker.clock.ahead = 901
    broker.ask("consumer.quota", name="web01", rate="4KiB/s")
    broker.wait(broker.door.shut)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", broker.port))


def test_the_door_shuts_when_the_last_invitation_expires(broker) -> None:
    """When time is up the listener goes, with nobody having come."""
    token = broker.invite(ttl="200ms")
    broker.wait(broker.door.shut)

    assert status(broker, token) == "expired"


def test_a_port_that_is_taken_is_told_to_the_operator(broker) -> None:
    """Who invites while the door cannot open is told why."""
    with socket.create_server(("127.0.0.1", broker.port)), pytest.raises(ConfigError, match="in use"):
        broker.invite()


def test_the_second_with_a_token_is_told_who_was_first(broker, link) -> None:
    """A token works once; who comes second is told from where and when, and so is the owner."""
    token = broker.invite()
    join(token, link)
    answered = []
    broker.door.answered = lambda *facts: answered.append(facts)

    with pytest.raises(
        PermissionRefused, match=r"web01 was used already, from 127.0.0.1 at 20.* UTC"
    ) as caught:
        join(token, link + "2")
    assert "consumer revoke" in str(caught.value.hint)
    assert not os.path.exists(link + "2")
    assert answered == [("", "127.0.0.1", "used")]
    assert broker.door.remark().startswith(
        "127.0.0.1 tried to join: the invitation of web01 was used already"
    )
    assert broker.ask("consumer.list")["consumers"][0]["invitation_used_from"] == "127.0.0.1"
    broker.ask("consumer.revoke", name="web01")
    assert broker.door.remark() == ""


def test_of_two_machines_at_once_one_joins(broker, link) -> None:
    """When two machines show the same token at the same moment, exactly one gets a certificate."""
    token = broker.invite()
    broker.invite("other")
    outcomes: list[str] = []

    def try_it(name: str) -> None:
        try:
            outcomes.append(join(token, link + name).consumer)
        except PermissionRefused as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=try_it, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert "was used already" in min(outcomes)
    assert max(outcomes) == "web01"
    assert len(broker.store.certificates()) == 1


def test_an_expired_token_is_refused_as_expired(broker, link) -> None:
    """After its time a token is told to be expired."""
    token = broker.invite(ttl="15m")
    broker.invite("other", ttl="1h")
    broker.clock.ahead = 901

    with pytest.raises(PermissionRefused, match="expired"):
        join(token, link)


def test_a_wrong_secret_and_an_unknown_invitation_get_the_same_answer(broker, link) -> None:
    """Who guesses learns nothing, not even whether there is such an invitation."""
    token = broker.invite()
    guesses = (
        dataclasses.replace(token, secret=bytes(32)),
        dataclasses.replace(token, invitation=tokens.invitation_name(bytes(8))),
    )
    answers = []
    for guess in guesses:
        with pytest.raises(PermissionRefused) as caught:
            join(guess, link)
        answers.append((str(caught.value), caught.value.hint))

    assert answers[0] == answers[1]
    assert join(token, link).consumer == "web01", "one wrong try does not spoil it"


def test_five_wrong_secrets_make_an_invitation_void(broker, link) -> None:
    """After five wrong tries even the right secret gets no certificate."""
    token = broker.invite()
    broker.invite("other")
    for _ in range(5):
        with pytest.raises(PermissionRefused, match="no such invitation"):
            join(dataclasses.replace(token, secret=bytes(32)), link)

    with pytest.raises(PermissionRefused, match="too often"):
        join(token, link)
    assert broker.store.certificates() == {}


def test_a_used_token_tells_a_guesser_nothing(broker, link) -> None:
    """That an invitation was used is told only to whoever has its secret."""
    token = broker.invite()
    join(token, link)
    broker.invite("other")

    with pytest.raises(PermissionRefused, match="no such invitation"):
        join(dataclasses.replace(token, secret=bytes(32)), link + "2")


def test_a_revoked_invitation_is_void(broker, link) -> None:
    """An invitation that was withdrawn by revoking the consumer is void."""
    token = broker.invite()
    broker.invite("other")
    broker.ask("consumer.revoke", name="web01")

    with pytest.raises(PermissionRefused, match="withdrawn"):
        join(token, link)


class Impostor:
    """A TLS server with a CA of its own that keeps every byte it is sent."""

    def __init__(self, directory) -> None:
        pair = pki.new_ca("well", time.time())
        (directory / "fake.pem").write_bytes(pair.certificate_pem + pair.key_pem)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(directory / "fake.pem")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.plain, self.raw = b"", b""
        self.shook_hands = False
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        peer, _ = self.listener.accept()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self.context.wrap_bio(incoming, outgoing, server_side=True)
        with peer, self.listener:
            peer.settimeout(DEADLINE_S)
            while data := _received(peer):
                self.raw += data
                incoming.write(data)
                with contextlib.suppress(ssl.SSLError):
                    if not self.shook_hands:
                        tls.do_handshake()
                        self.shook_hands = True
                    while piece := tls.read():
                        self.plain += piece
                with contextlib.suppress(OSError):
                    peer.sendall(outgoing.read())


def _received(peer: socket.socket) -> bytes:
    try:
        return peer.recv(65536)
    except ConnectionError:
        return b""


def test_a_man_in_the_middle_gets_no_secret(broker, link, tmp_path) -> None:
    """A server with another CA completes the handshake and then gets not one byte of the request."""
    impostor = Impostor(tmp_path)
    token = dataclasses.replace(broker.invite(), port=impostor.port)

    with pytest.raises(AuthenticationFailed, match="the secret was not sent"):
        join(token, link)
    impostor.thread.join()

    assert impostor.shook_hands
    assert impostor.plain == b""
    assert token.secret not in impostor.raw
    assert not os.path.exists(link)
    assert join(dataclasses.replace(token, port=broker.port), link).consumer == "web01"


def test_a_token_for_another_authority_is_refused_before_sending(broker, link) -> None:
    """A token with another hash is not sent to this broker."""
    token = dataclasses.replace(broker.invite(), ca_spki_sha256=bytes(32))

    with pytest.raises(AuthenticationFailed):
        join(token, link)
    assert status(broker, token) == "pending"


def test_an_identity_is_not_overwritten_unasked(broker, link) -> None:
    """A second join into the same directory sends nothing without force, and replaces it whole with force."""
    first = join(broker.invite(), link)
    old_key = text(first.key_path)
    token = broker.invite("web02")

    with pytest.raises(UsageError, match="there already"):
        join(token, link)
    assert status(broker, token) == "pending"
    assert join(token, link, force=True).consumer == "web02"
    assert text(first.key_path) != old_key
    assert os.listdir(os.path.dirname(link)) == ["well"]


def test_a_receipt_key_of_small_order_is_not_taken(broker, link) -> None:
    """Also when it is the second of several; with it anyone could sign anything."""
    neutral = Ed25519PublicKey.from_public_bytes((1).to_bytes(32, "little"))
    weak = neutral.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    broker.admin.site = dataclasses.replace(broker.admin.site, receipt_public_key=RECEIPT_KEY + weak)

    with pytest.raises(RemoteProtocolError, match="small order"):
        join(broker.invite(), link)
    assert not os.path.exists(link)


def test_force_replaces_identities_and_nothing_else(broker, tmp_path) -> None:
    """A directory that is no identity is never replaced, whatever is asked for."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").write_text("dear")
    token = broker.invite()

    with pytest.raises(UsageError, match="no identity"):
        join(token, str(tmp_path / "home"), force=True)
    assert (tmp_path / "home" / "letter").read_text() == "dear"
    assert status(broker, token) == "pending"


def test_a_directory_that_cannot_be_written_costs_no_invitation(broker, tmp_path) -> None:
    """The token is not spent when the identity could not be kept."""
    (tmp_path / "file").write_text("in the way")
    token = broker.invite()

    with pytest.raises(StateUnavailable):
        join(token, str(tmp_path / "file" / "well"))
    assert status(broker, token) == "pending"


def test_a_full_state_issues_nothing(broker, link) -> None:
    """When the broker cannot write that the invitation is used, the joiner gets no certificate."""
    token = broker.invite()
    broker.store._db.execute("PRAGMA query_only=ON")

    with pytest.raises(LinkUnavailable, match="cannot write its state"):
        join(token, link)
    broker.store._db.execute("PRAGMA query_only=OFF")

    assert join(token, link).consumer == "web01"


def test_nobody_listening_is_said_with_a_hint(link) -> None:
    """When nobody listens, the joiner is told what to look at, and nothing is left behind."""
    token = Token("127.0.0.1", free_port(), bytes(32), tokens.invitation_name(bytes(8)), bytes(32))

    with pytest.raises(LinkUnavailable) as caught:
        join(token, link)
    assert "last invitation ends" in (caught.value.hint or "")
    assert os.listdir(os.path.dirname(link)) == []


def test_a_silent_broker_is_given_up(link) -> None:
    """A peer that accepts and says nothing is given up at the deadline."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        token = Token("127.0.0.1", port, bytes(32), tokens.invitation_name(bytes(8)), bytes(32))
        with pytest.raises(LinkUnavailable, match="timed out"):
            join(token, link, deadline_s=0.2)  # short: nothing arrives


def raw_exchange(broker: Broker, sent: bytes) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", broker.port), DEADLINE_S) as plain,
        context.wrap_socket(plain) as peer,
    ):
        peer.sendall(sent)
        received = b""
        try:
            while piece := peer.recv(65536):
                received += piece
        except (ssl.SSLError, ConnectionError):
            pass
        return received


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff\xff\xff" + b"x" * 100,
        b"\x00\x40\x01" + b"x" * 16385,
        b"\x00\x00\x02{}",
        b"\x00\x00\x04null",
        b"\x00\x00\x03\xff\xfe\xfd",
        b"\x00\x40\x00" + b"[" * 16384,
        b'\x00\x00\x21{"v":1,"invitation":"","csr":[]}  ',
    ],
)
def test_garbage_gets_no_answer_and_the_door_lives(broker, link, sent) -> None:
    """Garbage, lies about lengths and deep nesting get not one byte of answer, and the next joiner is served."""
    token = broker.invite()

    assert raw_exchange(broker, sent) == b""
    assert join(token, link).consumer == "web01"


def test_stalled_peers_are_dropped_and_bounded(broker, link, monkeypatch) -> None:
    """Peers that connect and stall are dropped at the deadline."""
    token = broker.invite()
    with monkeypatch.context() as quick:
        quick.setattr(enrol, "DEADLINE_S", 0.3)
        stalled = [socket.create_connection(("127.0.0.1", broker.port), DEADLINE_S) for _ in range(5)]
        ends = [_received(peer) for peer in stalled]
    for peer in stalled:
        peer.close()

    assert ends == [b""] * 5
    assert join(token, link).consumer == "web01"


def flood(broker: Broker, addresses: int, each: int) -> list[socket.socket]:
    """Open connections that say nothing, from several addresses of this machine."""
    places = [f"127.0.{n}.1" for n in range(addresses)] * each
    return [socket.create_connection(("127.0.0.1", broker.port), 20, (place, 0)) for place in places]


@pytest.mark.parametrize(("addresses", "each"), [(6, 11), (6, 40), (1, 100)])
def test_idle_connections_keep_no_machine_out(broker, link, addresses, each) -> None:
    """A machine joins while a flood holds every place that there is."""
    token = broker.invite()
    held = flood(broker, addresses, each)
    try:
        assert join(token, link).consumer == "web01"
    finally:
        for peer in held:
            peer.close()


def test_the_places_are_bounded(broker) -> None:
    """One connection more than there are places costs the quietest its place."""
    broker.invite()
    held = flood(broker, 2, enrol.MAX_AT_ONCE // 2)
    held += flood(broker, 2, 1)
    held[0].settimeout(DEADLINE_S)
    assert held[0].recv(1) == b""
    assert len(broker.door._inside) <= enrol.MAX_AT_ONCE
    for peer in held:
        peer.close()


def joining(host: str, now: float) -> JoiningPeer:
    """A connection as the door sees it; no test here reads its socket."""
    return JoiningPeer(socket.socket(), host, now)


@pytest.mark.parametrize(
    ("crowd", "single"),
    [
        ([f"192.0.2.{n}" for n in range(8)], "198.51.100.1"),
        ([f"2001:db8:0:{n:x}::1" for n in range(8)], "2001:db8:1::1"),
        (["192.0.2.1"] * 8, "192.0.2.2"),
        (["2001:db8::1:1", "2001:db8::2:2"] * 4, "2001:db8:0:1::1"),
    ],
)
def test_a_crowd_of_one_network_loses_its_own(crowd: list[str], single: str) -> None:
    """An IPv4 /24 or IPv6 /48 with the most loses one, in it the address or /64 with the most."""
    first = joining(single, 0.0)
    peers = [first, *(joining(host, 1.0 + n) for n, host in enumerate(crowd))]
    assert one_too_many(peers, 20.0) is peers[1]
    for peer in peers:
        peer.peer.close()


def test_who_waits_for_us_is_not_dropped_for_the_idle() -> None:
    """Of equal addresses the silent one goes, however old the others are."""
    peers = [joining(f"10.{n}.0.1", float(n)) for n in range(3)]
    peers[0].waits_for_us = True
    assert one_too_many(peers, 20.0) is peers[1]
    for peer in peers:
        peer.peer.close()


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.1", "192.0.2.0/24"),
        ("::ffff:192.0.2.1", "192.0.2.0/24"),
        ("2001:db8::1:2:3:4", "2001:db8::/48"),
        ("fe80::1%eth0", "fe80::/48"),
    ],
)
def test_a_network_is_an_ipv4_24_or_an_ipv6_48(host, network) -> None:
    """One network counts as one, however many addresses it has."""
    assert network_of(host) == network
