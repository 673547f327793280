"""wire/enrolment.py: messages read back; other input is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.errors import RemoteProtocolError
from drawwell.wire.enrolment import (
    LIMIT_BYTES,
    JoinRefusal,
    JoinReply,
    JoinRequest,
    body_length,
    encode_message,
    parse_reply,
    parse_request,
)

PRINTABLE = st.characters(min_codepoint=32, max_codepoint=126)
TEXT = st.text(PRINTABLE, max_size=200)
PEM = st.text(PRINTABLE | st.just("\n"), max_size=200)
REQUESTS = st.builds(JoinRequest, invitation=TEXT, secret=st.binary(max_size=64), csr=PEM)
ADDRESSES = st.lists(TEXT, min_size=1, max_size=4).map(tuple)
REPLIES = st.builds(JoinReply, TEXT, PEM, PEM, TEXT, ADDRESSES, TEXT, TEXT, TEXT, PEM)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(REQUESTS)
def test_a_request_reads_back_as_it_was_written(request) -> None:
    """The broker parses the joiner's request, after its length."""
    message = encode_message(request)

    assert body_length(message[:3]) == len(message) - 3
    assert parse_request(message[3:]) == request


@given(REPLIES | st.builds(JoinRefusal, TEXT, TEXT))
def test_a_reply_reads_back_as_it_was_written(reply) -> None:
    """The joiner parses the broker's reply."""
    assert parse_reply(encode_message(reply)[3:]) == reply


@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_anything_else_is_a_protocol_error(body) -> None:
    """Other bytes and JSON raise RemoteProtocolError."""
    for parse in (parse_request, parse_reply):
        with pytest.raises(RemoteProtocolError):
            parse(body)


@given(REPLIES, st.data())
def test_a_reply_with_a_field_changed_parses_or_is_refused(reply, data) -> None:
    """A reply with a changed or missing field is valid or refused."""
    fields = json.loads(encode_message(reply)[3:])
    name = data.draw(st.sampled_from(sorted(fields)))
    value = data.draw(JSON)
    changed = json.dumps({**fields, name: value}).encode()
    try:
        parsed = parse_reply(changed)
    except RemoteProtocolError:
        return
    assert isinstance(value, int | str | list)
    assert isinstance(parsed, JoinReply)


@pytest.mark.parametrize(
    ("field", "value"),
    [("secret", "AAAA\n*"), ("secret", "A"), ("invitation", "caf\u00e9"), ("csr", "\u2028")],
)
def test_a_request_has_one_spelling(field, value) -> None:
    """A secret with invalid letters, or non-ASCII text, is refused."""
    fields = json.loads(encode_message(JoinRequest("id", b"secret", "csr"))[3:])

    with pytest.raises(RemoteProtocolError):
        parse_request(json.dumps({**fields, field: value}).encode())


@pytest.mark.parametrize("prefix", [b"", b"\0\0", (LIMIT_BYTES + 1).to_bytes(3, "big"), b"\xff\xff\xff"])
def test_a_length_beyond_the_limit_is_refused_before_it_is_read(prefix) -> None:
    """A truncated or excessive length is refused by itself."""
    with pytest.raises(RemoteProtocolError):
        body_length(prefix)


def test_a_request_hides_its_secret() -> None:
    """The repr of a request does not show its secret."""
    assert "secret" not in repr(JoinRequest("id", b"very secret", "csr"))
