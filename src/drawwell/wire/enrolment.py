"""The one request and the one reply of the enrolment listener, as bytes; see docs/enrolment.md.

A message is its length in three bytes, big-endian, and so much JSON in UTF-8. It goes over TLS 1.3 in which the
broker showed its CA certificate; the joiner sends nothing before it has found the token's hash in it.
"""

import base64
import binascii
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from drawwell.errors import RemoteProtocolError

PREFIX_BYTES: Final = 3
LIMIT_BYTES: Final = 16_384
"""The longest JSON of either message."""
VERSION: Final = 1
_PEM: Final = ("certificate", "ca_certificate", "receipt_public_key")


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """What the joiner sends: the invitation, its secret, and a signing request (PEM)."""

    invitation: str
    secret: bytes = field(repr=False)
    csr: str


@dataclass(frozen=True, slots=True)
class JoinReply:
    """What the joiner gets: who it is now, where to draw, and what proves the broker. Certificates and key are PEM.

    `addresses` are ``host:port`` of the TLS door; `rate`, `quota` and `draw_class` as in reports.
    """

    consumer: str
    certificate: str
    ca_certificate: str
    broker: str
    addresses: tuple[str, ...]
    rate: str
    quota: str
    draw_class: str
    receipt_public_key: str


@dataclass(frozen=True, slots=True)
class JoinRefusal:
    """Why not. `reason` is ``used``, ``expired``, ``void`` (the secret was right), ``refused`` or ``unavailable``."""

    reason: str
    message: str


def encode_message(message: JoinRequest | JoinReply | JoinRefusal) -> bytes:
    """Write a message; ours are within the limit, so raising AssertionError would be our bug."""
    fields = asdict(message)
    if isinstance(message, JoinRequest):
        fields["secret"] = base64.b64encode(message.secret).decode()
    body = json.dumps({"v": VERSION, **fields}).encode()
    if len(body) > LIMIT_BYTES:
        raise AssertionError("an enrolment message is too long")
    return len(body).to_bytes(PREFIX_BYTES, "big") + body


def body_length(prefix: bytes) -> int:
    """Read the length in front of a message.

    Raises:
        RemoteProtocolError: not three bytes, or more than `LIMIT_BYTES` announced.
    """
    length = int.from_bytes(prefix, "big")
    if len(prefix) != PREFIX_BYTES or length > LIMIT_BYTES:
        raise RemoteProtocolError(f"an enrolment message of {length} bytes, the limit is {LIMIT_BYTES}")
    return length


def parse_request(body: bytes) -> JoinRequest:
    """Read a joiner's request.

    Raises:
        RemoteProtocolError: not one; nothing of it is in the message.
    """
    fields = _fields(body)
    try:
        secret = base64.b64decode(_text(fields, "secret"), validate=True)
    except binascii.Error:
        raise RemoteProtocolError("an enrolment message whose secret is not base64") from None
    return JoinRequest(_text(fields, "invitation"), secret, _text(fields, "csr", lines=True))


def parse_reply(body: bytes) -> JoinReply | JoinRefusal:
    """Read a broker's reply.

    Raises:
        RemoteProtocolError: neither a reply nor a refusal.
    """
    fields = _fields(body)
    if "reason" in fields:
        return JoinRefusal(_text(fields, "reason"), _text(fields, "message"))
    addresses = fields.pop("addresses", None)
    if not isinstance(addresses, list) or not addresses:
        raise RemoteProtocolError("an enrolment message without addresses")
    if not all(isinstance(address, str) and address.isprintable() for address in addresses):
        raise RemoteProtocolError("an enrolment message with an address that is no text")
    names = [name for name in JoinReply.__dataclass_fields__ if name != "addresses"]
    texts = {name: _text(fields, name, lines=name in _PEM) for name in names}
    return JoinReply(addresses=tuple(addresses), **texts)


def _fields(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise RemoteProtocolError("an enrolment message that is not JSON") from None
    if not isinstance(fields, dict) or fields.get("v") != VERSION:
        raise RemoteProtocolError("an enrolment message of another version")
    return fields


def _text(fields: dict[str, Any], name: str, *, lines: bool = False) -> str:
    """Read printable text, in one line unless it may have `lines`: most of it is shown on a terminal."""
    value = fields.get(name)
    if not isinstance(value, str) or not value.isascii():
        raise RemoteProtocolError(f"an enrolment message without {name}")
    if not (value.replace("\n", "") if lines else value).isprintable():
        raise RemoteProtocolError(f"an enrolment message whose {name} is not printable")
    return value
