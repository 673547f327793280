"""Hash_DRBG, compared with published answers and with OpenSSL."""

import json
import runpy
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drawwell.crypto.drbg import BULK_BYTES, Drbg

HERE = Path(__file__).parent
VECTORS = json.loads((HERE / "hash_drbg_sha512.json").read_text())
OPENSSL = runpy.run_path(str(HERE / "openssl_drbg.py"))
NO_OPENSSL = OPENSSL["missing"]()


@pytest.mark.parametrize("case", VECTORS["cavp"], ids=lambda case: case["name"])
def test_nist_known_hash_drbg_answer(case: dict) -> None:
    """The second output of every NIST case equals the published one."""
    drbg = Drbg(bytes.fromhex(case["entropy"] + case["nonce"]), bytes.fromhex(case["personalization"]))
    for additional in case["additional"]:
        output = drbg.generate(len(case["returned"]) // 2, bytes.fromhex(additional))

    assert output.hex() == case["returned"]


steps = st.tuples(
    st.none() | st.binary(min_size=48, max_size=48),
    st.binary(max_size=64),
    st.integers(1, 200) | st.just(BULK_BYTES),
    st.binary(max_size=64),
)


@pytest.mark.skipif(NO_OPENSSL is not None, reason=str(NO_OPENSSL))
@settings(max_examples=50, deadline=None)
@given(st.binary(min_size=48, max_size=48), st.binary(max_size=64), st.lists(steps, min_size=1, max_size=6))
def test_openssl_gives_the_same_hash_drbg_bytes(seed: bytes, personalization: bytes, todo: list) -> None:
    """OpenSSL's HASH-DRBG gives the same bytes for any history."""
    ours, theirs = Drbg(seed, personalization), OPENSSL["OpensslDrbg"](seed, personalization, "HASH-DRBG")
    try:
        for reseed, reseed_additional, n, additional in todo:
            if reseed is not None:
                ours.reseed(reseed, reseed_additional)
                theirs.reseed(reseed, reseed_additional)
            assert ours.generate(n, additional) == theirs.generate(n, additional)
    finally:
        theirs.close()
