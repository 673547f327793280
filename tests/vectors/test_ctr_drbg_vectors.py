"""CTR_DRBG, compared with published answers and with OpenSSL."""

import hashlib
import json
import runpy
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drawwell.crypto.ctr_drbg import CtrDrbg

HERE = Path(__file__).parent
VECTORS = json.loads((HERE / "ctr_drbg_aes256_nodf.json").read_text())

OPENSSL = runpy.run_path(str(HERE / "openssl_drbg.py"))
NO_OPENSSL = OPENSSL["missing"]()


def hexed(text: str | None) -> bytes:
    return bytes.fromhex(text or "")


@pytest.mark.parametrize("case", VECTORS["cavp"], ids=lambda case: case["name"])
def test_nist_known_answer(case: dict) -> None:
    """The second output of every NIST case equals the published one."""
    drbg = CtrDrbg(hexed(case["entropy"]), hexed(case["personalization"]))
    if case["reseed"]:
        drbg.reseed(hexed(case["reseed"]), hexed(case["additional_reseed"]))
    for additional, fresh in zip(case["additional"], case["prediction_resistance"], strict=True):
        if fresh:
            drbg.reseed(hexed(fresh), hexed(additional))
        output = drbg.generate(len(case["returned"]) // 2, b"" if fresh else hexed(additional))

    assert output.hex() == case["returned"]


def test_every_nist_case_names_where_it_comes_from() -> None:
    """Every vector names its origin."""
    assert {case["source"] for case in VECTORS["cavp"]} <= VECTORS["provenance"].keys()
    assert all(entry["origin"] for entry in VECTORS["provenance"].values())


@pytest.mark.parametrize("case", VECTORS["openssl"], ids=lambda case: case["entropy"][:8])
def test_recorded_openssl_answer(case: dict) -> None:
    """All three outputs of every case equal those recorded from OpenSSL."""
    drbg = CtrDrbg(hexed(case["entropy"]), hexed(case["personalization"]))
    for step in ("generate1", "generate2", "generate3"):
        if step == "generate2":
            drbg.reseed(hexed(case["reseed"]["entropy"]), hexed(case["reseed"]["additional"]))
        output = drbg.generate(case[step]["bytes"], hexed(case[step]["additional"]))
        assert hashlib.sha256(output).hexdigest() == case[step]["out_sha256"]
        assert case[step]["out"] in (None, output.hex())


seeds = st.binary(min_size=48, max_size=48)
texts = st.binary(max_size=48)
steps = st.tuples(
    st.none() | seeds, texts, st.integers(1, 200) | st.sampled_from([4096, 65535, 65536]), texts
)


@pytest.mark.skipif(NO_OPENSSL is not None, reason=NO_OPENSSL or "")
@given(seed=seeds, personalization=texts, history=st.lists(steps, min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_same_bytes_as_openssl_itself(seed: bytes, personalization: bytes, history: list) -> None:
    """OpenSSL gives the same bytes for any history of reseeds and requests."""
    ours = CtrDrbg(seed, personalization)
    theirs = OPENSSL["OpensslDrbg"](seed, personalization, "CTR-DRBG")
    for fresh, additional_reseed, n, additional in history:
        if fresh is not None:
            ours.reseed(fresh, additional_reseed)
            theirs.reseed(fresh, additional_reseed)
        assert ours.generate(n, additional) == theirs.generate(n, additional)
    theirs.close()
