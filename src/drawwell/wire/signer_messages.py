"""Messages between a broker and its signer.

Each is a length in four bytes, big-endian, and a payload of that length. A payload that
begins with ``S`` asks for signatures of texts, each with its length in four bytes in front.
Its answer is ``S`` and 64 bytes for each. Any other payload is a JSON object: a request has
``op`` and its arguments, an answer has ``error`` or the result.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from drawwell.errors import RemoteProtocolError

PREFIX_BYTES: Final = 4
LIMIT_BYTES: Final = 1 << 20
"""The longest payload."""
MOST_TEXTS: Final = 256
TEXT_BYTES: Final = 16_384
SIGNATURE_BYTES: Final = 64
SIGN: Final = b"S"


def frame(payload: bytes) -> bytes:
    """Return a payload with its length in front."""
    if len(payload) > LIMIT_BYTES:
        raise AssertionError("a message to the signer is too long")
    return len(payload).to_bytes(PREFIX_BYTES, "big") + payload


def payload_length(prefix: bytes) -> int:
    """Parse the length in front of a payload; raises RemoteProtocolError."""
    length = int.from_bytes(prefix, "big")
    if not 0 < length <= LIMIT_BYTES:
        raise RemoteProtocolError(f"a message of {length} bytes: 1 to {LIMIT_BYTES} are allowed")
    return length


def write_texts(texts: Sequence[bytes]) -> bytes:
    """Return the payload that asks for signatures of up to `MOST_TEXTS` texts."""
    parts = [part for text in texts for part in (len(text).to_bytes(PREFIX_BYTES, "big"), text)]
    return SIGN + b"".join(parts)


def read_texts(payload: bytes) -> list[bytes]:
    """Parse a payload of `write_texts`; raises RemoteProtocolError."""
    texts, at = [], len(SIGN)
    while at < len(payload):
        begin = at + PREFIX_BYTES
        end = begin + int.from_bytes(payload[at:begin], "big")
        if not begin < end <= min(len(payload), begin + TEXT_BYTES):
            raise RemoteProtocolError("a text to sign is empty, cut off or too long")
        texts.append(payload[begin:end])
        at = end
    if len(texts) > MOST_TEXTS:
        raise RemoteProtocolError(f"more than {MOST_TEXTS} texts to sign")
    return texts


def read_signatures(payload: bytes, count: int) -> list[bytes]:
    """Parse the answer for `count` texts; raises RemoteProtocolError."""
    if len(payload) != len(SIGN) + count * SIGNATURE_BYTES or not payload.startswith(SIGN):
        raise RemoteProtocolError("the signer's answer has another number of signatures")
    return [payload[at : at + SIGNATURE_BYTES] for at in range(len(SIGN), len(payload), SIGNATURE_BYTES)]


def write_object(**fields: Any) -> bytes:
    """Return a request or an answer as a payload."""
    return json.dumps(fields).encode()


def read_object(payload: bytes) -> dict[str, Any]:
    """Parse a JSON payload; raises RemoteProtocolError."""
    try:
        fields = json.loads(payload)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise RemoteProtocolError("it is not a JSON object")
    return fields


def text_of(fields: dict[str, Any], name: str) -> str:
    """Return a field that must be text; raises RemoteProtocolError."""
    value = fields.get(name)
    if not isinstance(value, str):
        raise RemoteProtocolError(f"{name} is missing, or no text")
    return value
