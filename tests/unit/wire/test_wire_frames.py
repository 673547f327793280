"""Frames as bytes, and bytes that are not a frame."""

import pytest

from drawwell.entropy.blocks import DrawClass
from drawwell.errors import LocalProtocolError, RemoteProtocolError
from drawwell.wire import limits
from drawwell.wire.frames import Bye, Call, Draw, Frame, Granted, Hello, Refusal, Result, Welcome
from drawwell.wire.parser import FrameParser

KINDS = (Hello, Welcome, Draw, Granted, Refusal, Call, Result, Bye)
ANY = {kind.TYPE: kind for kind in KINDS}
SAMPLES = [
    (Hello((1,), "drawwell 0.1"), "01 00000e 01 01 647261777765 6c6c20302e31"),
    (Welcome(1, "attic", "web01"), "02 000012 01 00 00010000 05 6174746963 05 7765623031"),
    (Welcome(1, "b", "c", 1024, renew_only=True), "02 00000a 01 01 00000400 01 62 01 63"),
    (Draw(32, DrawClass.FULL, request_id=1), "10 00000e 00000001 01 00 00000020 00000000"),
    (
        Draw(65536, DrawClass.DRBG, True, True, 1.5, request_id=2),
        "10 00000e 00000002 02 03 00010000 000005dc",
    ),
    (
        Granted(b"\xaa\xbb", 7, DrawClass.FULL, request_id=1),
        "11 000011 00000001 0000000000000007 01 0000 aabb",
    ),
    (
        Granted(b"\xcc", 8, DrawClass.DRBG, b"\x0f\x0e", b"k" * 32, request_id=3),
        "11 000032 00000003 0000000000000008 02 0002" + "6b" * 32 + "0f0e cc",
    ),
    (  # mixed bytes of two brokers
        Granted(b"\xcc", 8, DrawClass.DRBG, b"a\nb", b"k" * 32 + b"m" * 32 + b"\xdd", request_id=3),
        "11 000054 00000003 0000000000000008 02 0003" + "6b" * 32 + "610a62" + "6d" * 32 + "dd cc",
    ),
    (Refusal(1, 3, "no", "Wait.", 1500000), "12 000017 00000001 03 01 000000000016e360 0002 6e6f 576169742e"),
    (Refusal(1, 1, "", "", 0, True), "12 000010 00000001 01 03 0000000000000000 0000"),
    (Refusal(0, 5), "12 000010 00000000 05 00 0000000000000000 0000"),
    (Call(4, "renew", {}), "20 00001e 00000004" + b'{"verb":"renew","args":{}}'.hex()),
    (Result(4, {"a": 1}), "21 00000b 00000004 7b2261223a317d"),
    (Bye("done"), "7f 000004 646f6e65"),
]


def parse(data: bytes) -> Frame | None:
    parser = FrameParser()
    parser.feed(data)
    return parser.next_frame(ANY)


@pytest.mark.parametrize(("frame", "expected"), SAMPLES, ids=lambda value: type(value).__name__)
def test_frame_has_the_documented_bytes_both_ways(frame: Frame, expected: str) -> None:
    """Each frame has docs/protocol.md's bytes and parses to an equal value."""
    data = frame.encode()

    assert data.hex() == bytes.fromhex(expected.replace(" ", "")).hex()
    assert parse(data) == frame


@pytest.mark.parametrize(
    "data",
    [
        "03",  # no such type
        "10 01",  # a draw of 65,536 bytes or more
        "10 000001",  # a draw of one byte
        "10 00000b",
        "01 000001",
        "20 01",
        "11 04",
        "21 11",
        "7f 000101",
    ],
)
def test_impossible_header_is_an_error_at_the_byte_that_makes_it_so(data: str) -> None:
    """The last byte given is the first that makes the frame impossible."""
    raw = bytes.fromhex(data.replace(" ", ""))
    parser = FrameParser()
    parser.feed(raw[:-1])
    assert parser.next_frame(ANY) is None

    parser.feed(raw[-1:])
    with pytest.raises(RemoteProtocolError):
        parser.next_frame(ANY)


