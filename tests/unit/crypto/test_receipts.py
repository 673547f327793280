"""Receipts: contents, signers, and the bytes that they prove."""

import base64
import json
from dataclasses import asdict, replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from drawwell.crypto.receipts import (
    ReceiptBody,
    ReceiptSigner,
    ReceiptSource,
    read_receipt,
    receipt_key_from_seed,
    verify_receipt,
)
from drawwell.entropy.blocks import DrawClass, NoiseOrigin
from drawwell.errors import AuthenticationFailed, RemoteProtocolError
from drawwell.reports import Firmware, SourceIdentity, SourceState

DATA, KEY = bytes(range(64)), bytes(range(32))
SIGNER = ReceiptSigner(receipt_key_from_seed(b"\x01" * 32))
OTHER = ReceiptSigner(receipt_key_from_seed(b"\x02" * 32))
SOURCE = ReceiptSource("onerng0", "onerng", True, "raw noise", str(Firmware.VERIFIED), "healthy", 3)
BODY = ReceiptBody.of(
    broker="well-1", consumer="web01", sources=(SOURCE,), draw_class=DrawClass.FULL, serial=42,
    time=1_800_000_000.9, data=DATA, key=KEY,
)  # fmt: skip
RECEIPT = SIGNER.sign(BODY)


def test_verified_receipt_is_what_was_signed() -> None:
    """Verification returns the signed body and the key's ID."""
    body = verify_receipt(RECEIPT, SIGNER.public_key, DATA, KEY)

    assert body == replace(BODY, key_id=SIGNER.key_id)
    assert (body.n_bytes, body.time_s) == (64, 1_800_000_000)


def test_receipt_is_one_canonical_line() -> None:
    """The line is sorted, without extra spaces, and always the same."""
    document = json.loads(RECEIPT)

    assert json.dumps(document, sort_keys=True, separators=(",", ":")).encode() == RECEIPT
    assert SIGNER.sign(BODY) == RECEIPT


def test_receipt_does_not_hold_the_bytes() -> None:
    """The receipt contains neither the granted bytes nor the HMAC key."""
    for secret in (DATA, KEY):
        assert secret not in RECEIPT
        assert secret.hex().encode() not in RECEIPT
        assert base64.b64encode(secret) not in RECEIPT


def test_wrong_public_key_is_reported() -> None:
    """Another broker's key does not verify it; the error names both keys."""
    with pytest.raises(AuthenticationFailed, match=f"{SIGNER.key_id}.*{OTHER.key_id}"):
        verify_receipt(RECEIPT, OTHER.public_key)


@pytest.mark.parametrize(
    "field", ["broker", "consumer", "serial", "n_bytes", "time_s", "data_hmac", "draw_class"]
)
def test_changed_field_breaks_the_signature(field: str) -> None:
    """No field can be changed, even if the line stays valid JSON."""
    document = json.loads(RECEIPT)
    changed = {"data_hmac": "0" * 64, "draw_class": "drbg"}
    value = document["body"][field]
    document["body"][field] = changed.get(field, value + 1 if isinstance(value, int) else value + "x")

    with pytest.raises(AuthenticationFailed, match="the signature is wrong"):
        verify_receipt(canonical(document), SIGNER.public_key)


def test_source_cannot_lose_that_it_is_simulated() -> None:
    """A simulated source is marked in every genuine receipt."""
    with pytest.raises(AuthenticationFailed):
        verify_receipt(RECEIPT.replace(b'"simulated":true', b'"simulated":false'), SIGNER.public_key)


@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"\0", bytes(64), b""])
def test_other_data_differs_from_a_wrong_signature(data: bytes) -> None:
    """Bytes that were not granted have a separate error."""
    with pytest.raises(AuthenticationFailed, match="the signature is valid, but"):
        verify_receipt(RECEIPT, SIGNER.public_key, data, KEY)


def test_other_hmac_key_does_not_match() -> None:
    """The granted bytes under another key do not match."""
    with pytest.raises(AuthenticationFailed, match="other data"):
        verify_receipt(RECEIPT, SIGNER.public_key, DATA, bytes(32))


def test_lied_length_does_not_pass() -> None:
    """A signed length that differs from the data's is refused."""
    lying = SIGNER.sign(replace(BODY, n_bytes=65))

    with pytest.raises(AuthenticationFailed, match="other data"):
        verify_receipt(lying, SIGNER.public_key, DATA, KEY)


