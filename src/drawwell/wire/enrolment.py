"""The one request and the one reply of the enrolment listener, as bytes; see docs/enrolment.md.

A message is its length in three bytes, big-endian, and so much JSON in UTF-8. It goes over TLS 1.3 in which the
broker showed a chain up to its root; the joiner sends nothing before it has found the token's hash in it.
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
ENROL_NAME: Final = "enrol.drawwell.internal"
"""What the enrolment door's certificate names, at whatever address it is reached."""
REQUEST_VERSION: Final = 1
REPLY_VERSION: Final = 2
"""The newest form of the reply; a broker answers in the newest that both know."""
_PEM: Final = ("certificate", "ca_certificate", "receipt_public_key")


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """What the joiner sends: the invitation, its secret, and a signing request (PEM).

    `accepts` is the newest form of the reply that it reads.
    """

    invitation: str
    secret: bytes = field(repr=False)
    csr: str
    accepts: int = REPLY_VERSION


@dataclass(frozen=True, slots=True)
class JoinReply:
    """What the joiner gets: who it is now, where to draw, and what proves the broker. Certificates and key are PEM.

    `addresses` are ``host:port`` of the TLS door; `rate`, `quota` and `draw_class` as in reports. In version 2 each PEM
    may hold several blocks: the certificate and its chain, the authority of the token and others, all keys of receipts.
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
    version: int = 1


@dataclass(frozen=True, slots=True)
class JoinRefusal:
    """Why not. `reason` is ``used``, ``expired``, ``void`` (the secret was right), ``refused`` or ``unavailable``."""

    reason: str
    message: str


def encode_message(message: JoinRequest | JoinReply | JoinRefusal) -> bytes:
    """Write a message; ours are within the limit, so raising AssertionError would be our bug."""
    fields = asdict(message)
    version = fields.pop("version", REQUEST_VERSION)
    if isinstance(message, JoinRequest):
        fields["secret"] = base64.b64encode(message.secret).decode()
    if isinstance(message, JoinReply) and version == 1:
        fields |= {name: first_block(fields[name]) for name in _PEM}
    body = json.dumps({"v": version, **fields}).encode()
    if len(body) > LIMIT_BYTES:
        raise AssertionError("an enrolment message is too long")
    return len(body).to_bytes(PREFIX_BYTES, "big") + body


def first_block(pem: str) -> str:
    """Return the first block of a PEM text, or the text where it has no second one."""
    end = pem.find("-----BEGIN ", 1)
    return pem if end < 0 else pem[:end]


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
    accepts = fields.get("accepts", 1)
    if type(accepts) is not int or accepts < 1:
        raise RemoteProtocolError("an enrolment message that accepts no reply")
    return JoinRequest(_text(fields, "invitation"), secret, _text(fields, "csr", lines=True), accepts)


def parse_reply(body: bytes) -> JoinReply | JoinRefusal:
    """Read a broker's reply.

    Raises:
        RemoteProtocolError: neither a reply nor a refusal.
    """
    fields = _fields(body, REPLY_VERSION)
    if "reason" in fields:
        return JoinRefusal(_text(fields, "reason"), _text(fields, "message"))
    addresses = fields.pop("addresses", None)
    if not isinstance(addresses, list) or not addresses:
        raise RemoteProtocolError("an enrolment message without addresses")
    if not all(isinstance(address, str) and address.isprintable() for address in addresses):
        raise RemoteProtocolError("an enrolment message with an address that is no text")
    names = JoinReply.__dataclass_fields__.keys() - {"addresses", "version"}
    texts = {name: _text(fields, name, lines=name in _PEM) for name in names}
    return JoinReply(addresses=tuple(addresses), version=fields["v"], **texts)


def _fields(body: bytes, newest: int = REQUEST_VERSION) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise RemoteProtocolError("an enrolment message that is not JSON") from None
    if not isinstance(fields, dict) or fields.get("v") not in range(1, newest + 1):
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
