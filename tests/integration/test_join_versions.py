"""Both forms of the reply, for old joiners and old brokers."""

import json

import pytest

from drawwell.crypto import pki
from drawwell.errors import AuthenticationFailed, RemoteProtocolError
from drawwell.links.identity import check_certificate
from drawwell.wire.brokers import NONE_KNOWN, KnownBroker, KnownBrokers
from drawwell.wire.enrolment import JoinReply, JoinRequest, encode_message, parse_reply, parse_request

NOW = 1_790_000_000.0
CA, OTHER = pki.new_ca("well", NOW), pki.new_ca("other", NOW)
KEY, CSR = pki.new_key_and_csr("web01")
LEAF = pki.issue_client(CA, CSR, "web01", NOW)
FLEET = KnownBrokers("example", (KnownBroker("site-a", ("a:55000",)), KnownBroker("site-b", ("b:55000",))))


def reply(version: int) -> JoinReply:
    """Return a reply with two blocks in each PEM field."""
    two = (CA.certificate_pem + OTHER.certificate_pem).decode()
    addresses = ("well:55000", "spring:55000")
    known = FLEET if version == 3 else NONE_KNOWN
    return JoinReply(
        "web01", LEAF.decode() + two, two, "well", addresses, "", "", "full", two, version, known
    )


def test_a_joiner_of_the_first_release_reads_its_reply() -> None:
    """An old joiner sends no `accepts`, and gets single blocks."""
    fields = json.loads(encode_message(JoinRequest("id", b"x", "csr"))[3:])
    del fields["accepts"]
    assert parse_request(json.dumps(fields).encode()).accepts == 1
    old = json.loads(encode_message(reply(1))[3:])
    assert old.keys() == {*json.loads(encode_message(reply(2))[3:])}
    assert (old["v"], old["certificate"]) == (1, LEAF.decode())
    assert old["ca_certificate"] == old["receipt_public_key"] == CA.certificate_pem.decode()


def test_a_broker_of_the_first_release_reads_the_request() -> None:
    """The request keeps its version, and an old broker ignores the new field."""
    fields = json.loads(encode_message(JoinRequest("id", b"x", "csr"))[3:])
    assert fields == {"v": 1, "invitation": "id", "secret": "eA==", "csr": "csr", "accepts": 3}


@pytest.mark.parametrize("version", [2, 3])
def test_later_forms_have_room_for_more(version: int) -> None:
    """Chain, authorities, receipt keys and all brokers are complete."""
    assert parse_reply(encode_message(reply(version))[3:]) == reply(version)


def test_a_reply_with_a_false_list_of_brokers_is_refused() -> None:
    """The error is a protocol violation by the peer."""
    fields = json.loads(encode_message(reply(3))[3:]) | {"brokers": [{"name": "a"}]}
    with pytest.raises(RemoteProtocolError, match="brokers"):
        parse_reply(json.dumps(fields).encode())


@pytest.mark.parametrize(
    ("chain", "authorities", "good"),
    [
        (LEAF, CA.certificate_pem, True),
        (LEAF, OTHER.certificate_pem + CA.certificate_pem, True),
        (LEAF + CA.certificate_pem, CA.certificate_pem, True),
        (LEAF + OTHER.certificate_pem, CA.certificate_pem + OTHER.certificate_pem, False),
        (LEAF, OTHER.certificate_pem, False),
    ],
)
def test_a_chain_leads_to_an_authority(chain: bytes, authorities: bytes, *, good: bool) -> None:
    """Each certificate is issued by the next, and the last by an authority."""
    if good:
        check_certificate(chain, KEY, authorities, "web01")
    else:
        with pytest.raises(AuthenticationFailed):
            check_certificate(chain, KEY, authorities, "web01")
