"""The protocol's limits. A test compares them with docs/protocol.md.

Lengths are in bytes and exclude a frame's header of four bytes.
"""

from typing import Final

PROTOCOL_VERSION: Final = 1
ALPN: Final = "drawwell/1"
"""ALPN name of version 1 over TLS (RFC 7301). Peers that do not offer it are refused."""
DEFAULT_PORT: Final = 55000

HEADER_BYTES: Final = 4
MAX_DRAW_BYTES: Final = 65_536
"""The most that a DRBG generates per request, 2^19 bits (SP 800-90A r1, tables 2 and 3)."""
MAX_PATIENCE_MS: Final = 60_000
"""The longest wait of a draw in the queue. After that, the client can retry."""
MAX_RECEIPT_BYTES: Final = 16_384
RECEIPT_KEY_BYTES: Final = 32
MAX_MIXED: Final = 3
"""A receipt's HMAC-SHA-256 key, which is as long as the hash (FIPS 198-1, section 3)."""
MAX_CALL_BYTES: Final = 16_384
MAX_RESULT_BYTES: Final = 1_048_576
MAX_JSON_DEPTH: Final = 32
"""The deepest nesting of objects and arrays in a CALL or a RESULT."""
MAX_SOFTWARE_BYTES: Final = 128
MAX_NAME_BYTES: Final = 255
MAX_MESSAGE_BYTES: Final = 1_024
MAX_HINT_BYTES: Final = 1_024
MAX_REASON_BYTES: Final = 256
MAX_VERSIONS: Final = 16
MAX_OPEN_REQUESTS: Final = 64
"""The maximum number of unanswered requests in a session."""
MAX_REQUEST_ID: Final = 2**32 - 1
SESSION_ID: Final = 0
"""The request id in a refusal of the whole session; requests do not use it."""
MAX_HANDSHAKE_BYTES: Final = 32_768
"""Limit of input before a peer is identified by the TLS handshake: two full records."""
