"""Induced failures and the signed evidence folder."""

import hashlib
import subprocess

import pytest

from drawwell.assess.evidence.folder import (
    MANIFEST,
    PUBLIC_KEY,
    SIGNATURE,
    cutoffs_text,
    derivations,
    manifest,
    readme,
    sign,
    verify,
)
from drawwell.assess.evidence.induced_failures import induce_failures, log_of
from drawwell.crypto.receipts import receipt_key_from_seed
from drawwell.entropy.health import HealthMonitor, NoiseClaim
from drawwell.errors import AuthenticationFailed, BadData
from drawwell.testing.sick import good

SAMPLES = good(3).read(600_000)
KEY = bytes(32)


@pytest.mark.parametrize("claim", [NoiseClaim(6.0), NoiseClaim(7.5, bits=False), NoiseClaim(1.0, bits=False)])
def test_every_induced_failure_is_noticed_and_health_is_not(claim):
    """Stuck, biased, looping and dead inputs fail; good samples do not."""
    found = {failure.name: failure for failure in induce_failures(SAMPLES, claim, KEY)}
    assert set(found) == {"healthy", "stuck", "biased", "looping", "dead"}
    assert found.pop("healthy").run.failures == 0
    assert found["dead"].noticed_after == 0
    assert all(failure.noticed_after is not None for failure in found.values())


def test_a_stuck_source_fires_at_the_cutoff_to_the_sample():
    """A run of 11 equal bytes fails permanently at exactly its 11th."""
    stuck = next(f for f in induce_failures(SAMPLES, NoiseClaim(6.0), KEY) if f.name == "stuck")
    assert stuck.noticed_after == 10
    fired = stuck.run.events[-1]
    assert (fired.sample, fired.kind, fired.test) == (stuck.failed_at + 9, "permanent", "repetition count")


def test_the_log_names_the_sample_and_that_it_was_simulated():
    """The log names each failure's sample, and marks a simulated device."""
    log = log_of(induce_failures(SAMPLES, NoiseClaim(6.0), KEY), simulated=True)
    assert "SIMULATED" in log.splitlines()[1]
    assert "sample    65,545  permanent: repetition count test: 11 equal bytes in a row" in log


def test_too_few_samples_are_refused():
    """A capture that is too short for induced failures is refused."""
    with pytest.raises(BadData):
        induce_failures(SAMPLES[:70_000], NoiseClaim(6.0), KEY)


def test_every_cutoff_is_derived():
    """Each derivation ends in the cutoff that the health tests use."""
    tests = HealthMonitor(NoiseClaim(6.0), hash_key=KEY).reports()
    rows = derivations(tests)
    assert len(rows) == 2 * len(tests)
    for row in rows:
        assert row["derivation"].removesuffix(" bytes").endswith(str(row["cutoff"]))
    assert "restart sanity check" in cutoffs_text(rows, restart=40, h_initial=6.0)


def folder():
    files = {"raw.bin": b"samples", "README.md": b"text"}
    listed = manifest(files, {"source": "front", "simulated": True})
    signature, public = sign(listed, receipt_key_from_seed(bytes(range(32))))
    return files | {MANIFEST: listed, SIGNATURE: signature, PUBLIC_KEY: public}


def test_a_folder_as_it_was_signed_is_verified():
    """Verification of an unchanged folder returns every file's SHA-256 hash."""
    found = verify(folder())
    assert found["simulated"] is True
    assert found["files"]["raw.bin"]["sha256"] == hashlib.sha256(b"samples").hexdigest()


@pytest.mark.parametrize("name", ["raw.bin", MANIFEST, SIGNATURE])
def test_a_changed_folder_is_refused(name):
    """A changed byte in a file, the manifest or the signature is detected."""
    files = folder()
    files[name] = bytes([files[name][0] ^ 1]) + files[name][1:]
    with pytest.raises(AuthenticationFailed):
        verify(files)


@pytest.mark.parametrize("name", ["raw.bin", MANIFEST, SIGNATURE, PUBLIC_KEY])
def test_a_missing_file_is_named(name):
    """The error names a missing file, whether listed or required."""
    files = folder()
    del files[name]
    with pytest.raises(BadData, match=name):
        verify(files)


def test_openssl_verifies_the_signature(tmp_path):
    """The README's openssl command verifies the manifest."""
    for name, data in folder().items():
        (tmp_path / name).write_bytes(data)
    text = readme(name="front", simulated=True, noise="raw noise", restart="paused", samples=7)
    command = next(line.split() for line in text.splitlines() if line.startswith("    openssl"))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_readme_claims_no_certificate():
    """The README disclaims certification, and names a simulated device."""
    text = readme(name="front", simulated=True, noise="raw noise", restart="paused", samples=7)
    assert "not a certificate" in text
    assert "SIMULATED" in text
