"""Messages between a broker and its signer.

A message is a length in four bytes, big-endian, followed by the payload. A payload that begins
with ``S`` requests signatures of texts, each preceded by its length in four bytes. The answer
is ``S`` followed by 64 bytes per text. Any other payload is a JSON object: a request contains
``op`` and arguments, an answer contains ``error`` or the result.
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
    """Return a message with `payload`."""
    if len(payload) > LIMIT_BYTES:
        raise AssertionError("the message is too long")
    return len(payload).to_bytes(PREFIX_BYTES, "big") + payload


def payload_length(prefix: bytes) -> int:
    """Parse a payload's length; raise RemoteProtocolError if it is invalid."""
    length = int.from_bytes(prefix, "big")
    if not 0 < length <= LIMIT_BYTES:
        raise RemoteProtocolError(f"a message must be 1 to {LIMIT_BYTES} bytes, not {length}")
    return length


def take_payload(buffer: bytearray) -> bytes | None:
    """Remove and return the first payload in `buffer`, or None if incomplete.

    Raises the same error as `payload_length`.
    """
    if len(buffer) < PREFIX_BYTES:
        return None
    end = PREFIX_BYTES + payload_length(bytes(buffer[:PREFIX_BYTES]))
    if len(buffer) < end:
        return None
    payload = bytes(buffer[PREFIX_BYTES:end])
    del buffer[:end]
    return payload


def write_texts(texts: Sequence[bytes]) -> bytes:
    """Return the payload that requests signatures of up to `MOST_TEXTS` texts."""
    parts = [part for text in texts for part in (len(text).to_bytes(PREFIX_BYTES, "big"), text)]
    return SIGN + b"".join(parts)


def read_texts(payload: bytes) -> list[bytes]:
    """Parse a `write_texts` payload; raise RemoteProtocolError if invalid."""
    texts, at = [], len(SIGN)
    while at < len(payload):
        begin = at + PREFIX_BYTES
        end = begin + int.from_bytes(payload[at:begin], "big")
        if not begin < end <= min(len(payload), begin + TEXT_BYTES):
            raise RemoteProtocolError("a text to sign is empty, truncated or too long")
        texts.append(payload[begin:end])
        at = end
    if len(texts) > MOST_TEXTS:
        raise RemoteProtocolError(f"cannot sign {len(texts)} texts at once, only {MOST_TEXTS}")
    return texts


def read_signatures(payload: bytes, count: int) -> list[bytes]:
    """Parse `count` signatures; raise RemoteProtocolError if they are invalid."""
    if len(payload) != len(SIGN) + count * SIGNATURE_BYTES or not payload.startswith(SIGN):
        raise RemoteProtocolError("the signer's answer has a wrong number of signatures")
    return [payload[at : at + SIGNATURE_BYTES] for at in range(len(SIGN), len(payload), SIGNATURE_BYTES)]


def write_object(**fields: Any) -> bytes:
    """Return a request or an answer as a payload."""
    return json.dumps(fields).encode()


def read_object(payload: bytes) -> dict[str, Any]:
    """Parse a JSON payload; raise RemoteProtocolError if it is invalid."""
    try:
        fields = json.loads(payload)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise RemoteProtocolError("the message is not a JSON object")
    return fields


def text_of(fields: dict[str, Any], name: str) -> str:
    """Return a string field; raise RemoteProtocolError for any other type."""
    value = fields.get(name)
    if not isinstance(value, str):
        raise RemoteProtocolError(f"{name} is missing or not a string")
    return value
