"""crypto/tokens.py: every pasting mistake has a separate error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.crypto.tokens import (
    Token,
    invitation_name,
    parse_address,
    parse_token,
    secret_hash,
    secret_matches,
)
from drawwell.errors import UsageError

SECRET = bytes(range(32))
TOKEN = Token("broker.example", 55001, bytes(32), invitation_name(b"8 bytes!"), SECRET)
TEXT = TOKEN.reveal()
HOSTS = st.sampled_from(["broker.example", "localhost", "192.0.2.1", "2001:db8::1", "::1", "a-b.c"])


@given(
    HOSTS,
    st.integers(1, 65535),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=8, max_size=8),
    st.binary(min_size=32, max_size=32),
)
def test_a_token_reads_back_as_it_was_written(host, port, spki, invitation, secret) -> None:
    """A token with any host, port and secrets parses to the same value."""
    token = Token(host, port, spki, invitation_name(invitation), secret)

    assert parse_token(token.reveal()) == token


@given(st.integers(0, len(TEXT) - 1))
def test_a_token_cut_off_anywhere_is_refused(length) -> None:
    """No prefix of a token is a token."""
    with pytest.raises(UsageError):
        parse_token(TEXT[:length])


@given(st.integers(0, len(TEXT) - 1), st.characters(codec="utf-8"))
def test_a_changed_character_never_breaks_the_parser(position, character) -> None:
    """A token with one changed character is another token or an error."""
    changed = TEXT[:position] + character + TEXT[position + 1 :]
    try:
        assert parse_token(changed).reveal() == changed
    except UsageError as error:
        assert error.hint  # noqa: PT017


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (TEXT[:-1], "secret is too short"),
        (TEXT.rsplit(".", 1)[0], "incomplete"),
        (TEXT.rsplit(".", 2)[0], "incomplete"),
        ("dw1", "incomplete"),
        (TEXT + "A", "secret differs from the printed one"),
        (TEXT[:-1] + "\u00e9", "secret differs from the printed one"),
        (TEXT[:40] + " " + TEXT[40:], "space or a line break"),
        (TEXT[:40] + "\n" + TEXT[40:], "space or a line break"),
        (TEXT.replace("dw1", "dw2", 1), "not 'dw2'"),
        ("drawwell join " + TEXT, "not an invitation token"),
        ("", "not an invitation token"),
        (TEXT.replace(":55001", ":0"), "not host:port"),
        (TEXT.replace(":55001", ":99999"), "not host:port"),
        (TEXT.replace(":55001", ":05001"), "not host:port"),
        (TEXT.replace(":55001", ":0655350"), "not host:port"),
        (TEXT.replace("broker.example", "bro ker").replace(" ", "/"), "not host:port"),
        (TEXT.replace("broker.example", "[::1::2]"), "not host:port"),
    ],
)
def test_each_fault_is_named(text, fault) -> None:
    """Each pasting mistake has a separate message."""
    with pytest.raises(UsageError, match=fault):
        parse_token(text)


def test_two_spellings_of_one_secret_are_not_accepted() -> None:
    """Unused bits of the last character must be zero."""
    last = {"8": "9"}[TEXT[-1]]

    with pytest.raises(UsageError, match="differs from the printed one"):
        parse_token(TEXT[:-1] + last)


def test_a_token_hides_its_secret() -> None:
    """No repr, str or error shows the secret."""
    shown = TEXT.rsplit(".", 1)[1]
    with pytest.raises(UsageError) as caught:
        parse_token(TEXT + "A")

    assert shown not in repr(TOKEN) + str(TOKEN) + str(caught.value) + str(caught.value.hint)


def test_only_the_secret_itself_matches_its_hash() -> None:
    """A secret matches its stored hash; a changed bit does not."""
    assert secret_matches(SECRET, secret_hash(SECRET))
    assert not secret_matches(bytes([1, *SECRET[1:]]), secret_hash(SECRET))


@pytest.mark.parametrize(
    "text", ["", "host", "host:", ":1", "host:x", "[::1]", "::1:5", "[::1:5", "h:-1", "h:１"]
)
def test_what_is_no_address_is_refused(text) -> None:
    """An address has a host and a port, IPv6 in brackets."""
    with pytest.raises(UsageError, match="not host:port"):
        parse_address(text)