@pytest.mark.parametrize(
    "payload",
    [
        ("01", "00 01"),  # no versions
        ("01", "03 01 01"),  # fewer versions than declared
        ("01", "01 01 ff"),  # not UTF-8
        ("01", "01 01 1b5b324a"),  # a terminal's escape sequence
        ("02", "01 02 00010000 01 62 01 63"),  # unknown flag
        ("02", "01 00 00010001 01 62 01 63"),  # over the limit of a draw
        ("02", "01 00 00010000 05 62 01 63"),  # a truncated name
        ("02", "01 00 00010000 01 62 01 63 00"),  # a byte too many
        ("10", "00000000 01 00 00000020 00000000"),  # id 0
        ("10", "00000001 03 00 00000020 00000000"),  # unknown class
        ("10", "00000001 01 04 00000020 00000000"),  # unknown flag
        ("10", "00000001 01 00 00000000 00000000"),  # empty
        ("10", "00000001 01 00 00010001 00000000"),  # one too many
        ("10", "00000001 01 00 00000020 0000ea61"),  # patience over the limit
        ("11", "00000001 0000000000000007 01 0002 aabb"),  # a receipt without its key
        ("11", "00000001 0000000000000007 01 ffff" + "aa" * 70000),  # a giant receipt
        (
            "11",
            "00000001 0000000000000007 01 0001" + "6b" * 32 + "0a" + "6b" * 32 + "aabbcc",
        ),  # parts of 1.5 bytes
        (
            "11",
            "00000001 0000000000000007 01 0003" + "6b" * 32 + "0a0a0a" + "6b" * 96 + "aabbccdd",
        ),  # four brokers
        ("12", "00000001 03 00 0000000000000001 0000"),  # a time without a flag
        ("12", "00000001 03 02 0000000000000000 0000"),  # an estimate without a time
        ("12", "00000001 03 00 0000000000000000 0004 6e6f"),  # shorter than its message
    ],
)
def test_bad_payload_is_an_error(payload: tuple[str, str]) -> None:
    """A payload that violates its format is the peer's error."""
    kind, rest = payload[0], bytes.fromhex(payload[1].replace(" ", ""))

    with pytest.raises(RemoteProtocolError):
        parse(bytes.fromhex(kind) + len(rest).to_bytes(3, "big") + rest)


@pytest.mark.parametrize(
    "document",
    [
        b"[]",
        b"{}",
        b"{",
        b'{"verb":1,"args":{}}',
        b'{"verb":"x","args":[]}',
        b'{"verb":"x","args":{},"more":1}',
        b'{"verb":"x","args":{"a":NaN}}',
        b'{"verb":"x","args":{"a":1e999}}',
        b'{"verb":"x","args":{"a":"\\ud800"}}',
        b'{"verb":"x","args":{"a":' + b"9" * 5000 + b"}}",
        b'{"verb":"x","args":' + b"[" * 8000,
        b'{"verb":"x","args":' + b'{"a":' * 2000 + b"{}" + b"}" * 2001,
        b'{"verb":"\xff","args":{}}',
    ],
    ids=range(13),
)
def test_call_that_is_no_json_object_of_the_right_form_is_an_error(document: bytes) -> None:
    """Hostile JSON raises only the protocol's error."""
    payload = b"\0\0\0\1" + document

    with pytest.raises(RemoteProtocolError):
        parse(b"\x20" + len(payload).to_bytes(3, "big") + payload)


def test_text_is_cut_to_its_limit_between_characters() -> None:
    """A long message is truncated between characters."""
    refusal = parse(Refusal(1, 1, "é" * 1000, "x" * 5000).encode())

    assert isinstance(refusal, Refusal)
    assert refusal.message == "é" * 512
    assert refusal.hint == "x" * limits.MAX_HINT_BYTES


def test_unprintable_text_is_made_harmless_before_it_is_sent() -> None:
    """Control characters are sent as question marks."""
    assert parse(Bye("a\x1b[2J\nb\ud800").encode()) == Bye("a?[2J?b?")


def test_result_over_the_limit_is_our_error() -> None:
    """The sender refuses a document over the limit."""
    with pytest.raises(LocalProtocolError):
        Result(1, {"a": "x" * limits.MAX_RESULT_BYTES}).encode()


def test_bytes_and_keys_do_not_show_in_a_repr() -> None:
    """The repr of a grant has no bytes, that of a call no arguments."""
    grant = Granted(b"SECRETBYTES", 2, DrawClass.FULL, b"RECEIPT", b"KEYKEYKEY", request_id=1)

    shown = (
        repr(grant) + repr(Call(1, "renew", {"key": "SECRETBYTES"})) + repr(Result(1, {"a": "SECRETBYTES"}))
    )

    assert not any(word in shown for word in ("SECRETBYTES", "KEYKEYKEY", "RECEIPT"))


def test_error_about_a_bad_frame_does_not_quote_it() -> None:
    """Messages and chained causes never contain input, which may be entropy."""
    with pytest.raises(RemoteProtocolError) as caught:
        parse(b"\x7f\x00\x00\x04\xffABC")

    assert "ABC" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
