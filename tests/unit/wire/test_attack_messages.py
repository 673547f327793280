"""Attacks by content: control characters, deep JSON, missing fields."""

import json

import pytest

from drawwell.errors import RemoteProtocolError
from drawwell.wire.enrolment import PREFIX_BYTES, JoinRefusal, JoinReply, encode_message, parse_reply
from drawwell.wire.frames import Call
from drawwell.wire.parser import FrameParser

CLEAR_SCREEN = "\x1b[2J"
PEM = "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n"
REPLY = {
    "consumer": "web01", "certificate": PEM, "ca_certificate": PEM, "broker": "well",
    "addresses": ("well.example:55000",), "rate": "4KiB/s", "quota": "10MiB/day", "draw_class": "drbg+full",
    "receipt_public_key": PEM,
}  # fmt: skip


def body(message: JoinReply | JoinRefusal) -> bytes:
    return encode_message(message)[PREFIX_BYTES:]


@pytest.mark.parametrize("field", ["consumer", "broker", "rate", "quota", "draw_class"])
@pytest.mark.parametrize("bad", [CLEAR_SCREEN, "\n", "\r", "\x7f", "\x00", "\x9b2J"])
def test_a_broker_cannot_write_control_characters_to_the_joiners_terminal(field, bad) -> None:
    """The displayed fields of a reply are printable."""
    assert parse_reply(body(JoinReply(**REPLY))) == JoinReply(**REPLY)
    with pytest.raises(RemoteProtocolError):
        parse_reply(body(JoinReply(**REPLY | {field: f"x{bad}y"})))


@pytest.mark.parametrize("bad", [CLEAR_SCREEN, "\ndrawwell: hint: type rm -rf", "\x7f"])
def test_a_refusal_is_one_printable_line(bad) -> None:
    """A refusal's reason and message cannot add lines or terminal escapes."""
    assert isinstance(parse_reply(body(JoinRefusal("used", "it was used"))), JoinRefusal)
    for refusal in (JoinRefusal("used", f"no{bad}"), JoinRefusal(f"used{bad}", "no")):
        with pytest.raises(RemoteProtocolError):
            parse_reply(body(refusal))


def test_a_reply_without_an_address_is_none() -> None:
    """A reply without an address is refused."""
    with pytest.raises(RemoteProtocolError):
        parse_reply(body(JoinReply(**REPLY | {"addresses": ()})))


@pytest.mark.parametrize("inner", ['"\\u0041"', '"a"', '"\\ud800"'])
def test_json_of_any_depth_is_a_call_or_a_breach(inner) -> None:
    """The parser returns a frame or an error for any depth of arguments."""
    outcomes = set()
    for depth in range(1, 1500):
        nested = '{"x":' * depth + inner + "}" * depth
        payload = b"\0\0\0\1" + f'{{"verb":"v","args":{nested}}}'.encode()
        parser = FrameParser()
        parser.feed(bytes((Call.TYPE,)) + len(payload).to_bytes(3, "big") + payload)
        try:
            parser.next_frame({Call.TYPE: Call})
            outcomes.add("a call")
        except RemoteProtocolError:
            outcomes.add("a breach")
    assert "a breach" in outcomes
    assert json.loads(inner) is not None


def test_json_is_limited_to_the_protocols_depth():
    """32 nested objects are accepted, 33 are not, with every Python."""
    for depth, deep_enough in ((31, True), (32, False)):
        args = '{"x":' * (depth - 1) + "{}" + "}" * (depth - 1)
        payload = b"\0\0\0\1" + f'{{"verb":"v","args":{args}}}'.encode()
        parser = FrameParser()
        parser.feed(bytes((Call.TYPE,)) + len(payload).to_bytes(3, "big") + payload)
        if deep_enough:
            assert parser.next_frame({Call.TYPE: Call}) is not None
        else:
            with pytest.raises(RemoteProtocolError):
                parser.next_frame({Call.TYPE: Call})
