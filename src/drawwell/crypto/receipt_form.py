"""The fields of a receipt and their canonical encoding (docs/receipts.md).

A receipt is one line of canonical JSON: sorted keys, no spaces, UTF-8, printable characters,
and integers only. So the signed bytes appear verbatim in the line.
"""

import base64
import hmac
import json
import re
from dataclasses import dataclass, fields
from typing import Any, Final, Self

from drawwell.entropy.blocks import DrawClass, NoiseOrigin
from drawwell.errors import RemoteProtocolError
from drawwell.reports import SourceState

FORMAT: Final = "drawwell-receipt/2"
_OLD_FORMAT: Final = "drawwell-receipt/1"
_SINCE_2: Final = {"combined": int, "audit_count": int, "audit_head": str}
"""Fields that the old format does not have."""
MAX_RECEIPT_BYTES: Final = 16_384
HMAC_KEY_BYTES: Final = 32
"""As long as the hash (RFC 2104, section 3)."""

_SIGNATURE_BYTES: Final = 64
_MAX_TEXT: Final = 255
_MOST_KIND, _MOST_NOISE, _MOST_FIRMWARE = 16, 64, 200
"""With texts up to these lengths, a receipt has room for 32 sources."""
_MAX_NUMBER: Final = 2**63 - 1
_HEX: Final = {
    "key_id": re.compile("[0-9a-f]{32}"),
    "data_hmac": re.compile("[0-9a-f]{64}"),
    "audit_head": re.compile("[0-9a-f]{64}"),
}


@dataclass(frozen=True, slots=True)
class ReceiptSource:
    """A source of the granted bytes, or of the seed of the DRBG in use.

    `firmware` is the verdict as text, with key and hash. `noise` describes the tested data.
    `health_epoch` belongs to the granted bytes. `state` is the source's state at the grant.
    """

    name: str
    kind: str
    simulated: bool
    noise: str
    firmware: str
    state: str
    health_epoch: int

    @classmethod
    def of(cls, origin: NoiseOrigin, state: SourceState) -> Self:
        """Describe a source by the recorded origin of the bytes."""
        identity = origin.identity
        detail = f" ({identity.firmware_detail})" if identity.firmware_detail else ""
        return cls(
            name=identity.name,
            kind=_cut(identity.kind, _MOST_KIND),
            simulated=identity.simulated,
            noise=_cut(identity.noise, _MOST_NOISE),
            firmware=_cut(f"{identity.firmware}{detail}", _MOST_FIRMWARE),
            state=str(state),
            health_epoch=origin.health_epoch,
        )


@dataclass(frozen=True, slots=True)
class ReceiptBody:
    """The signed part of a receipt; field names are the JSON names.

    `combined` is the number of `sources` in each byte, or in the seed; 0 in the old format.
    `time_s` is in whole seconds since the epoch on the broker's clock. `data_hmac` is the
    HMAC-SHA-256 of the granted bytes in hexadecimal. `key_id` is the ID of the signing key,
    set when the receipt is signed. `audit_count` and `audit_head` are the number of lines in
    the broker's audit log and the SHA-256 of its last line, when the log was last signed.
    """

    broker: str
    consumer: str
    sources: tuple[ReceiptSource, ...]
    draw_class: DrawClass
    n_bytes: int
    serial: int
    time_s: int
    data_hmac: str
    combined: int = 0
    audit_count: int = 0
    audit_head: str = "0" * 64
    key_id: str = ""
    format: str = FORMAT

    @classmethod
    def of(
        cls,
        *,
        broker: str,
        consumer: str,
        sources: tuple[ReceiptSource, ...],
        draw_class: DrawClass,
        serial: int,
        time: float,
        data: bytes,
        key: bytes,
        combined: int = 1,
        audit: tuple[int, str] = (0, "0" * 64),
        key_id: str = "",
    ) -> Self:
        """Create the body for the granted bytes `data`; `key` is 32 fresh bytes.

        Raises:
            ValueError: `key` is not 32 bytes.
        """
        return cls(
            broker, consumer, sources, draw_class, len(data), serial, int(time), data_hmac(key, data), combined,
            *audit, key_id,
        )  # fmt: skip

    def encode(self) -> bytes:
        """Return the canonical bytes to sign."""
        return _canonical(_document(self))

    def checked(self) -> bytes:
        """Check the fields; return the canonical bytes to sign.

        Raises:
            ValueError: a field has an invalid value.
        """
        document = _document(self)
        _read_body(document)
        return _canonical(document)


_FIELDS: Final = tuple(each.name for each in fields(ReceiptBody))
_SOURCE_FIELDS: Final = tuple(each.name for each in fields(ReceiptSource))


