"""The signer's answers, permissions, limits and log."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from drawwell.crypto import pki
from drawwell.errors import RemoteProtocolError
from drawwell.roles.signer_process import CERTIFICATES_AT_ONCE, SignerRole
from drawwell.wire import signer_messages as messages

CSR = pki.new_key_and_csr("web01")[1].decode()
NOW = 1_700_000_000.0
BROKER = 4242


class Desk:
    """A signer without a socket, with an adjustable clock."""

    def __init__(self, folder: Path) -> None:
        self.now, self.folder = NOW, folder
        folder.mkdir(mode=0o700)
        self.role = SignerRole(str(folder), "well", lambda: self.now)

    def ask(self, op: str, uid: int = BROKER, **arguments: Any) -> dict[str, Any]:
        return messages.read_object(self.role.answer(messages.write_object(op=op, **arguments), uid))

    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in (self.folder / "signer.jsonl").read_text().splitlines()]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "keys")


@pytest.mark.parametrize("op", ["describe", "rotate", "export-root", "forget-root", "import-root"])
def test_the_brokers_user_may_not_do_what_is_the_operators(desk: Desk, op: str) -> None:
    """Only root can rotate keys, and only root can export the root's key."""
    assert desk.ask(op, what="root", pem="")["error"] == "refused"
    assert "error" not in desk.ask("describe", uid=os.geteuid())


def test_a_certificate_is_in_the_log_before_it_leaves(desk: Desk) -> None:
    """The log has the consumer, the serial number and the key."""
    certificate = desk.ask("certify", csr=CSR, consumer="web01")["pem"].encode()
    line = json.loads((desk.folder / "signer.jsonl").read_text().splitlines()[-1])
    facts = pki.read_certificate(certificate)
    assert (line["name"], line["serial"], line["key"]) == (
        "web01", f"{facts.serial:x}", facts.spki_sha256.hex()
    )  # fmt: skip


def test_a_broker_that_was_taken_over_gets_a_bounded_number(desk: Desk) -> None:
    """A broker gets a burst, enough for an outage, and then 20 per second."""
    desk.role._allowance = 2.0
    answers = [desk.ask("certify", csr=CSR, consumer="web01") for _ in range(3)]
    assert ["error" in each for each in answers] == [False, False, True]
    desk.now += 0.1
    assert "error" not in desk.ask("certify", csr=CSR, consumer="web01")
    desk.now += 1e6
    desk.ask("certify", csr=CSR, consumer="web01")
    assert desk.role._allowance == CERTIFICATES_AT_ONCE - 1


def test_keys_are_adopted_once_and_before_there_are_others(desk: Desk) -> None:
    """A broker cannot replace existing keys."""
    empty = {"ca_certificate": "", "ca_key": "", "receipt_key": ""}
    assert desk.ask("adopt", **empty) == {}
    assert desk.ask("adopt", **empty)["error"] == "usage"
    assert SignerRole(str(desk.folder), "well").answer(messages.write_object(op="adopt", **empty), 0)[:9] == (
        b'{"error":'
    )
    assert "keys adopted from the broker" in desk.events()


@pytest.mark.parametrize(
    "payload",
    [b"{}", b"[]", b"\xff", b"S\0\0\0\1x", b"S\0\0", b'{"op":"certify"}', b'{"op":"serve","csr":"","names":"a"}',
     b'{"op":"certify","csr":"x","consumer":"../x"}', b'{"op":"nonsense"}', b'{"op":["certify"]}'],
)  # fmt: skip
def test_a_bad_request_is_answered_and_changes_nothing(desk: Desk, payload: bytes) -> None:
    """Each bad request gets an error that names the fault."""
    answer = messages.read_object(desk.role.answer(payload, BROKER))
    assert answer["error"] in {"value", "usage"}
    assert answer["message"]


def test_texts_are_signed_in_batches(desk: Desk) -> None:
    """A batch signs all its texts; their number is logged each minute."""
    texts = [b'{"format":"drawwell-audit-head/1","n":%d}' % number for number in range(3)]
    answer = desk.role.answer(messages.write_texts(texts), BROKER)
    assert len(set(messages.read_signatures(answer, 3))) == 3
    with pytest.raises(RemoteProtocolError):
        messages.read_signatures(answer, 2)
    desk.role.minute()
    assert desk.events()[-1] == "signed"
