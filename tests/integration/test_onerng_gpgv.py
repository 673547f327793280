"""Our verifier and GnuPG's, with keys and signatures by GnuPG."""

import hashlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from drawwell.onerng.image import BadSignature
from drawwell.onerng.openpgp import RsaKey, encode_mpi, encoded_digest, parse_signature, verify
from drawwell.onerng.verify import Signer, verify_dump
from drawwell.reports import Firmware
from drawwell.simulator import firmware_image

pytestmark = pytest.mark.slow

SIZES = (2048, 3072, 4096)
LAYOUTS = [(1, 2048), (1, 3072), (1, 4096), (2, 4096), (3, 2048), (3, 3072)]
SHA256 = 8


@dataclass(frozen=True)
class Keyring:
    """A separate GnuPG home with one RSA key of each size."""

    home: Path

    def gpg(self, *arguments: str, data: bytes | None = None) -> bytes:
        command = ["gpg", "--homedir", str(self.home), "--batch", "--quiet", *arguments]
        return subprocess.run(command, input=data, capture_output=True, check=True).stdout

    def make(self, size: int) -> None:
        self.gpg("--passphrase", "", "--quick-gen-key", mail(size), f"rsa{size}", "sign", "never")

    def export(self, size: int) -> Path:
        path = self.home / f"{size}.gpg"
        path.write_bytes(self.gpg("--export", mail(size)))
        return path

    def key(self, size: int) -> RsaKey:
        """Read the public key's numbers from GnuPG's listing."""
        listing = self.gpg("--with-colons", "--with-key-data", "--list-keys", mail(size)).decode()
        rows = [line.split(":") for line in listing.splitlines()]
        created = next(int(row[5]) for row in rows if row[0] == "pub")
        n, e = (int(row[3], 16) for row in rows if row[0] == "pkd")
        return RsaKey(created, n, e)

    def sign(self, size: int, data: bytes, digest: str = "SHA256") -> bytes:
        return self.gpg("-u", self.key(size).fingerprint, "--digest-algo", digest, "--detach-sign", data=data)

    def private_exponent(self, size: int) -> int:
        """Read d from the unprotected secret key packet (RFC 4880, 5.5.3)."""
        packet = self.gpg(
            "--passphrase", "", "--pinentry-mode", "loopback", "--export-secret-keys", mail(size)
        )
        at = packet.index(self.key(size).body) + len(self.key(size).body)
        assert packet[at] == 0, "the secret key is not protected"
        bits = int.from_bytes(packet[at + 1 : at + 3], "big")
        return int.from_bytes(packet[at + 3 : at + 3 + (bits + 7) // 8], "big")


def mail(size: int) -> str:
    return f"rsa{size}@test.invalid"


@pytest.fixture(scope="module")
def keyring() -> Iterator[Keyring]:
    # A short path: gpg-agent's socket must fit into 108 bytes.
    with TemporaryDirectory(prefix="dw-gpg-") as home:
        ring = Keyring(Path(home))
        for size in SIZES:
            ring.make(size)
        yield ring
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)


def gpgv_accepts(keys: Path, signature: bytes, data: bytes) -> bool:
    with scratch(signature, data) as (signature_file, data_file):
        command = ["gpgv", "--keyring", str(keys), signature_file, data_file]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def scratch(*contents: bytes) -> Iterator[list[str]]:
    with TemporaryDirectory() as directory:
        paths = [Path(directory) / str(number) for number in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        yield [str(path) for path in paths]


def we_accept(key: RsaKey, signature: bytes, data: bytes) -> bool:
    try:
        verify(parse_signature(signature), data, [key])
    except BadSignature:
        return False
    return True


def changed(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :]


def old_style_signature(ring: Keyring, size: int, data: bytes, age: int = 0) -> bytes:
    """Make a signature like GnuPG 1.4: time hashed, key ID unhashed."""
    key = ring.key(size)
    hashed = b"\x04\x00\x01\x08\x00\x06\x05\x02" + (key.created + age).to_bytes(4, "big")
    digest = hashlib.sha256(data + hashed + b"\x04\xff" + len(hashed).to_bytes(4, "big")).digest()
    value = pow(encoded_digest(SHA256, digest, size // 8), ring.private_exponent(size), key.n)
    body = hashed + b"\x00\x0a\x09\x10" + bytes.fromhex(key.key_id) + digest[:2] + encode_mpi(value)
    return b"\x89" + len(body).to_bytes(2, "big") + body


@pytest.mark.parametrize("digest", ["SHA1", "SHA256", "SHA384", "SHA512"])
@pytest.mark.parametrize("size", SIZES)
def test_gnupgs_signatures_are_accepted_by_both(keyring: Keyring, size: int, digest: str) -> None:
    """gpgv and our verifier accept every key size with every hash."""
    data = b"noise" * 1000
    signature = keyring.sign(size, data, digest)
    assert parse_signature(signature).hash_name == digest
    assert gpgv_accepts(keyring.export(size), signature, data)
    assert we_accept(keyring.key(size), signature, data)


@pytest.mark.parametrize("size", SIZES)
def test_the_fingerprint_is_gnupgs(keyring: Keyring, size: int) -> None:
    """The computed fingerprint equals the one that GnuPG prints."""
    assert keyring.key(size).fingerprint in keyring.gpg("--with-colons", "--list-keys", mail(size)).decode()


@pytest.mark.parametrize("size", SIZES)
def test_a_signature_changed_anywhere_is_refused_by_both(keyring: Keyring, size: int) -> None:
    """We never accept a packet that gpgv refuses, over sampled bytes."""
    data, key, keys = b"firmware", keyring.key(size), keyring.export(size)
    signature = keyring.sign(size, data)
    for at in [*range(3, 50), len(signature) // 2, len(signature) - 1]:
        forged = changed(signature, at)
        assert gpgv_accepts(keys, forged, data) or not we_accept(key, forged, data), at


def test_what_an_unhashed_byte_may_change_is_no_figure(keyring: Keyring) -> None:
    """Only bytes outside the hashed part can change undetected."""
    data, key = b"firmware", keyring.key(2048)
    signature = keyring.sign(2048, data)
    original = parse_signature(signature)
    for at in range(len(signature)):
        if we_accept(key, changed(signature, at), data):
            forged = parse_signature(changed(signature, at))
            assert (forged.hashed, forged.value) == (original.hashed, original.value)


@pytest.mark.parametrize("keep", [0, 1, 3, 20, 60, -1])
def test_a_truncated_signature_is_refused_by_both(keyring: Keyring, keep: int) -> None:
    """No prefix of a signature passes either verifier."""
    data = b"firmware"
    signature = keyring.sign(3072, data)[:keep]
    assert not gpgv_accepts(keyring.export(3072), signature, data)
    assert not we_accept(keyring.key(3072), signature, data)


@pytest.mark.parametrize("other", [2048, 4096])
def test_the_wrong_key_is_refused_by_both(keyring: Keyring, other: int) -> None:
    """A signature with one key is not accepted for another."""
    data = b"firmware"
    signature = keyring.sign(3072, data)
    assert not gpgv_accepts(keyring.export(other), signature, data)
    assert not we_accept(keyring.key(other), signature, data)


@pytest.mark.parametrize(("version", "size"), LAYOUTS)
def test_images_signed_by_gnupg_verify(keyring: Keyring, version: int, size: int) -> None:
    """A dump signed by gpg verifies in each layout with enough room."""
    signed = firmware_image.simulated_code(version)
    signature = keyring.sign(size, signed)
    dump = firmware_image.assemble_dump(signed, signature, version=version)
    assert gpgv_accepts(keyring.export(size), signature, signed)
    assert verify_dump(dump, Signer("test", keyring.key(size))).outcome is Firmware.VERIFIED


def test_a_modern_rsa_4096_signature_does_not_fit_version_3(keyring: Keyring) -> None:
    """GnuPG 2's signatures exceed the 550 bytes in a V3 dump."""
    signed = firmware_image.simulated_code(3)
    signature = keyring.sign(4096, signed)
    assert len(signature) > 550
    with pytest.raises(ValueError, match="do not fit"):
        firmware_image.assemble_dump(signed, signature, version=3)


def test_the_vendors_543_bytes_fit_version_3(keyring: Keyring) -> None:
    """An old-style RSA-4096 signature passes gpgv and fits a V3 dump."""
    signed = firmware_image.simulated_code(3)
    # One signature in 256 is a byte shorter, because its number is smaller.
    attempts = (old_style_signature(keyring, 4096, signed, age) for age in range(20))
    signature = next(attempt for attempt in attempts if len(attempt) == 543)
    assert gpgv_accepts(keyring.export(4096), signature, signed)
    dump = firmware_image.assemble_dump(signed, signature, version=3)
    assert verify_dump(dump, Signer("test", keyring.key(4096))).outcome is Firmware.VERIFIED


def test_the_exported_test_key_is_good_for_gnupg(keyring: Keyring, tmp_path: Path) -> None:
    """gpgv accepts the simulated image with the exported test key."""
    (tmp_path / "key.asc").write_text(firmware_image.export_public_key())
    keyring.gpg("--import", str(tmp_path / "key.asc"))
    keys = tmp_path / "key.gpg"
    keys.write_bytes(keyring.gpg("--export", "simulated@drawwell.invalid"))
    code = firmware_image.simulated_code(3)
    assert gpgv_accepts(keys, firmware_image.sign(code), code)
    assert not gpgv_accepts(keys, firmware_image.sign(code), changed(code, 0))