def data_hmac(key: bytes, data: bytes) -> str:
    """Return the HMAC-SHA-256 of granted bytes in hexadecimal.

    Raises:
        ValueError: `key` is not 32 bytes.
    """
    if len(key) != HMAC_KEY_BYTES:
        raise ValueError(f"a receipt's HMAC key must be {HMAC_KEY_BYTES} bytes, not {len(key)}")
    return hmac.digest(key, data, "sha256").hex()


def write_receipt(body: ReceiptBody, signature: bytes) -> bytes:
    """Encode a body and join it with its signature.

    Raises:
        ValueError: the receipt would be too long.
    """
    return join_receipt(body.encode(), signature)


def join_receipt(body: bytes, signature: bytes) -> bytes:
    """Join a canonical body and its signature.

    Raises:
        ValueError: the receipt would be too long.
    """
    receipt = b'{"body":%b,"signature":"%b"}' % (body, base64.b64encode(signature))
    if len(receipt) > MAX_RECEIPT_BYTES:
        raise ValueError(f"the receipt is {len(receipt)} bytes long; the limit is {MAX_RECEIPT_BYTES}")
    return receipt


def parse_receipt(receipt: bytes) -> tuple[ReceiptBody, bytes]:
    """Return body and signature, unverified; ignore a final newline.

    Raises:
        RemoteProtocolError: `receipt` is not a receipt.
    """
    receipt = receipt.removesuffix(b"\n")
    if len(receipt) > MAX_RECEIPT_BYTES:
        raise RemoteProtocolError(f"not a receipt: longer than {MAX_RECEIPT_BYTES} bytes")
    try:
        return _read_envelope(receipt)
    except (ValueError, RecursionError) as error:
        reason = str(error) if type(error) is ValueError else "invalid JSON"
        raise RemoteProtocolError(f"not a receipt: {reason}") from None


def _read_envelope(receipt: bytes) -> tuple[ReceiptBody, bytes]:
    envelope = _typed(json.loads(receipt.decode()), {"body": dict, "signature": str})
    body = _read_body(envelope["body"])
    signature = base64.b64decode(envelope["signature"], validate=True)
    if len(signature) != _SIGNATURE_BYTES or write_receipt(body, signature) != receipt:
        raise ValueError("the encoding is not canonical")
    return body, signature


def _cut(text: str, most: int) -> str:
    """Return at most `most` characters, each encoded as one byte in JSON."""
    return text[:most].encode("ascii", "replace").decode().replace('"', "'").replace("\\", "/")


def _document(body: ReceiptBody) -> dict[str, Any]:
    """Return the fields in the form that parsing JSON returns."""
    left_out = () if body.format == FORMAT else _SINCE_2
    document = {name: getattr(body, name) for name in _FIELDS if name not in left_out}
    document["draw_class"] = str(body.draw_class)
    document["sources"] = [
        {name: getattr(source, name) for name in _SOURCE_FIELDS} for source in body.sources
    ]
    return document


def _canonical(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _read_body(document: object) -> ReceiptBody:
    kinds = {
        "broker": str, "consumer": str, "sources": list, "draw_class": str, "n_bytes": int, "serial": int,
        "time_s": int, "data_hmac": str, "key_id": str, "format": str,
    }  # fmt: skip
    old = isinstance(document, dict) and document.get("format") == _OLD_FORMAT
    found = _typed(document, kinds if old else kinds | _SINCE_2)
    if found["format"] not in {FORMAT, _OLD_FORMAT}:
        raise ValueError(f"the format must be {FORMAT}")
    for name, pattern in _HEX.items():
        if name in found and not pattern.fullmatch(found[name]):
            raise ValueError(f"{name} is not a hexadecimal number of the right length")
    found["draw_class"] = DrawClass(found["draw_class"])
    found["sources"] = tuple(_read_source(source) for source in found["sources"])
    return ReceiptBody(**found)


def _read_source(document: object) -> ReceiptSource:
    kinds = {
        "name": str, "kind": str, "simulated": bool, "noise": str, "firmware": str, "state": str,
        "health_epoch": int,
    }  # fmt: skip
    return ReceiptSource(**_typed(document, kinds))


def _typed(document: object, kinds: dict[str, type]) -> dict[str, Any]:
    """Check the fields of `document`, their types and ranges; return it."""
    if not isinstance(document, dict) or document.keys() != kinds.keys():
        raise ValueError(f"the fields must be {', '.join(kinds)}")
    for name, kind in kinds.items():
        value = document[name]
        if type(value) is not kind:
            raise ValueError(f"{name} is not a {kind.__name__}")
        if isinstance(value, str) and (len(value) > _MAX_TEXT or not value.isprintable()):
            raise ValueError(f"{name} is not printable text of at most {_MAX_TEXT} characters")
        if isinstance(value, int) and not 0 <= value <= _MAX_NUMBER:
            raise ValueError(f"{name} is out of range")
    return dict(document)
