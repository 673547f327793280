"""The form of a receipt: what it says, and the one way to write that down. docs/receipts.md is normative.

A receipt is one line of canonical JSON: keys sorted, no spaces, UTF-8, strings of printable characters, whole
numbers only. There is exactly one way to write it, so the signed bytes can be cut out of the line as they
stand.
"""

import base64
import hmac
import json
import re
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from drawwell.entropy.blocks import DrawClass, NoiseOrigin
from drawwell.errors import RemoteProtocolError
from drawwell.reports import SourceState

FORMAT: Final = "drawwell-receipt/2"
_OLD_FORMAT: Final = "drawwell-receipt/1"
_SINCE_2: Final = {"combined": int, "audit_count": int, "audit_head": str}
"""Fields that the old format has not."""
MAX_RECEIPT_BYTES: Final = 16_384
HMAC_KEY_BYTES: Final = 32
"""As long as the hash (RFC 2104, section 3)."""

_SIGNATURE_BYTES: Final = 64
_MAX_TEXT: Final = 255
_MOST_KIND, _MOST_NOISE, _MOST_FIRMWARE = 16, 64, 200
"""A receipt has room for 32 sources that have texts of this size."""
_MAX_NUMBER: Final = 2**63 - 1
_HEX: Final = {
    "key_id": re.compile("[0-9a-f]{32}"),
    "data_hmac": re.compile("[0-9a-f]{64}"),
    "audit_head": re.compile("[0-9a-f]{64}"),
}


@dataclass(frozen=True, slots=True)
class ReceiptSource:
    """One source that went into the granted bytes, or into the seed of the DRBG that made them.

    `firmware` is the verdict in words, with key and hash; `noise` says what was tested; `health_epoch` is that of
    its bytes, `state` that of its health tests when they were granted.
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
        """Describe a source as the bytes record it."""
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
    """What is signed; the field names are the JSON names.

    `combined` is how many of the `sources` went into each of the bytes, or of the seed; 0 in the old format.
    `time_s` is in whole seconds since the epoch by the broker's clock; `data_hmac` is HMAC-SHA-256 of the granted
    bytes in hexadecimal; `key_id` names the key that signed, and is set by signing. `audit_count` and `audit_head`
    are the length of the broker's audit log and the SHA-256 of its last line, when it was last signed.
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
        """Make the body for the grant `data`; `key` is fresh, 32 bytes, and goes to that consumer alone.

        Raises:
            ValueError: `key` is not 32 bytes.
        """
        return cls(
            broker, consumer, sources, draw_class, len(data), serial, int(time), data_hmac(key, data), combined,
            *audit, key_id,
        )  # fmt: skip

    def encode(self) -> bytes:
        """Return the canonical bytes that are signed."""
        return _canonical(_document(self))

    def checked(self) -> bytes:
        """Return the canonical bytes to sign.

        Raises:
            ValueError: a field has a value that no receipt may have.
        """
        text = self.encode()
        _read_body(json.loads(text))
        return text


def data_hmac(key: bytes, data: bytes) -> str:
    """Return HMAC-SHA-256 of granted bytes in hexadecimal.

    Raises:
        ValueError: `key` is not 32 bytes.
    """
    if len(key) != HMAC_KEY_BYTES:
        raise ValueError(f"a receipt's HMAC key is {HMAC_KEY_BYTES} bytes")
    return hmac.digest(key, data, "sha256").hex()


def write_receipt(body: ReceiptBody, signature: bytes) -> bytes:
    """Put body and signature together.

    Raises:
        ValueError: longer than a receipt may be.
    """
    return join_receipt(body.encode(), signature)


def join_receipt(body: bytes, signature: bytes) -> bytes:
    """Put a canonical body and its signature together.

    Raises:
        ValueError: longer than a receipt may be.
    """
    receipt = b'{"body":%b,"signature":"%b"}' % (body, base64.b64encode(signature))
    if len(receipt) > MAX_RECEIPT_BYTES:
        raise ValueError(f"a receipt of more than {MAX_RECEIPT_BYTES} bytes")
    return receipt


def parse_receipt(receipt: bytes) -> tuple[ReceiptBody, bytes]:
    """Return body and signature, with nothing verified. One newline at the end is no part of a receipt.

    Raises:
        RemoteProtocolError: it is not a receipt.
    """
    receipt = receipt.removesuffix(b"\n")
    if len(receipt) > MAX_RECEIPT_BYTES:
        raise RemoteProtocolError(f"not a receipt: more than {MAX_RECEIPT_BYTES} bytes")
    try:
        return _read_envelope(receipt)
    except (ValueError, RecursionError) as error:
        reason = str(error) if type(error) is ValueError else "it is not the JSON of one"
        raise RemoteProtocolError(f"not a receipt: {reason}") from None


def _read_envelope(receipt: bytes) -> tuple[ReceiptBody, bytes]:
    envelope = _typed(json.loads(receipt.decode()), {"body": dict, "signature": str})
    body = _read_body(envelope["body"])
    signature = base64.b64decode(envelope["signature"], validate=True)
    if len(signature) != _SIGNATURE_BYTES or write_receipt(body, signature) != receipt:
        raise ValueError("it is not in canonical form")
    return body, signature


def _cut(text: str, most: int) -> str:
    """Return at most `most` characters, each of one byte in JSON."""
    return text[:most].encode("ascii", "replace").decode().replace('"', "'").replace("\\", "/")


def _document(body: ReceiptBody) -> dict[str, Any]:
    new = () if body.format == FORMAT else _SINCE_2
    return {name: value for name, value in asdict(body).items() if name not in new}


def _canonical(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _read_body(document: object) -> ReceiptBody:
    kinds = {
        "broker": str, "consumer": str, "sources": list, "draw_class": str, "n_bytes": int, "serial": int,
        "time_s": int, "data_hmac": str, "key_id": str, "format": str,
    }  # fmt: skip
    old = isinstance(document, dict) and document.get("format") == _OLD_FORMAT
    fields = _typed(document, kinds if old else kinds | _SINCE_2)
    if fields["format"] not in {FORMAT, _OLD_FORMAT}:
        raise ValueError(f"its format is not {FORMAT}")
    for name, pattern in _HEX.items():
        if name in fields and not pattern.fullmatch(fields[name]):
            raise ValueError(f"{name} is not hexadecimal of its length")
    fields["draw_class"] = DrawClass(fields["draw_class"])
    fields["sources"] = tuple(_read_source(source) for source in fields["sources"])
    return ReceiptBody(**fields)


def _read_source(document: object) -> ReceiptSource:
    kinds = {
        "name": str, "kind": str, "simulated": bool, "noise": str, "firmware": str, "state": str,
        "health_epoch": int,
    }  # fmt: skip
    return ReceiptSource(**_typed(document, kinds))


def _typed(document: object, kinds: dict[str, type]) -> dict[str, Any]:
    """Return `document` when it has exactly these fields, of these kinds, within bounds."""
    if not isinstance(document, dict) or document.keys() != kinds.keys():
        raise ValueError(f"its fields are not {', '.join(kinds)}")
    for name, kind in kinds.items():
        value = document[name]
        if type(value) is not kind:
            raise ValueError(f"{name} is not a {kind.__name__}")
        if isinstance(value, str) and (len(value) > _MAX_TEXT or not value.isprintable()):
            raise ValueError(f"{name} is not printable text of at most {_MAX_TEXT} characters")
        if isinstance(value, int) and not 0 <= value <= _MAX_NUMBER:
            raise ValueError(f"{name} is out of range")
    return dict(document)
