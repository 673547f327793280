"""The joining side: hostile brokers and unwritable directories."""

import contextlib
import dataclasses
import os
import socket
import ssl
import threading
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from drawwell.crypto import pki, tokens
from drawwell.crypto.tokens import Token
from drawwell.enrolment.key_ring import KeyRing
from drawwell.errors import (
    AuthenticationFailed,
    LinkUnavailable,
    RemoteProtocolError,
    StateUnavailable,
    UsageError,
)
from drawwell.links.enrol import join
from drawwell.testing.waiting import DEADLINE_S
from support.enrolling import Broker, free_port, received, status, text


@pytest.fixture
def broker(tmp_path):
    with Broker(str(tmp_path / "broker")).running() as broker:
        yield broker


@pytest.fixture
def link(tmp_path):
    return str(tmp_path / "links" / "well")


class Impostor:
    """A TLS server with its own CA that stores all received bytes."""

    def __init__(self, directory, shown: bytes = b"", times: int = 1) -> None:
        pair = pki.new_ca("well", time.time())
        (directory / "fake.pem").write_bytes(shown or pair.certificate_pem + pair.key_pem)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(directory / "fake.pem")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.plain, self.raw = b"", b""
        self.shook_hands = False
        self.thread = threading.Thread(target=self._run, args=(times,))
        self.thread.start()

    def _run(self, times: int) -> None:
        with self.listener:
            for _ in range(times):
                self._serve()

    def _serve(self) -> None:
        peer, _ = self.listener.accept()
        self.shook_hands = False
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self.context.wrap_bio(incoming, outgoing, server_side=True)
        with peer:
            peer.settimeout(DEADLINE_S)
            while data := received(peer):
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


@pytest.mark.parametrize("whose", ["a consumer", "the TLS door"])
def test_another_certificate_of_the_broker_gets_no_secret(broker, link, tmp_path, whose: str) -> None:
    """A certificate with the right root but another purpose or name fails."""
    key, csr = pki.new_key_and_csr("web01")
    ring = KeyRing(str(tmp_path / "broker" / "pki"), "well", time.time())
    leaf = (
        ring.certify(csr, "web01", time.time())
        if whose == "a consumer"
        else ring.serve(csr, ["127.0.0.1"], time.time())
    )
    impostor = Impostor(tmp_path, leaf + ring.public().roots + key, times=2)
    token = dataclasses.replace(broker.invite(), port=impostor.port)
    with pytest.raises((AuthenticationFailed, LinkUnavailable)):
        join(token, link)
    impostor.thread.join()
    assert impostor.plain == b""


def test_a_man_in_the_middle_gets_no_secret(broker, link, tmp_path) -> None:
    """A server with another CA receives no byte of the request."""
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
    """Joining again into a directory requires force, and replaces it whole."""
    first = join(broker.invite(), link)
    old_key = text(first.key_path)
    token = broker.invite("web02")

    with pytest.raises(UsageError, match="already exists"):
        join(token, link)
    assert status(broker, token) == "pending"
    assert join(token, link, force=True).consumer == "web02"
    assert text(first.key_path) != old_key
    assert os.listdir(os.path.dirname(link)) == ["well"]


def test_a_receipt_key_of_small_order_is_not_taken(broker, link) -> None:
    """A receipt key of small order is refused, even as the second of several."""
    neutral = Ed25519PublicKey.from_public_bytes((1).to_bytes(32, "little"))
    weak = neutral.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    public = broker.authority.public
    receipt_keys = public.receipt_key + weak.encode()
    broker.authority._public = dataclasses.replace(public, receipt_key=receipt_keys)

    with pytest.raises(RemoteProtocolError, match="small order"):
        join(broker.invite(), link)
    assert not os.path.exists(link)


def test_force_replaces_identities_and_nothing_else(broker, tmp_path) -> None:
    """A directory without an identity is never replaced."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").write_text("dear")
    token = broker.invite()

    with pytest.raises(UsageError, match="not an identity"):
        join(token, str(tmp_path / "home"), force=True)
    assert (tmp_path / "home" / "letter").read_text() == "dear"
    assert status(broker, token) == "pending"


def test_a_directory_that_cannot_be_written_costs_no_invitation(broker, tmp_path) -> None:
    """The token is not used if the identity could not be stored."""
    (tmp_path / "file").write_text("in the way")
    token = broker.invite()

    with pytest.raises(StateUnavailable):
        join(token, str(tmp_path / "file" / "well"))
    assert status(broker, token) == "pending"


def test_a_port_without_a_listener_has_a_hint(link) -> None:
    """If no broker is listening, the error has a hint, and no files remain."""
    token = Token("127.0.0.1", free_port(), bytes(32), tokens.invitation_name(bytes(8)), bytes(32))

    with pytest.raises(LinkUnavailable) as caught:
        join(token, link)
    assert "last invitation ends" in (caught.value.hint or "")
    assert os.listdir(os.path.dirname(link)) == []


def test_a_silent_broker_is_given_up(link) -> None:
    """A broker that accepts but stays silent causes an error at the deadline."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        token = Token("127.0.0.1", port, bytes(32), tokens.invitation_name(bytes(8)), bytes(32))
        with pytest.raises(LinkUnavailable, match="timed out"):
            join(token, link, deadline_s=0.2)  # short: nothing arrives
