"""The key that must have signed a OneRNG's firmware, from a GnuPG export."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.config.broker_side import SourceSection
from drawwell.drivers.firmware_key import firmware_signer
from drawwell.errors import ConfigError
from drawwell.onerng.image import BadSignature
from drawwell.onerng.openpgp_key import signer_of
from drawwell.onerng.verify import SIMULATOR, VENDOR, verify_dump
from drawwell.reports import Firmware
from drawwell.simulator.firmware_image import export_public_key, simulated_dump

VENDORS = Path(__file__).resolve().parents[2] / "vectors" / "onerng_pubkey.asc"
TEST_KEY = export_public_key().encode()


def test_the_vendors_key_is_the_vendor() -> None:
    """The key in the vendor's own program equals the built-in one."""
    assert signer_of(VENDORS.read_bytes()) is VENDOR


def test_the_published_test_key_is_the_simulated_devices() -> None:
    """A configuration with the test key gets verdicts marked as simulated."""
    signer = signer_of(TEST_KEY)

    assert signer is SIMULATOR
    verdict = verify_dump(simulated_dump(3), signer)
    assert (verdict.outcome, verdict.simulated) == (Firmware.VERIFIED, True)


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Create GnuPG keys: RSA with a subkey, and Ed25519."""
    if shutil.which("gpg") is None:
        pytest.skip("gpg is not installed")
    home = tmp_path_factory.mktemp("gnupg")
    home.chmod(0o700)
    gpg = [
        "gpg",
        "--homedir",
        str(home),
        "--batch",
        "--quiet",
        "--passphrase",
        "",
        "--pinentry-mode",
        "loopback",
    ]
    for name, kind in (("rsa", "rsa2048"), ("ed", "ed25519")):
        subprocess.run(
            [*gpg, "--quick-gen-key", name, kind, "sign", "never"], check=True, capture_output=True
        )
    shown = subprocess.run(
        [*gpg, "--with-colons", "-k", "rsa"], check=True, capture_output=True, text=True
    ).stdout
    fingerprint = next(line.split(":")[9] for line in shown.splitlines() if line.startswith("fpr:"))
    subprocess.run([*gpg, "--quick-add-key", fingerprint, "rsa2048", "sign"], check=True, capture_output=True)
    return [*gpg, fingerprint]


def exported(keyring: list[str], *arguments: str) -> bytes:
    return subprocess.run([*keyring[:-1], *arguments], check=True, capture_output=True).stdout


@pytest.mark.parametrize("armour", [["--armor"], []])
def test_a_key_of_ones_own(keyring: list[str], armour: list[str]) -> None:
    """A GnuPG export, armoured or not, has the same fingerprint as in GnuPG."""
    signer = signer_of(exported(keyring, *armour, "--export", "rsa"))

    assert signer.primary.fingerprint == keyring[-1]
    assert len(signer.subkeys) == 1
    assert not signer.sha1_accepted


def test_other_keys_are_refused(keyring: list[str]) -> None:
    """Other algorithms, secret keys, two keys and no key have separate errors."""
    for reason, data in (
        ("not a version 4 RSA key", exported(keyring, "--export", "ed")),
        ("a secret key", exported(keyring, "--export-secret-keys", "rsa")),
        ("more than one key", exported(keyring, "--export")),
        ("no OpenPGP public key", b""),
        ("not an OpenPGP packet", b"hello"),
        ("incomplete", TEST_KEY[:300]),
        ("are not a key", bytes(10**6)),
    ):
        with pytest.raises(BadSignature, match=reason):
            signer_of(data)


@given(st.integers(0, 3000), st.binary(min_size=1, max_size=20))
def test_damaged_keys_are_refused_or_other_keys(at: int, rubbish: bytes) -> None:
    """A change of any byte causes the named error or gives another key."""
    data = VENDORS.read_bytes()
    start = data.index(b"-----BEGIN")
    at = start + at % (len(data) - start)
    try:
        signer_of(data[:at] + rubbish + data[at + len(rubbish) :])
    except BadSignature:
        return


def test_configuration_names_the_file(tmp_path: Path) -> None:
    """Without a file the vendor's key is used; a bad file is an error."""
    (tmp_path / "good").write_bytes(TEST_KEY)
    (tmp_path / "bad").write_bytes(b"hello")

    assert firmware_signer(SourceSection(name="a")) is VENDOR
    assert firmware_signer(SourceSection(name="a", firmware_key=f"{tmp_path}/good")) is SIMULATOR
    for name, reason in (("bad", "not an OpenPGP packet"), ("none", "no such file")):
        with pytest.raises(ConfigError, match=reason):
            firmware_signer(SourceSection(name="a", firmware_key=f"{tmp_path}/{name}"))
