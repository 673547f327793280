"""The parser of receipts with any input."""

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drawwell.crypto.receipts import (
    ReceiptBody,
    ReceiptSigner,
    ReceiptSource,
    receipt_key_from_seed,
    verify_receipt,
)
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import RemoteProtocolError
from support.examples import examples

SIGNER = ReceiptSigner(receipt_key_from_seed(bytes(32)))
texts = st.text(st.characters(codec="utf-8"), max_size=255).filter(str.isprintable)
numbers = st.integers(0, 2**63 - 1)
sources = st.builds(ReceiptSource, texts, texts, st.booleans(), texts, texts, texts, numbers)
bodies = st.builds(
    ReceiptBody, broker=texts, consumer=texts, sources=st.lists(sources, max_size=3).map(tuple),
    draw_class=st.sampled_from(DrawClass), n_bytes=numbers, serial=numbers, time_s=numbers,
    data_hmac=st.binary(min_size=32, max_size=32).map(bytes.hex),
)  # fmt: skip
RECEIPT = SIGNER.sign(
    ReceiptBody.of(
        broker="b", consumer="c", sources=(ReceiptSource("n", "k", False, "r", "f", "s", 1),),
        draw_class=DrawClass.DRBG, serial=1, time=1, data=b"d", key=bytes(32),
    )
)  # fmt: skip
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["body", "signature", "serial", "sources", "name"]), inner)
    ),
)


@given(body=bodies)
@settings(max_examples=examples(100), deadline=None)
def test_whatever_is_signed_reads_back(body: ReceiptBody) -> None:
    """Signing and parsing do not change a valid body."""
    read = verify_receipt(SIGNER.sign(body), SIGNER.public_key)

    assert (read.broker, read.sources, read.serial, read.data_hmac) == (
        body.broker, body.sources, body.serial, body.data_hmac,
    )  # fmt: skip


@given(junk=st.binary(max_size=200) | anything.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=examples(500), deadline=None)
def test_junk_raises_the_named_error(junk: bytes) -> None:
    """Junk raises only the error for a file that is not a receipt."""
    with pytest.raises(RemoteProtocolError):
        verify_receipt(junk, SIGNER.public_key)


@given(at=st.integers(0, len(RECEIPT) - 1), cut=st.integers(0, 3), put=st.binary(max_size=3))
@settings(max_examples=examples(500), deadline=None)
def test_no_edited_receipt_verifies(at: int, cut: int, put: bytes) -> None:
    """Removing, changing or adding a few bytes is detected."""
    edited = RECEIPT[:at] + put + RECEIPT[at + cut :]

    with suppress(RemoteProtocolError):
        verify_receipt(edited, SIGNER.public_key)
        assert edited.removesuffix(b"\n") == RECEIPT


@pytest.mark.slow
@given(field=st.sampled_from(sorted(json.loads(RECEIPT)["body"])), value=anything)
@settings(max_examples=examples(300), deadline=None)
def test_no_field_of_another_value_verifies(field: str, value: object) -> None:
    """A changed value in any field is refused."""
    document = json.loads(RECEIPT)
    if document["body"][field] == value and type(document["body"][field]) is type(value):
        return
    document["body"][field] = value
    with pytest.raises(RemoteProtocolError):
        verify_receipt(
            json.dumps(document, sort_keys=True, separators=(",", ":")).encode(), SIGNER.public_key
        )
