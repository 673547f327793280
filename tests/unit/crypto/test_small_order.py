"""Receipt keys of small order, for which signatures prove nothing."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from drawwell.crypto.receipts import SMALL_ORDER, public_key_id

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]


def add(a: Point, b: Point) -> Point:
    """Add two points of edwards25519 (RFC 8032, 5.1.4, in affine form)."""
    cross = D * a[0] * b[0] * a[1] * b[1] % P
    x = (a[0] * b[1] + a[1] * b[0]) * pow(1 + cross, -1, P) % P
    return x, (a[1] * b[1] + a[0] * b[0]) * pow(1 - cross, -1, P) % P


def times(n: int, point: Point) -> Point:
    """Multiply by doubling and adding."""
    total = (0, 1)
    for bit in f"{n:b}":
        total = add(total, total)
        total = add(total, point) if bit == "1" else total
    return total


def on_the_curve(y: int) -> Point | None:
    """Return the point with this y and an even x (RFC 8032, 5.1.3)."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    return (x if x % 2 == 0 else P - x, y) if x * x % P == square else None


def small_order_points() -> set[Point]:
    """Multiply points by L, which leaves points of an order that divides 8."""
    found: set[Point] = set()
    for y in range(2, 100):
        if point := on_the_curve(y):
            torsion = times(L, point)
            found |= {times(n, torsion) for n in range(8)}
    return found


@pytest.mark.slow
def test_the_list_is_every_encoding_of_the_eight_points() -> None:
    """Each y below p is listed, and y + p if it fits into 255 bits."""
    points = small_order_points()
    ys = {y for _, y in points}
    assert len(points) == 8
    assert {int.from_bytes(each, "little") for each in SMALL_ORDER} == ys | {
        y + P for y in ys if y + P < 2**255
    }


@pytest.mark.parametrize("sign", [0, 0x80])
@pytest.mark.parametrize("encoded", sorted(SMALL_ORDER))
def test_a_key_of_small_order_is_refused(encoded: bytes, sign: int) -> None:
    """OpenSSL accepts the key, and would verify any message with it."""
    raw = encoded[:31] + bytes([encoded[31] | sign])
    pem = Ed25519PublicKey.from_public_bytes(raw).public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(ValueError, match="small order"):
        public_key_id(pem)


def test_a_signature_for_the_neutral_element_verifies_anything() -> None:
    """With the neutral element as R and S = 0, every message verifies."""
    neutral = (1).to_bytes(32, "little")
    Ed25519PublicKey.from_public_bytes(neutral).verify(neutral + bytes(32), b"whatever was granted")
