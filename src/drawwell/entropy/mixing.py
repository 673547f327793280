"""Mix grants from several brokers into one grant with one receipt.

The mixed bytes are the XOR of the parts. Each line of the receipt is one part's receipt.
The receipt's key consists of each part's key, followed by all parts except the last, which can
be computed from the others and the mixed bytes. A single grant is returned unchanged.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from drawwell.entropy.blocks import Grant

KEY_BYTES: Final = 32
"""The size of the HMAC key of a receipt (crypto/receipt_form.py)."""


class Part(NamedTuple):
    """A broker's part of mixed bytes, and the HMAC key of its receipt."""

    data: bytes
    key: bytes


def mixed(grants: Sequence[Grant]) -> Grant:
    """Mix grants into one, with the serial number of the first."""
    first, *others = grants
    if not others:
        return first
    data = _xor([grant.data for grant in grants])
    if not all(grant.receipt for grant in grants):
        return Grant(data, first.serial, first.draw_class)
    keys = [grant.receipt_key for grant in grants] + [grant.data for grant in grants[:-1]]
    receipt = b"\n".join(grant.receipt for grant in grants)
    return Grant(data, first.serial, first.draw_class, receipt, b"".join(keys))


def parts(data: bytes, key: bytes, count: int) -> list[Part]:
    """Return the `count` parts of mixed bytes.

    Raises:
        ValueError: `key` has the wrong length for a receipt of `count` parts.
    """
    n_bytes = len(data)
    if len(key) != count * KEY_BYTES + (count - 1) * n_bytes:
        raise ValueError(f"the key does not fit a receipt for {n_bytes} bytes from {count} brokers")
    keys = [key[place * KEY_BYTES :][:KEY_BYTES] for place in range(count)]
    known = [key[count * KEY_BYTES + place * n_bytes :][:n_bytes] for place in range(count - 1)]
    return list(map(Part, [*known, _xor([data, *known])], keys))


def _xor(texts: Sequence[bytes]) -> bytes:
    total = 0
    for text in texts:
        total ^= int.from_bytes(text, "little")
    return total.to_bytes(len(texts[0]), "little")
