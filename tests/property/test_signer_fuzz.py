"""Any input from a compromised broker to the signer."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.errors import RemoteProtocolError
from drawwell.roles.signer_process import SignerRole
from drawwell.wire import signer_messages as messages

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)
)
OPS = ("public", "certify", "serve", "adopt", "rotate", "export-root", "import-root", "describe")


@pytest.fixture(scope="module")
def role(tmp_path_factory: pytest.TempPathFactory) -> SignerRole:
    folder: Path = tmp_path_factory.mktemp("signer")
    return SignerRole(str(folder), "well")


@given(payload=st.binary(max_size=200) | st.binary(max_size=200).map(lambda data: b"S" + data))
def test_any_bytes_get_an_answer(role: SignerRole, payload: bytes) -> None:
    """No input ends the signer."""
    assert role.answer(payload, 4242)


@given(fields=st.dictionaries(st.sampled_from(("csr", "consumer", "names", "what", "pem")), JSON),
       op=st.sampled_from(OPS))  # fmt: skip
def test_any_arguments_get_an_answer(role: SignerRole, fields: dict[str, object], op: str) -> None:
    """No request's arguments end the signer."""
    assert role.answer(messages.write_object(**{**fields, "op": op}), 4242)


@given(texts=st.lists(st.binary(min_size=1, max_size=50), max_size=messages.MOST_TEXTS))
def test_texts_read_back(texts: list[bytes]) -> None:
    """Texts to sign arrive unchanged."""
    assert messages.read_texts(messages.write_texts(texts)) == texts


@given(data=st.binary(max_size=300))
def test_texts_of_any_bytes_are_bounded(data: bytes) -> None:
    """The parsed texts are never larger than the input."""
    with suppress(RemoteProtocolError):
        assert sum(map(len, messages.read_texts(b"S" + data))) <= len(data)


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=6), st.lists(st.integers(0, 80), max_size=8))
def test_payloads_do_not_depend_on_the_cut(payloads: list[bytes], sizes: list[int]) -> None:
    """A stream of messages in any chunks gives the same payloads."""
    stream, buffer, found = b"".join(map(messages.frame, payloads)), bytearray(), []
    for size in (*sizes, len(stream)):
        buffer += stream[:size]
        stream = stream[size:]
        while (payload := messages.take_payload(buffer)) is not None:
            found.append(payload)
    assert found == payloads
    assert not buffer