@pytest.mark.parametrize(("data", "key"), [(DATA, None), (None, KEY), (DATA, b"short")])
def test_data_and_key_come_together(data: bytes | None, key: bytes | None) -> None:
    """Giving only the data or only the HMAC key is a caller's mistake."""
    with pytest.raises(ValueError, match=r"together|32 bytes"):
        verify_receipt(RECEIPT, SIGNER.public_key, data, key)


def canonical(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def with_body(**fields: object) -> bytes:
    document = json.loads(RECEIPT)
    document["body"] |= fields
    return canonical(document)


def signature_of(text: str) -> bytes:
    return canonical(json.loads(RECEIPT) | {"signature": text})


GOOD_SIGNATURE = json.loads(RECEIPT)["signature"]
MALFORMED = {
    "nothing": b"",
    "not json": b"receipt",
    "not utf-8": b'{"\xff":1}',
    "json of another kind": b"[]",
    "deep nesting": b"[" * 16_000,
    "huge number": b'{"body":' + b"9" * 5000 + b"}",
    "too long": RECEIPT.ljust(16_385),
    "spaces": RECEIPT.replace(b",", b", ", 1),
    "two newlines": RECEIPT + b"\n\n",
    "carriage return": RECEIPT + b"\r\n",
    "byte order mark": b"\xef\xbb\xbf" + RECEIPT,
    "escaped letters": RECEIPT.replace(b"well-1", b"well\\u002d1"),
    "duplicate field": RECEIPT.replace(b'"broker":', b'"broker":"a","broker":'),
    "order of fields": json.dumps(
        dict(reversed(json.loads(RECEIPT).items())), separators=(",", ":")
    ).encode(),
    "field too many": with_body(more=1),
    "field missing": canonical({"body": json.loads(RECEIPT)["body"]}),
    "body is no object": canonical({"body": [], "signature": GOOD_SIGNATURE}),
    "other format": with_body(format="drawwell-receipt/3"),
    "old format with new fields": with_body(format="drawwell-receipt/1"),
    "unknown class": with_body(draw_class="raw"),
    "number as text": with_body(serial="42"),
    "truth as number": with_body(serial=True),
    "number too large": with_body(serial=2**63),
    "number below zero": with_body(n_bytes=-1),
    "fraction": with_body(time_s=1.5),
    "not a number": with_body(time_s=float("nan")),
    "control character": with_body(broker="well\x1b[2J"),
    "lone surrogate": RECEIPT.replace(b"well-1", b"\\ud800"),
    "long text": with_body(broker="w" * 256),
    "short hmac": with_body(data_hmac="00"),
    "capital digits": with_body(data_hmac="A" * 64),
    "source is no object": with_body(sources=[1]),
    "source lacks fields": with_body(sources=[{"name": "x"}]),
    "source of another type": with_body(sources=[asdict(SOURCE) | {"simulated": 1}]),
    "signature not base64": signature_of("!" * 88),
    "signature too short": signature_of(base64.b64encode(bytes(63)).decode()),
    "signature with loose bits": signature_of(GOOD_SIGNATURE[:-3] + chr(ord(GOOD_SIGNATURE[-3]) + 1) + "=="),
}


@pytest.mark.parametrize("receipt", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_receipt_is_refused_before_its_signature(receipt: bytes) -> None:
    """Any other encoding is not a receipt, whatever the signature."""
    with pytest.raises(RemoteProtocolError, match="not a receipt") as caught:
        verify_receipt(receipt, SIGNER.public_key)
    assert not isinstance(caught.value, AuthenticationFailed)


def test_one_newline_at_the_end_is_no_part_of_it() -> None:
    """A receipt saved by an editor or `echo` still verifies."""
    assert verify_receipt(RECEIPT + b"\n", SIGNER.public_key).serial == 42


def test_read_receipt_verifies_nothing() -> None:
    """A receipt that cannot be verified can still be displayed."""
    assert read_receipt(OTHER.sign(BODY)).key_id == OTHER.key_id


@pytest.mark.parametrize("change", [{"broker": "a\nb"}, {"serial": 2**63}, {"consumer": "x" * 256}])
def test_signer_signs_only_valid_fields(change: dict) -> None:
    """A body that readers would reject is not signed."""
    with pytest.raises(ValueError, match=r"is not|is out of range"):
        SIGNER.sign(replace(BODY, **change))


def test_signer_keeps_the_limit() -> None:
    """More sources than fit are refused when signing."""
    with pytest.raises(ValueError, match="limit is 16384"):
        SIGNER.sign(replace(BODY, sources=(SOURCE,) * 100))


def test_names_outside_ascii_are_kept() -> None:
    """A broker can have any name that its owner chooses."""
    assert verify_receipt(
        SIGNER.sign(replace(BODY, broker='Größe «1» "\\')), SIGNER.public_key
    ).broker.startswith("Gr")


def test_receipt_source_has_what_the_bytes_record() -> None:
    """All fields come from the bytes' record, but the state is current."""
    identity = SourceIdentity(
        "stick", "onerng", "/dev/ttyACM0", simulated=True, firmware=Firmware.VERIFIED, firmware_detail="SHA-1"
    )
    origin = NoiseOrigin(identity, 7)

    assert ReceiptSource.of(origin, SourceState.OFF) == ReceiptSource(
        "stick", "onerng", True, "raw noise", f"{Firmware.VERIFIED} (SHA-1)", "off", 7
    )


OLD_RECEIPT = (
    b'{"body":{"broker":"well-1","consumer":"web01","data_hmac":"173206781c3b828a0dc2a716fe0ddb5'
    b'e6e56ec171170952ff6b3f4de44fa18d7","draw_class":"full","format":"drawwell-receipt/1","key_'
    b'id":"fd110d301d2f077de1414b8f99f441b1","n_bytes":64,"serial":42,"sources":[{"firmware":"im'
    b'age signature verified, as reported by the device","health_epoch":3,"kind":"onerng","name"'
    b':"onerng0","noise":"raw noise","simulated":true,"state":"healthy"}],"time_s":1800000000},"'
    b'signature":"b4bnwLE7oWngzHOAd/4VIn+XnIbS+G/MEYw97wtmTRNOoLY4Vd/JCp1X9es9b2RUdKhEdkB6EQcL1f'
    b'mrw+LXDg=="}'
)
"""A drawwell-receipt/1 that an older broker signed for the same bytes."""


def test_a_receipt_of_the_old_form_verifies() -> None:
    """drawwell-receipt/1 is still valid, without the number of sources."""
    body = verify_receipt(OLD_RECEIPT, SIGNER.public_key, DATA, KEY)

    assert (body.format, body.serial, body.sources) == ("drawwell-receipt/1", 42, (SOURCE,))
    assert body.combined == 0


def test_the_forms_are_not_mixed() -> None:
    """An old receipt with a new field, or a new one without it, is refused."""
    old, new = json.loads(OLD_RECEIPT), json.loads(RECEIPT)
    old["body"]["combined"] = 2
    del new["body"]["combined"]
    for document in (old, new):
        with pytest.raises(RemoteProtocolError, match="the fields must be"):
            verify_receipt(canonical(document), SIGNER.public_key)


def test_keys_of_another_kind_are_refused() -> None:
    """Only Ed25519 signs and verifies receipts."""
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    with pytest.raises(ValueError, match="not an Ed25519 key"):
        ReceiptSigner(private)
    with pytest.raises(ValueError, match="not an Ed25519 key"):
        verify_receipt(RECEIPT, public)


@pytest.mark.parametrize("pem", [b"", b"junk", SIGNER.public_key])
def test_what_is_no_private_key_is_refused(pem: bytes) -> None:
    """A file without a private key cannot create a signer."""
    with pytest.raises(ValueError, match="not a PEM private key"):
        ReceiptSigner(pem)


def test_what_is_no_public_key_is_refused() -> None:
    """A private key is not accepted as a public key."""
    with pytest.raises(ValueError, match="not a PEM public key"):
        verify_receipt(RECEIPT, receipt_key_from_seed(b"\x01" * 32))


def test_receipt_key_is_that_of_its_seed() -> None:
    """The seed of RFC 8032, 7.1, gives the first key there."""
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    der = base64.b64decode(
        "".join(ReceiptSigner(receipt_key_from_seed(seed)).public_key.decode().splitlines()[1:-1])
    )

    assert der[-32:].hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"


def test_repr_of_signer_shows_no_key() -> None:
    """The repr does not contain the private key."""
    assert "\\x01" not in repr(SIGNER)
    assert "01" * 8 not in repr(SIGNER)


def test_a_receipt_names_where_the_audit_log_stood() -> None:
    """The audit log's length and head are part of the signed body."""
    signer = ReceiptSigner(receipt_key_from_seed(bytes(32)))
    body = replace(read_receipt(RECEIPT), audit_count=7, audit_head="ab" * 32)
    read = verify_receipt(signer.sign(body), signer.public_key)
    assert (read.audit_count, read.audit_head) == (7, "ab" * 32)
