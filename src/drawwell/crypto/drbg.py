"""Consumers' generators: Hash_DRBG with SHA-512 (SP 800-90A r1, 10.1.1).

A small request costs three hashes. Bulk output comes from CTR_DRBG, which is many times as
fast: one instance for each request, seeded with 384 bits of this DRBG's output, used once and
wiped. Both are approved DRBGs of 256 bits of security strength.

The state is held in Python integers, which cannot be overwritten; `wipe` drops them.
"""

import hmac
from collections.abc import Callable
from hashlib import sha512
from typing import Final

from drawwell.crypto.ctr_drbg import MAX_REQUEST_BYTES, SEED_BYTES, CtrDrbg
from drawwell.errors import SelfTestFailure

RESEED_LIMIT: Final = 2**48
"""Requests between two reseeds (SP 800-90A r1, table 2)."""
BULK_BYTES: Final = 2048
"""Larger requests go to CTR_DRBG: measured, from here on it is the faster one."""

_STATE_BYTES: Final = 111
"""seedlen of SHA-512: 888 bits (SP 800-90A r1, table 2)."""
_STATE_MASK: Final = 2 ** (8 * _STATE_BYTES) - 1
_STATE_BITS: Final = (8 * _STATE_BYTES).to_bytes(4, "big")
_HASH_BYTES: Final = 64


class Drbg:
    """One instance, for one consumer. Two copies would give the same bytes.

    Args:
        seed: Entropy input and nonce: at least 48 bytes of full entropy (8.6.7).
        personalization: Distinguishes this instance from others; not secret.
        reseed_limit: Requests after which `generate` refuses until `reseed`.

    Raises:
        ValueError: `seed` is shorter.
    """

    def __init__(
        self, seed: bytes | bytearray, personalization: bytes = b"", *, reseed_limit: int = RESEED_LIMIT
    ) -> None:
        _require_seed(seed)
        self._reseed_limit = reseed_limit
        self._state = self._constant = self._requests = 0
        self._seed(bytes(seed) + personalization)

    def __repr__(self) -> str:
        return "<Drbg>"

    def generate(self, n: int, additional: bytes = b"") -> bytes:
        """Return `n` bytes (10.1.1.4).

        Raises:
            ValueError: `n` is not in 0 to 65,536.
            RuntimeError: it was wiped, or needs a new seed; no byte is given in that state.
        """
        if not 0 <= n <= MAX_REQUEST_BYTES:
            raise ValueError(f"a request is 0 to {MAX_REQUEST_BYTES} bytes")
        if n > BULK_BYTES:
            return self._bulk(n, additional)
        requests = self._requests
        if requests > self._reseed_limit:
            raise RuntimeError("the DRBG needs a seed")
        state = self._state
        data = state.to_bytes(_STATE_BYTES, "big")
        if additional:
            state += int.from_bytes(sha512(b"\x02" + data + additional).digest(), "big")
            data = (state & _STATE_MASK).to_bytes(_STATE_BYTES, "big")
        output = sha512(data).digest() if n <= _HASH_BYTES else _hashgen(data, n)
        state += int.from_bytes(sha512(b"\x03" + data).digest(), "big") + self._constant + requests
        self._state = state & _STATE_MASK
        self._requests = requests + 1
        return output[:n]

    def reseed(self, seed: bytes | bytearray, additional: bytes = b"") -> None:
        """Mix in new bytes of full entropy (10.1.1.3).

        Prediction resistance is this before `generate` (9.3.3).

        Raises:
            ValueError: `seed` is shorter than 32 bytes, the security strength.
            RuntimeError: it was wiped.
        """
        if not self._state:
            raise RuntimeError("the DRBG was wiped")
        if len(seed) < _HASH_BYTES // 2:
            raise ValueError("a new seed is at least 32 bytes")
        self._seed(b"\x01" + self._state.to_bytes(_STATE_BYTES, "big") + seed + additional)

    def wipe(self) -> None:
        """Forget the state; the instance gives nothing any more."""
        self._state = self._constant = 0
        self._requests = self._reseed_limit + 1

    def _bulk(self, n: int, additional: bytes) -> bytes:
        bulk = CtrDrbg(self.generate(SEED_BYTES, additional))
        output = bulk.generate(n)
        bulk.wipe()
        return output

    def _seed(self, material: bytes) -> None:
        data = _derive(material)
        self._state = int.from_bytes(data, "big")
        self._constant = int.from_bytes(_derive(b"\x00" + data), "big")
        self._requests = 1


def _hashgen(data: bytes, n: int) -> bytes:
    """Hashgen (10.1.1.4)."""
    first = int.from_bytes(data, "big")
    values = (first + number & _STATE_MASK for number in range(-(-n // _HASH_BYTES)))
    return b"".join(sha512(value.to_bytes(_STATE_BYTES, "big")).digest() for value in values)


def _derive(material: bytes) -> bytes:
    """Hash_df to the length of the state (10.3.1)."""
    return b"".join(sha512(bytes((count,)) + _STATE_BITS + material).digest() for count in (1, 2))[
        :_STATE_BYTES
    ]


def _require_seed(seed: bytes | bytearray) -> None:
    if len(seed) < SEED_BYTES:
        raise ValueError(f"a seed is at least {SEED_BYTES} bytes")


def self_test(make: Callable[[bytes, bytes], Drbg] = Drbg) -> None:
    """Run the known-answer test of SP 800-90A r1, 11.3, before the first use.

    The vector is the first of NIST CAVP drbgvectors_no_reseed/Hash_DRBG, [SHA-512], that has
    personalization and additional input; the first 64 bytes of its output.

    Raises:
        SelfTestFailure: a wrong byte came out.
    """
    drbg = make(_KAT_ENTROPY + _KAT_NONCE, _KAT_PERSONALIZATION)
    drbg.generate(_HASH_BYTES, _KAT_ADDITIONAL_1)
    if not hmac.compare_digest(drbg.generate(_HASH_BYTES, _KAT_ADDITIONAL_2), _KAT_RETURNED):
        raise SelfTestFailure(
            "the Hash_DRBG known-answer test failed",
            hint="Do not use this machine for keys; check its memory, its CPU and its OpenSSL.",
        )


_KAT_ENTROPY: Final = bytes.fromhex("c019421dd76ebe61dc590819ab0385af04786718e1ec13c20995ae183ddb4938")
_KAT_NONCE: Final = bytes.fromhex("3ceb9453616e12561ea0cbbd3da6e342")
_KAT_PERSONALIZATION: Final = bytes.fromhex(
    "5907582bf298edc00bc62952e1cf64c9d2d31ab704886ce075f5b7b8fdee0478"
)
_KAT_ADDITIONAL_1: Final = bytes.fromhex("27c88dcd607e7de8afbb5fc3e810d75e0a88a81909d4007113d1f59d209f9494")
_KAT_ADDITIONAL_2: Final = bytes.fromhex("9988b422743304739966101678f5b80cbcdabc14daa7da3a1ff798906ac293ec")
_KAT_RETURNED: Final = bytes.fromhex(
    "6cda9aedc71a4c483f8f006f7f2342af7395115a4c162a75e8b54fa4226bf6f1"
    "29ddacf93c5e86785434f660f82bfb3eff116a2a691e1f14603c605dbbe9a14a"
)
