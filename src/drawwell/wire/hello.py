"""The key-exchange groups offered and chosen in a TLS 1.3 handshake.

The ssl module does not expose these groups. Only reports use them.
"""

import contextlib
import ssl
import struct
from typing import Final

GROUP_NAMES: Final = {
    0x0017: "secp256r1",
    0x0018: "secp384r1",
    0x0019: "secp521r1",
    0x001D: "x25519",
    0x001E: "x448",
    0x0100: "ffdhe2048",
    0x0101: "ffdhe3072",
    0x0102: "ffdhe4096",
    0x0103: "ffdhe6144",
    0x0104: "ffdhe8192",
    0x11EB: "SecP256r1MLKEM768",
    0x11EC: "X25519MLKEM768",
    0x11ED: "SecP384r1MLKEM1024",
}
"""IANA's "TLS Supported Groups" that OpenSSL 3.5 supports for TLS 1.3."""
X25519MLKEM768: Final = 0x11EC
MAX_HELLO_BYTES: Final = 16_384
"""Limit of the stored part of a hello: one record (RFC 8446, section 5.1)."""

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_SERVER_HELLO: Final = 2
_SUPPORTED_GROUPS: Final = 10
_KEY_SHARE: Final = 51


def offered_groups(context: ssl.SSLContext) -> tuple[int, ...]:
    """Return the numbers of the groups that a client with `context` offers.

    A server in this process accepts the same groups, because OpenSSL's configuration applies
    to both.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="offered.invalid")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    body = _extension(outgoing.read(), _CLIENT_HELLO, _SUPPORTED_GROUPS)
    if body is None or len(body) < 2:
        return ()
    return tuple(number for (number,) in struct.iter_unpack(">H", body[2 : len(body) // 2 * 2]))


def chosen_group(server_hello: bytes) -> int | None:
    """Return the group in a server's first record, or None if incomplete."""
    body = _extension(server_hello, _SERVER_HELLO, _KEY_SHARE)
    return int.from_bytes(body[:2]) if body and len(body) >= 2 else None


def group_name(number: int) -> str:
    """Return the usual name of a group."""
    return GROUP_NAMES.get(number, f"group {number:#06x}")


def _extension(record: bytes, message: int, wanted: int) -> bytes | None:
    """Return one extension of the hello in `record` (RFC 8446, section 4.1)."""
    hello = _Bytes(record)
    try:
        if hello.number(1) != _HANDSHAKE:
            return None
        hello.take(4)  # version and length of the record
        if hello.number(1) != message:
            return None
        hello = _Bytes(hello.take(hello.number(3)))
        hello.take(2 + 32)  # version and random
        hello.take(hello.number(1))  # session
        hello.take(hello.number(2) if message == _CLIENT_HELLO else 2)  # suites, or the suite
        hello.take(hello.number(1) if message == _CLIENT_HELLO else 1)  # compression
        extensions = _Bytes(hello.take(hello.number(2)))
        while True:
            kind, body = extensions.number(2), extensions.take(extensions.number(2))
            if kind == wanted:
                return body
    except EOFError:
        return None


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise EOFError
        taken, self._at = self._data[self._at : end], end
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))
