"""AES-256 CTR_DRBG with no derivation function (SP 800-90A r1, 10.2.1).

The seed is 48 bytes of full entropy, used directly. Personalization and additional input
shorter than 48 bytes are padded with zeros (10.2.1.3.1, 10.2.1.4.1, 10.2.1.5.1). Longer input
would need a derivation function and is refused.

Key and counter are overwritten in memory; OpenSSL's copies cannot be overwritten.
"""

import hmac
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from drawwell.errors import SelfTestFailure

SEED_BYTES: Final = 48
"""seedlen: the sum of AES-256's key and block lengths (SP 800-90A r1, table 3)."""
MAX_REQUEST_BYTES: Final = 2**16
"""The largest request, 2^19 bits (SP 800-90A r1, table 3)."""
RESEED_LIMIT: Final = 2**48
"""Maximum number of requests between reseeds (SP 800-90A r1, table 3)."""

_KEY_BYTES: Final = 32
_BLOCK_BYTES: Final = 16
_COUNTER_BITS: Final = 8 * _BLOCK_BYTES
_COUNTER_MODULUS: Final = 2**_COUNTER_BITS
_ZEROS: Final = memoryview(bytes(MAX_REQUEST_BYTES + SEED_BYTES))


class CtrDrbg:
    """A DRBG instance for one consumer. A copy of it returns the same bytes.

    Args:
        seed: 48 bytes of full entropy.
        personalization: At most 48 bytes that distinguish this instance; not secret.
        reseed_limit: Requests after which `generate` requires a `reseed`; tests use fewer.

    Raises:
        ValueError: `seed` is not 48 bytes, or `personalization` is more than 48 bytes.
    """

    def __init__(
        self, seed: bytes | bytearray, personalization: bytes = b"", *, reseed_limit: int = RESEED_LIMIT
    ) -> None:
        self._key = bytearray(_KEY_BYTES)
        self._counter = 0
        self._reseed_limit = reseed_limit
        self._requests = 0
        self._generated = 0
        self._usable = False
        self.reseed(seed, personalization)

    def __repr__(self) -> str:
        return f"<CtrDrbg, {self._generated} bytes since its seed>"

    @property
    def generated_since_reseed(self) -> int:
        """The number of bytes generated since the last seed."""
        return self._generated

    def generate(self, n: int, additional: bytes = b"") -> bytes:
        """Return `n` bytes (10.2.1.5.1).

        Raises:
            ValueError: `n` is not in 0 to 65,536, or `additional` is longer than 48 bytes.
            RuntimeError: the DRBG was wiped, or needs a new seed; no byte was returned.
        """
        if not 0 <= n <= MAX_REQUEST_BYTES:
            raise ValueError(f"a request must be 0 to {MAX_REQUEST_BYTES} bytes, not {n}")
        provided = _number(additional)
        if not self._usable or self._requests >= self._reseed_limit:
            raise RuntimeError("the DRBG needs a seed")
        if additional:
            self._update(provided, 0)
        output = self._update(provided, n)
        self._requests += 1
        self._generated += n
        return output

    def reseed(self, seed: bytes | bytearray, additional: bytes = b"") -> None:
        """Mix in 48 new bytes of full entropy (10.2.1.4.1).

        A reseed before `generate` provides prediction resistance.

        Raises:
            ValueError: `seed` is not 48 bytes, or `additional` is more than 48 bytes.
        """
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed must be {SEED_BYTES} bytes, not {len(seed)}")
        self._update(_number(seed) ^ _number(additional), 0)
        self._requests = self._generated = 0
        self._usable = True

    def wipe(self) -> None:
        """Overwrite the state; `generate` fails until the next `reseed`."""
        self._key[:] = bytes(_KEY_BYTES)
        self._counter = 0
        self._usable = False

    def _update(self, provided: int, n: int) -> bytes:
        """Generate `n` bytes and update the state (10.2.1.2) from one key stream."""
        first = (self._counter + 1) % _COUNTER_MODULUS
        encryptor = Cipher(AES(self._key), CTR(first.to_bytes(_BLOCK_BYTES, "big"))).encryptor()
        whole_blocks = n + -n % _BLOCK_BYTES
        stream = encryptor.update(_ZEROS[: whole_blocks + SEED_BYTES])
        state = int.from_bytes(stream[whole_blocks:], "big") ^ provided
        self._key[:] = (state >> _COUNTER_BITS).to_bytes(_KEY_BYTES, "big")
        self._counter = state % _COUNTER_MODULUS
        return stream[:n]


def self_test(make: Callable[[bytes, bytes], CtrDrbg] = CtrDrbg) -> None:
    """Run the known-answer test of SP 800-90A r1, 11.3, before the first use.

    The vector is the first of NIST CAVP drbgvectors_pr_false/CTR_DRBG, [AES-256 no df], with
    reseed, personalization and additional input.

    Raises:
        SelfTestFailure: a byte is wrong.
    """
    drbg = make(_KAT_ENTROPY, _KAT_PERSONALIZATION)
    drbg.reseed(_KAT_RESEED, _KAT_ADDITIONAL_RESEED)
    drbg.generate(len(_KAT_RETURNED), _KAT_ADDITIONAL_1)
    if not hmac.compare_digest(drbg.generate(len(_KAT_RETURNED), _KAT_ADDITIONAL_2), _KAT_RETURNED):
        raise SelfTestFailure(
            "the CTR_DRBG known-answer test failed",
            hint="Do not use this machine for keys. Check its memory, its CPU and its OpenSSL.",
        )


def _number(text: bytes | bytearray) -> int:
    """Return an input, padded with zeros to 48 bytes, as a number."""
    if len(text) > SEED_BYTES:
        raise ValueError(f"additional input must be at most {SEED_BYTES} bytes, not {len(text)}")
    return int.from_bytes(text, "big") << 8 * (SEED_BYTES - len(text))


_KAT_ENTROPY: Final = bytes.fromhex(
    "ae7ebe062971f5eb32e5b21444750785de816595ad2cbe80a209c8f8ab04b5468166de8c6ae522d8f10b56386a3b424f"
)
_KAT_PERSONALIZATION: Final = bytes.fromhex(
    "55860dae57fcac297087c137efb796878a75868f6e7681114e9b73ed0c67e3c62bfc9f5d77e8caa59bcdb223f4ffd247"
)
_KAT_RESEED: Final = bytes.fromhex(
    "a42407931bfeca70e6ee5dd197021a129525051c07468e8b25587c5ad50abe9204e882fe847b8fd47cf7b4360e5aa034"
)
_KAT_ADDITIONAL_RESEED: Final = bytes.fromhex(
    "ee4c88d1eb05f4853663eada501d2fc4b4984b283a88db579af2113031e03d9bc570de943dd168918f3ba8065581fea7"
)
_KAT_ADDITIONAL_1: Final = bytes.fromhex(
    "4b4b03ef19b0f259dca2b3ee3ae4cd86c3895a784b3d8eee043a2003c08289f8fffdad141e6b1ab2174d8d5d79c1e581"
)
_KAT_ADDITIONAL_2: Final = bytes.fromhex(
    "3062b33f116b46e20fe3c354726ae9b2a3a4c51922c8107863cb86f1f0bdad7554075659d91c371e2b11b1e8106a1ed5"
)
_KAT_RETURNED: Final = bytes.fromhex(
    "0d270518baeafac160ff1cb28c11ef68712c764c0c01674e6c9ca2cc9c7e0e8a"
    "ccfd3c753635ee070081eee7628af6187fbc2854b3c204461a796cf3f3fcb092"
)
