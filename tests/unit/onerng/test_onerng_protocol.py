"""Commands, modes and replies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.onerng.commands import MODES, Command, Mode, parse_mode
from drawwell.onerng.replies import IdentityReply, Reply, ReplyParser, VersionReply

HARDWARE_ID = "00112233445566778899AABBCCDDEEFF"
VERSION_LINE = b"\r\nVersion 3\r\n"
IDENTITY_LINE = f"\r\n________{HARDWARE_ID}________\r\n".encode()


def replies_to(*pieces: bytes) -> list[Reply]:
    parser = ReplyParser()
    return [reply for piece in pieces for reply in parser.feed(piece)]


@pytest.mark.parametrize("command", list(Command))
def test_every_command_resynchronises_first(command: Command) -> None:
    """A command starts with a byte that resets the firmware's parser."""
    assert command.value[:4] == b"\ncmd"
    assert len(command.value) == 6


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("cmd0", "avalanche, whitened"),
        ("cmd1", "avalanche, raw"),
        ("cmd2", "avalanche+RF, whitened"),
        ("cmd3", "avalanche+RF, raw"),
        ("cmd4", "no noise"),
        ("cmd5", "no noise"),
        ("cmd6", "RF, whitened"),
        ("cmd7", "RF, raw"),
    ],
)
def test_modes_equal_the_vendors_table(text: str, label: str) -> None:
    """Each mode has the sources and the whitener of the vendor's onerng.conf."""
    assert parse_mode(text).label == label
    assert str(parse_mode(text)) == text
    assert parse_mode(text).command == f"\n{text}\n".encode()


@pytest.mark.parametrize("text", ["", "cmd8", "cmdO", "1", "cmd", "CMD1", "cmd1 ", "cmd³"])
def test_what_is_no_mode_is_refused(text: str) -> None:
    """Anything except cmd0 to cmd7 is a ValueError that lists the modes."""
    with pytest.raises(ValueError, match=", ".join(MODES)):
        parse_mode(text)


def test_silent_mode_has_no_source() -> None:
    """cmd4 has neither avalanche nor radio."""
    assert Mode(4).silent
    assert Mode(4).command == Command.SILENT.value


def test_a_version_is_found_in_noise() -> None:
    """A version reply is found at any position."""
    assert replies_to(b"\r\nVers\x00\xff" + VERSION_LINE + b"\x17Version") == [VersionReply(3)]


def test_a_hardware_id_is_found_in_noise() -> None:
    """An identity reply has 32 upper-case digits between underscores."""
    assert replies_to(b"\r\n____" + IDENTITY_LINE + bytes(64)) == [IdentityReply(HARDWARE_ID)]


@pytest.mark.parametrize(
    "line",
    [
        b"\r\nVersion \r\n",
        b"\r\nVersion 123456\r\n",
        b"\r\nVersion 3",
        IDENTITY_LINE.lower(),
        IDENTITY_LINE.replace(b"________", b"@@@@@@@@"),
        IDENTITY_LINE.replace(b"F____", b"____"),
    ],
)
def test_what_is_nearly_a_reply_is_none(line: bytes) -> None:
    """A reply with a wrong number of digits, or in lower case, is noise."""
    assert replies_to(line + b"\x00") == []


noise_with_replies = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([VERSION_LINE, IDENTITY_LINE, b"\r\n", b"Version 1", b"_" * 9, b"\r\nVersion 77"]),
    ),
    max_size=12,
).map(b"".join)


@given(noise_with_replies, st.data())
def test_replies_do_not_depend_on_how_the_stream_is_cut(stream: bytes, data: st.DataObject) -> None:
    """Chunks of any size give the same replies."""
    cut = data.draw(st.integers(0, len(stream)))
    whole = replies_to(stream)
    assert replies_to(*(bytes([byte]) for byte in stream)) == whole
    assert replies_to(stream[:cut], stream[cut:]) == whole


@given(st.binary(max_size=2000))
def test_the_reply_parser_remembers_less_than_one_reply(stream: bytes) -> None:
    """The parser's buffer is limited for any input."""
    parser = ReplyParser()
    parser.feed(stream)
    assert len(parser._tail) < len(IDENTITY_LINE)
