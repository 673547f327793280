"""The keys of a broker: hierarchy, adoption of an older CA, rotation."""

import dataclasses
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from drawwell.crypto import pki
from drawwell.crypto.hierarchy import KeyList
from drawwell.crypto.receipts import ReceiptSigner, check_signature, receipt_key_from_seed
from drawwell.enrolment.ca import CertificateAuthority
from drawwell.enrolment.key_ring import KeyRing
from drawwell.errors import AuthenticationFailed, StateUnavailable, UsageError

NOW = 1_700_000_000.0
CSR = pki.new_key_and_csr("web01")[1]
HEAD = b'{"format":"drawwell-audit-head/1"}'
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


def ring_of(tmp_path: Path) -> KeyRing:
    return KeyRing(str(tmp_path / "keys"), "well", NOW)


def ca_of_0_1() -> pki.KeyPair:
    """Create a CA like release 0.1: self-signed, with path length 0."""
    pair = pki.new_ca("well", NOW)
    return dataclasses.replace(pair, certificate_pem=signed_by_itself(pair))


def signed_by_itself(pair: pki.KeyPair) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    key = pki.load_private_key(pair.key_pem)
    title = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "drawwell CA of well")])
    builder = pki.certificate_builder("drawwell CA of well", key.public_key(), NOW).issuer_name(title)
    builder = builder.not_valid_after(pki.utc(NOW + pki.CA_LIFETIME_S))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(pki.key_usage(ca=True), critical=True)
    return pki.encode_certificate(builder.sign(key, hashes.SHA256()))  # type: ignore[arg-type]


def openssl_accepts(tmp_path: Path, root: bytes, chain: bytes, now: float = NOW) -> bool:
    """Return whether a server's chain leads to a pinned root, strictly."""
    leaf, *others = pki.pem_blocks(chain)
    for name, pem in (("root", root), ("leaf", leaf), ("others", b"".join(others))):
        (tmp_path / f"{name}.pem").write_bytes(pem)
    command = ["openssl", "verify", "-x509_strict", "-attime", str(int(now)), "-purpose", "sslserver"]
    command += ["-CAfile", "root.pem", "-untrusted", "others.pem", "leaf.pem"]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0


@needs_openssl
def test_a_server_leads_to_the_root(tmp_path: Path) -> None:
    """OpenSSL verifies leaf, intermediate CA and root."""
    ring = ring_of(tmp_path)
    chain = ring.serve(CSR, ["well"], NOW)
    assert len(pki.pem_blocks(chain)) == 3
    assert openssl_accepts(tmp_path, ring.public().roots, chain)
    assert not openssl_accepts(tmp_path, pki.new_ca("well", NOW).certificate_pem, chain)


@needs_openssl
def test_the_ca_of_an_older_release_becomes_the_first_intermediate(tmp_path: Path) -> None:
    """The old CA's leaves verify with its own certificate and with the root."""
    old, directory = ca_of_0_1(), tmp_path / "keys"
    receipt_key = receipt_key_from_seed(bytes(32))
    keys = {"ca_certificate": old.certificate_pem, "ca_key": old.key_pem, "receipt_key": receipt_key}
    ring = KeyRing.adopt(str(directory), "well", NOW, {name: pem.decode() for name, pem in keys.items()})
    chain = ring.serve(CSR, ["well"], NOW)
    assert openssl_accepts(tmp_path, old.certificate_pem, chain)
    assert openssl_accepts(tmp_path, ring.public().roots, chain)
    assert ring.public().receipt_key == ReceiptSigner(receipt_key).public_key
    assert KeyList.read(ring.public().key_list, old.certificate_pem).roots[0].encode() == ring.public().roots
    assert not (directory / "ca-key.pem").exists()


@needs_openssl
def test_a_consumer_follows_every_rotation(tmp_path: Path) -> None:
    """Pinned keys verify the next list, and its roots verify the server."""
    ring = ring_of(tmp_path)
    authority, pinned = CertificateAuthority(str(tmp_path / "pki"), ring), ring.public().roots
    for key in ("receipts", "intermediate", "root", "intermediate", "finish-root", "receipts"):
        ring.rotate(key, NOW)
        authority.refresh()
        certificate, _ = authority.server_files(["well"], NOW)
        assert openssl_accepts(tmp_path, pinned, Path(certificate).read_bytes()) or key == "finish-root"
        pinned = "".join(KeyList.read(ring.public().key_list, pinned).roots).encode()
        assert openssl_accepts(tmp_path, pinned, Path(certificate).read_bytes())
        assert openssl_accepts(
            tmp_path, pinned, KeyRing(str(tmp_path / "keys"), "well", NOW).serve(CSR, ["a"], NOW)
        )


def test_receipts_of_an_earlier_key_stay_verifiable(tmp_path: Path) -> None:
    """The public key stays in the list, with its end."""
    ring = ring_of(tmp_path)
    before, [signature] = ring.public().receipt_key, ring.sign([HEAD])
    ring.rotate("receipts", NOW + 60)
    listed = KeyList.read(ring.public().key_list, ring.public().roots).receipt_keys
    assert [(key.public_key.encode(), key.until) for key in listed] == [
        (ring.public().receipt_key, 0), (before, NOW + 60)
    ]  # fmt: skip
    check_signature(before, signature, HEAD)
    with pytest.raises(AuthenticationFailed):
        check_signature(before, *ring.sign([HEAD]), HEAD)


