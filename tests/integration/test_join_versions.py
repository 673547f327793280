"""The reply to a joiner, in both forms: old joiners and old brokers go on."""

import json

import pytest

from drawwell.crypto import pki
from drawwell.errors import AuthenticationFailed
from drawwell.links.identity import check_certificate
from drawwell.wire.enrolment import JoinReply, JoinRequest, encode_message, parse_reply, parse_request

NOW = 1_790_000_000.0
CA, OTHER = pki.new_ca("well", NOW), pki.new_ca("other", NOW)
KEY, CSR = pki.new_key_and_csr("web01")
LEAF = pki.issue_client(CA, CSR, "web01", NOW)


def reply(version: int) -> JoinReply:
    """A reply with two blocks in each PEM."""
    two = (CA.certificate_pem + OTHER.certificate_pem).decode()
    addresses = ("well:55000", "spring:55000")
    return JoinReply("web01", LEAF.decode() + two, two, "well", addresses, "", "", "full", two, version)


def test_a_joiner_of_the_first_release_reads_its_reply() -> None:
    """It sends no `accepts`, and gets single blocks in known fields."""
    fields = json.loads(encode_message(JoinRequest("id", b"x", "csr"))[3:])
    del fields["accepts"]
    assert parse_request(json.dumps(fields).encode()).accepts == 1
    old = json.loads(encode_message(reply(1))[3:])
    assert old.keys() == {*json.loads(encode_message(reply(2))[3:])}
    assert (old["v"], old["certificate"]) == (1, LEAF.decode())
    assert old["ca_certificate"] == old["receipt_public_key"] == CA.certificate_pem.decode()


def test_a_broker_of_the_first_release_reads_the_request() -> None:
    """The request keeps its version, and what it adds is looked over there."""
    fields = json.loads(encode_message(JoinRequest("id", b"x", "csr"))[3:])
    assert fields == {"v": 1, "invitation": "id", "secret": "eA==", "csr": "csr", "accepts": 2}


def test_the_second_form_has_room_for_more() -> None:
    """Chain, authorities, addresses and receipt keys arrive whole."""
    assert parse_reply(encode_message(reply(2))[3:]) == reply(2)


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
    """Each certificate is issued by the next, the last by an authority."""
    if good:
        check_certificate(chain, KEY, authorities, "web01")
    else:
        with pytest.raises(AuthenticationFailed):
            check_certificate(chain, KEY, authorities, "web01")
