"""OpenSSL's CTR_DRBG and Hash_DRBG by ctypes, for comparison."""

import ctypes
import ctypes.util

_UNSIGNED, _INTEGER, _UTF8, _OCTETS = 2, 1, 4, 5  # OSSL_PARAM data types, openssl/core.h
STRENGTH = 256


class _Param(ctypes.Structure):
    _fields_ = [
        ("key", ctypes.c_char_p),
        ("data_type", ctypes.c_uint),
        ("data", ctypes.c_void_p),
        ("data_size", ctypes.c_size_t),
        ("return_size", ctypes.c_size_t),
    ]


def missing() -> str | None:
    """Return why OpenSSL's DRBG cannot be used, or None if it can."""
    name = ctypes.util.find_library("crypto")
    if name is None:
        return "no libcrypto found"
    if not hasattr(ctypes.CDLL(name), "EVP_RAND_fetch"):
        return "libcrypto is older than OpenSSL 3"
    return None


SETTINGS = {
    "CTR-DRBG": (
        (b"cipher", _UTF8, ctypes.create_string_buffer(b"AES-256-CTR", 11)),
        (b"use_derivation_function", _INTEGER, ctypes.c_int(0)),
    ),
    "HASH-DRBG": ((b"digest", _UTF8, ctypes.create_string_buffer(b"SHA512", 6)),),
}
NONCE_BYTES = {"CTR-DRBG": 0, "HASH-DRBG": 16}


class OpensslDrbg:
    """A DRBG with a TEST-RAND parent, which returns the given entropy."""

    def __init__(self, entropy: bytes, personalization: bytes, name: str) -> None:
        self._lib = ctypes.CDLL(ctypes.util.find_library("crypto"))
        self._lib.EVP_RAND_fetch.restype = ctypes.c_void_p
        self._lib.EVP_RAND_CTX_new.restype = ctypes.c_void_p
        self._parent = self._context(b"TEST-RAND", None)
        self._set(self._parent, (b"strength", _UNSIGNED, ctypes.c_uint(STRENGTH)))
        split = len(entropy) - NONCE_BYTES[name]
        self._give(entropy[:split], entropy[split:])
        self._ok(self._lib.EVP_RAND_instantiate(self._parent, STRENGTH, 0, None, ctypes.c_size_t(0), None))
        self._drbg = self._context(name.encode(), self._parent)
        self._set(self._drbg, *SETTINGS[name])
        # an empty string, because for NULL OpenSSL uses its own
        self._ok(
            self._lib.EVP_RAND_instantiate(
                self._drbg, STRENGTH, 0, personalization, ctypes.c_size_t(len(personalization)), None
            )
        )

    def reseed(self, entropy: bytes, additional: bytes) -> None:
        self._give(entropy)
        self._ok(
            self._lib.EVP_RAND_reseed(
                self._drbg, 0, None, ctypes.c_size_t(0), additional, ctypes.c_size_t(len(additional))
            )
        )

    def generate(self, n: int, additional: bytes) -> bytes:
        out = ctypes.create_string_buffer(n)
        self._ok(
            self._lib.EVP_RAND_generate(
                self._drbg, out, ctypes.c_size_t(n), STRENGTH, 0, additional, ctypes.c_size_t(len(additional))
            )
        )
        return out.raw

    def close(self) -> None:
        self._lib.EVP_RAND_CTX_free(self._drbg)
        self._lib.EVP_RAND_CTX_free(self._parent)

    def _context(self, name: bytes, parent: ctypes.c_void_p | None) -> ctypes.c_void_p:
        algorithm = ctypes.c_void_p(self._lib.EVP_RAND_fetch(None, name, None))
        context = ctypes.c_void_p(self._lib.EVP_RAND_CTX_new(algorithm, parent))
        self._lib.EVP_RAND_free(algorithm)
        assert context
        return context

    def _give(self, entropy: bytes, nonce: bytes = b"") -> None:
        values = [(b"test_entropy", _OCTETS, ctypes.create_string_buffer(entropy, len(entropy)))]
        if nonce:
            values.append((b"test_nonce", _OCTETS, ctypes.create_string_buffer(nonce, len(nonce))))
        self._set(self._parent, *values)

    def _set(self, context: ctypes.c_void_p, *values: tuple[bytes, int, object]) -> None:
        params = (_Param * (len(values) + 1))()
        for param, (key, kind, value) in zip(params, values, strict=False):
            param.key, param.data_type = key, kind
            param.data, param.data_size = ctypes.addressof(value), ctypes.sizeof(value)
        self._ok(self._lib.EVP_RAND_CTX_set_params(context, params))

    def _ok(self, result: int) -> None:
        assert result == 1, "OpenSSL refused"
