"""Request and reply of the enrolment door; see docs/enrolment.md.

A message is a length in three bytes, big-endian, followed by JSON in UTF-8. It is sent over
TLS 1.3. In the handshake the broker sends its chain up to the root. The joining machine sends
its request only if a key in the chain has the hash from the token.
"""

import base64
import binascii
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from drawwell.errors import RemoteProtocolError
from drawwell.wire.brokers import NONE_KNOWN, KnownBrokers

PREFIX_BYTES: Final = 3
LIMIT_BYTES: Final = 16_384
"""Limit of the JSON of a request or a reply."""
FLEET_LIMIT_BYTES: Final = 1 << 17
"""Limit of a reply to a broker; such a reply contains the list of keys."""
ENROL_NAME: Final = "enrol.drawwell.internal"
"""The name in the enrolment door's certificate, regardless of the door's address."""
REQUEST_VERSION: Final = 1
REPLY_VERSION: Final = 3
"""The newest version of the reply. A broker uses the newest version that both ends support."""
KNOWS_BROKERS: Final = 3
"""The first version of the reply that lists the other brokers."""
_PEM: Final = ("certificate", "ca_certificate", "receipt_public_key")


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """An invitation, its secret, and a signing request (PEM).

    `accepts` is the newest version of the reply that the peer can parse. A broker that joins
    a fleet also sends its public `receipt_key` (PEM).
    """

    invitation: str
    secret: bytes = field(repr=False)
    csr: str
    accepts: int = REPLY_VERSION
    receipt_key: str = ""


@dataclass(frozen=True, slots=True)
class JoinReply:
    """A joining machine's name and terms, and the broker's addresses and keys.

    `addresses` are those of the TLS door, ``host:port``. `rate`, `quota` and `draw_class` are
    as in reports. Certificates and key are in PEM. From version 2 on, each PEM text can have
    several blocks: the certificate with its chain, all CAs, and all receipt keys. Version 3
    adds `known`, all brokers of the fleet.
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
    known: KnownBrokers = NONE_KNOWN


@dataclass(frozen=True, slots=True)
class FleetReply:
    """The certificate, list of keys and store for a broker that joins a fleet.

    Certificates are in PEM. `store` is an address without password or file names. `password`
    and `store_ca` (PEM) are "" if the store does not need them.
    """

    broker: str
    fleet: str
    certificate: str
    root: str
    keys: str
    store: str
    password: str = field(repr=False)
    store_ca: str


@dataclass(frozen=True, slots=True)
class JoinRefusal:
    """A refusal. `reason` is used, expired, void, refused or unavailable."""

    reason: str
    message: str


def encode_message(message: JoinRequest | JoinReply | FleetReply | JoinRefusal) -> bytes:
    """Encode a message; raise AssertionError (our bug) if it is too long."""
    fields = asdict(message)
    version = fields.pop("version", REQUEST_VERSION)
    if isinstance(message, JoinRequest):
        fields["secret"] = base64.b64encode(message.secret).decode()
        if not message.receipt_key:
            del fields["receipt_key"]
    if isinstance(message, JoinReply):
        del fields["known"]
        fields |= message.known.document() if version >= KNOWS_BROKERS else {}
        fields |= {name: first_block(fields[name]) for name in _PEM} if version == 1 else {}
    body = json.dumps({"v": version, **fields}).encode()
    if len(body) > (FLEET_LIMIT_BYTES if isinstance(message, FleetReply) else LIMIT_BYTES):
        raise AssertionError("the enrolment message is too long")
    return len(body).to_bytes(PREFIX_BYTES, "big") + body


def first_block(pem: str) -> str:
    """Return the first block of a PEM text."""
    end = pem.find("-----BEGIN ", 1)
    return pem if end < 0 else pem[:end]


def body_length(prefix: bytes, limit: int = LIMIT_BYTES) -> int:
    """Parse the length before a message.

    Raises:
        RemoteProtocolError: `prefix` is not three bytes, or the length exceeds `limit`.
    """
    length = int.from_bytes(prefix, "big")
    if len(prefix) != PREFIX_BYTES or length > limit:
        raise RemoteProtocolError(f"the enrolment message is {length} bytes long; the limit is {limit}")
    return length


def parse_request(body: bytes) -> JoinRequest:
    """Parse a joining machine's request.

    Raises:
        RemoteProtocolError: the request is malformed. The message does not quote it.
    """
    fields = _fields(body)
    try:
        secret = base64.b64decode(_text(fields, "secret"), validate=True)
    except binascii.Error:
        raise RemoteProtocolError("the secret in the enrolment message is not base64") from None
    accepts = fields.get("accepts", 1)
    if type(accepts) is not int or accepts < 1:
        raise RemoteProtocolError("field 'accepts' in the enrolment message must be a positive integer")
    receipt_key = _text(fields, "receipt_key", lines=True) if "receipt_key" in fields else ""
    csr = _text(fields, "csr", lines=True)
    return JoinRequest(_text(fields, "invitation"), secret, csr, accepts, receipt_key)


def parse_reply(body: bytes) -> JoinReply | JoinRefusal:
    """Parse a broker's reply.

    Raises:
        RemoteProtocolError: the message is neither a valid reply nor a refusal.
    """
    fields = _fields(body, REPLY_VERSION)
    if "reason" in fields:
        return JoinRefusal(_text(fields, "reason"), _text(fields, "message"))
    addresses = fields.pop("addresses", None)
    if not isinstance(addresses, list) or not addresses:
        raise RemoteProtocolError("the enrolment message has no addresses")
    if not all(isinstance(address, str) and address.isprintable() for address in addresses):
        raise RemoteProtocolError("an address in the enrolment message is not printable text")
    names = JoinReply.__dataclass_fields__.keys() - {"addresses", "version", "known"}
    texts = {name: _text(fields, name, lines=name in _PEM) for name in names}
    try:
        known = KnownBrokers.read(fields) if fields["v"] >= KNOWS_BROKERS else NONE_KNOWN
    except ValueError as error:
        raise RemoteProtocolError(f"the enrolment message has invalid brokers: {error}") from error
    return JoinReply(addresses=tuple(addresses), version=fields["v"], known=known, **texts)


def parse_fleet_reply(body: bytes) -> FleetReply | JoinRefusal:
    """Parse the reply to a joining broker; see `parse_reply` for errors."""
    fields = _fields(body)
    if "reason" in fields:
        return JoinRefusal(_text(fields, "reason"), _text(fields, "message"))
    pem = {"certificate", "root", "store_ca"}
    names = FleetReply.__dataclass_fields__
    return FleetReply(**{name: _text(fields, name, lines=name in pem) for name in names})


def _fields(body: bytes, newest: int = REQUEST_VERSION) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise RemoteProtocolError("the enrolment message is not JSON") from None
    if not isinstance(fields, dict) or fields.get("v") not in range(1, newest + 1):
        raise RemoteProtocolError(f"the enrolment message must have a version from 1 to {newest}")
    return fields


def _text(fields: dict[str, Any], name: str, *, lines: bool = False) -> str:
    """Return a field of printable text, a single line unless `lines`."""
    value = fields.get(name)
    if not isinstance(value, str) or not value.isascii():
        raise RemoteProtocolError(f"{name} in the enrolment message is missing or not ASCII text")
    if not (value.replace("\n", "") if lines else value).isprintable():
        raise RemoteProtocolError(f"{name} in the enrolment message is not printable text")
    return value