def test_without_the_roots_key_leaves_go_on_and_rotations_do_not(tmp_path: Path) -> None:
    """Only the root's own signatures need an exported root; import works."""
    ring = ring_of(tmp_path)
    key = ring.export_root()
    ring.forget_root()
    assert not (tmp_path / "keys" / "root-key.pem").exists()
    again = ring_of(tmp_path)
    assert again.certify(CSR, "web01", NOW + 80 * pki.DAY_S)
    with pytest.raises(UsageError, match="not on this machine"):
        again.rotate("receipts", NOW)
    with pytest.raises(UsageError, match="key"):
        again.import_root(pki.new_ca("well", NOW).key_pem, NOW)
    again.import_root(key, NOW)
    assert again.rotate("receipts", NOW)


def test_an_intermediate_that_ended_signs_nothing_and_asks_for_the_root(tmp_path: Path) -> None:
    """The hint names the command, and the import alone renews the CA."""
    ring = ring_of(tmp_path)
    key, later = ring.export_root(), NOW + 91 * pki.DAY_S
    ring.forget_root()
    with pytest.raises(StateUnavailable, match="has expired") as caught:
        ring.certify(CSR, "web01", later)
    assert "pki import-root" in str(caught.value.hint)
    ring.import_root(key, later)
    ring.forget_root()
    assert ring.certify(CSR, "web01", later)


def test_an_intermediate_is_certified_again_before_it_ends(tmp_path: Path) -> None:
    """The CA is renewed after two thirds of its 90 days, with the same key."""
    ring = ring_of(tmp_path)
    before, later = pki.pem_blocks(ring.certify(CSR, "web01", NOW))[1], NOW + 61 * pki.DAY_S
    after = pki.pem_blocks(ring.certify(CSR, "web01", later))[1]
    assert pki.spki_sha256(after) == pki.spki_sha256(before)
    assert pki.read_certificate(after).not_after == later + 90 * pki.DAY_S


@pytest.mark.parametrize(
    "text", [b"", b"{}", b'{"format":"drawwell-keys/1"}', b'{"format":"drawwell-receipt/2"}']
)
def test_no_other_text_is_signed_by_the_receipt_key(tmp_path: Path, text: bytes) -> None:
    """Only receipts with the current key and audit heads are signed."""
    with pytest.raises(ValueError, match="neither an audit head"):
        ring_of(tmp_path).sign([HEAD, text])


def test_a_list_that_no_pinned_key_signed_is_refused(tmp_path: Path) -> None:
    """Another broker's list and a changed list are refused."""
    ring = ring_of(tmp_path)
    document = ring.public().key_list
    with pytest.raises(AuthenticationFailed):
        KeyList.read(document, pki.new_ca("well", NOW).certificate_pem)
    changed = json.loads(document)
    changed["list"]["roots"] = [pki.new_ca("thief", NOW).certificate_pem.decode()]
    with pytest.raises(AuthenticationFailed):
        KeyList.read(json.dumps(changed).encode(), ring.public().roots)


def test_a_damaged_list_is_an_error_of_the_state(tmp_path: Path) -> None:
    """The hint names the directory to restore."""
    ring_of(tmp_path)
    (tmp_path / "keys" / "keys.json").write_text("{")
    with pytest.raises(StateUnavailable):
        ring_of(tmp_path).public()
    assert os.path.exists(tmp_path / "keys" / "root.pem")


@pytest.mark.parametrize("ahead_s", [0.0, 0.5, 400 * pki.DAY_S])
def test_every_list_is_later_than_the_one_before(tmp_path: Path, ahead_s: float) -> None:
    """Two lists in a second, or a clock that was set back, keep their order."""
    times = []
    for now in (NOW + ahead_s, NOW):
        ring = KeyRing(str(tmp_path / "keys"), "well", now)
        for _ in range(2):
            ring.rotate("receipts", now)
            times.append(KeyList.read(ring.public().key_list, ring.public().roots).time_s)
    assert times == sorted(set(times))


def test_a_receipt_key_that_was_moved_away_is_replaced_in_the_list(tmp_path: Path) -> None:
    """The new key is listed, and the missing one has ended."""
    before = ring_of(tmp_path).public().receipt_key.decode()
    (tmp_path / "keys" / "receipt-key.pem").unlink()
    public = KeyRing(str(tmp_path / "keys"), "well", NOW + 60).public()
    listed = KeyList.read(public.key_list, public.roots).receipt_keys
    assert [(key.public_key, key.until) for key in listed] == [
        (public.receipt_key.decode(), 0), (before, NOW + 60)
    ]  # fmt: skip


def test_both_roots_are_exported_while_one_replaces_the_other(tmp_path: Path) -> None:
    """No root's key stays on the machine; the file brings back both."""
    ring = ring_of(tmp_path)
    only_first = ring.export_root()
    ring.rotate("root", NOW)
    keys = ring.export_root()
    ring.forget_root()
    assert not [*(tmp_path / "keys").glob("*root-key.pem")]
    again = ring_of(tmp_path)
    again.import_root(only_first, NOW)
    with pytest.raises(UsageError, match="next root's key is not on this machine"):
        again.rotate("finish-root", NOW)
    again.import_root(keys, NOW)
    new = KeyList.read(again.public().key_list, again.public().roots).roots[1].encode()
    again.rotate("finish-root", NOW)
    assert again.public().roots == new
    assert again.export_root() in keys
