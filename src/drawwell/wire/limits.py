"""The figures of the protocol. docs/protocol.md says the same; a test compares the two.

Lengths are bytes and count a frame's payload, without its four bytes of header.
"""

from typing import Final

PROTOCOL_VERSION: Final = 1
ALPN: Final = "drawwell/1"
"""RFC 7301 name of version 1 on a TLS connection; a peer that does not offer it is not served."""
DEFAULT_PORT: Final = 55000

HEADER_BYTES: Final = 4
MAX_DRAW_BYTES: Final = 65_536
"""One request of a DRBG: 2^19 bits (SP 800-90A Rev. 1, tables 2 and 3)."""
MAX_PATIENCE_MS: Final = 60_000
"""The longest that a draw may wait in line; then the client asks again, if it still wants to."""
MAX_RECEIPT_BYTES: Final = 16_384
RECEIPT_KEY_BYTES: Final = 32
"""HMAC-SHA-256 key of the receipt: as long as the hash (FIPS 198-1, section 3)."""
MAX_CALL_BYTES: Final = 16_384
MAX_RESULT_BYTES: Final = 1_048_576
MAX_JSON_DEPTH: Final = 32
"""Objects and arrays in one another, in a CALL or a RESULT."""
MAX_SOFTWARE_BYTES: Final = 128
MAX_NAME_BYTES: Final = 255
MAX_MESSAGE_BYTES: Final = 1_024
MAX_HINT_BYTES: Final = 1_024
MAX_REASON_BYTES: Final = 256
MAX_VERSIONS: Final = 16
MAX_OPEN_REQUESTS: Final = 64
"""Requests of one session that may wait for their answer at the same time."""
MAX_REQUEST_ID: Final = 2**32 - 1
SESSION_ID: Final = 0
"""The request id of a refusal that concerns the session as a whole; no request has it."""
MAX_HANDSHAKE_BYTES: Final = 32_768
"""Ciphertext taken from a peer before the TLS handshake has shown who it is: two full records."""
