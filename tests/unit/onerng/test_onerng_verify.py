"""The OpenPGP verifier and its three outcomes."""

import base64
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.onerng import published_test_key, vendor_key
from drawwell.onerng.image import BadSignature, read_image
from drawwell.onerng.openpgp import encoded_digest, parse_signature, signature_digest, verify
from drawwell.onerng.verify import SIMULATOR, VENDOR, Signer, verify_dump
from drawwell.reports import Firmware
from drawwell.simulator.firmware_image import assemble_dump, sign, simulated_code, simulated_dump

VECTORS = Path(__file__).parents[2] / "vectors"
VENDOR_FINGERPRINT = "967F859E460B41CF0DEB7857026F85A235D6020C"
SUBKEY_FINGERPRINT = "D43BA692652EBAC284A8757F01979475B1975115"
DATA = b"firmware"
PACKET = sign(DATA)
DUMP = simulated_dump()


def vendor_key_packets() -> bytes:
    armour = (VECTORS / "onerng_pubkey.asc").read_text()
    return base64.b64decode("".join(armour.split("BEGIN PGP")[1].split("\n\n", 1)[1].split("\n=")[0].split()))


def with_trailing_subpacket(subpacket: bytes) -> bytes:
    """Add an unhashed subpacket, which the signature does not cover."""
    body = bytearray(PACKET[3:])
    at = 6 + int.from_bytes(body[4:6], "big")
    body[at : at + 2] = (int.from_bytes(body[at : at + 2], "big") + len(subpacket)).to_bytes(2, "big")
    body[at + 2 : at + 2] = subpacket
    return b"\x89" + len(body).to_bytes(2, "big") + bytes(body)


def test_the_vendors_figures_make_the_vendors_fingerprint() -> None:
    """The embedded key has the published version 4 fingerprint."""
    assert vendor_key.PRIMARY.fingerprint == VENDOR_FINGERPRINT
    assert vendor_key.SUBKEY.fingerprint == SUBKEY_FINGERPRINT
    assert vendor_key.PRIMARY.key_id == "026F85A235D6020C"


def test_the_vendors_figures_are_in_the_vendors_key_file() -> None:
    """The packets of both embedded keys are in the vendor's key file."""
    packets = vendor_key_packets()
    assert vendor_key.PRIMARY.body in packets
    assert vendor_key.SUBKEY.body in packets


def test_a_real_signature_by_the_vendors_key_is_good() -> None:
    """The vendor's self-signature (RSA-4096, SHA-1) verifies."""
    packets = vendor_key_packets()
    user_id = packets[530:585]
    signature = parse_signature(packets[585:1156])
    certified = b"\x99" + packets[1:528] + b"\xb4" + len(user_id).to_bytes(4, "big") + user_id
    assert b"OneRNG" in user_id
    assert signature.kind == 0x13
    assert signature.hash_name == "SHA1"
    digest = signature_digest(signature, certified)
    assert digest.startswith(signature.digest_start)
    assert int.from_bytes(digest, "big") == pow(signature.value, 65537, vendor_key.PRIMARY.n) & (1 << 160) - 1


def test_a_good_signature_names_the_key_that_made_it() -> None:
    """Verification returns the key rather than a boolean."""
    assert verify(parse_signature(PACKET), DATA, [published_test_key.PUBLIC]) is published_test_key.PUBLIC


@pytest.mark.parametrize("data", [b"", DATA + b"\x00", b"Firmware"])
def test_other_data_is_refused(data: bytes) -> None:
    """One changed byte of the data invalidates the signature."""
    with pytest.raises(BadSignature):
        verify(parse_signature(PACKET), data, [published_test_key.PUBLIC])


def test_another_key_is_refused_by_name() -> None:
    """A signature by another issuer is refused with its key ID."""
    with pytest.raises(BadSignature, match=published_test_key.PUBLIC.key_id):
        verify(parse_signature(PACKET), DATA, [vendor_key.PRIMARY])


@given(st.integers(0, len(PACKET) - 1))
def test_a_truncated_signature_is_refused(size: int) -> None:
    """No prefix of a signature is accepted."""
    with pytest.raises(BadSignature):
        parse_signature(PACKET[:size])


@given(st.integers(0, len(PACKET) - 1), st.integers(1, 255))
def test_a_changed_byte_never_verifies_over_other_bytes(at: int, flip: int) -> None:
    """A changed packet verifies only if the signature's numbers are unchanged."""
    packet = bytearray(PACKET)
    packet[at] ^= flip
    original = parse_signature(PACKET)
    try:
        signature = parse_signature(bytes(packet))
        verify(signature, DATA, [published_test_key.PUBLIC])
    except BadSignature:
        return
    assert (signature.value, signature.hashed) == (original.value, original.hashed)


@given(st.binary(max_size=700))
def test_garbage_is_no_signature(garbage: bytes) -> None:
    """Arbitrary bytes parse or raise the named error."""
    with pytest.raises(BadSignature):
        verify(parse_signature(garbage), DATA, [published_test_key.PUBLIC])


@given(st.binary(max_size=300))
def test_garbage_in_the_body_is_no_signature(garbage: bytes) -> None:
    """A packet of garbage is refused, in the old and the new format."""
    size = len(garbage).to_bytes(4, "big")
    for packet in (b"\x8a" + size + garbage, b"\xc2\xff" + size + garbage):
        with pytest.raises(BadSignature):
            verify(parse_signature(packet), DATA, [published_test_key.PUBLIC])


@pytest.mark.parametrize("header", [b"\xc2\xff%b", b"\x8a%b"])
def test_both_packet_formats_are_read(header: bytes) -> None:
    """Four-byte lengths in both formats give the same signature."""
    packet = header % (len(PACKET) - 3).to_bytes(4, "big") + PACKET[3:]
    assert parse_signature(packet) == parse_signature(PACKET)


def test_a_two_byte_length_of_the_new_format_is_read() -> None:
    """The new format's two-byte length is understood."""
    size = len(PACKET) - 3 - 192
    packet = bytes([0xC2, 192 + (size >> 8), size & 0xFF]) + PACKET[3:]
    assert parse_signature(packet) == parse_signature(PACKET)


@pytest.mark.parametrize(
    ("packet", "because"),
    [
        (PACKET + PACKET, "exactly one"),
        (PACKET + b"\x00", "exactly one"),
        (b"\x8b" + PACKET[3:], "has no length"),
        (b"\xc2\xe8" + PACKET[3:], "partial"),
        (b"\x99" + PACKET[1:], "not an OpenPGP signature"),
        (PACKET[:3] + b"\x03" + PACKET[4:], "version 4"),
        (PACKET[:5] + b"\x16" + PACKET[6:], "version 4 RSA"),
        (PACKET[:6] + b"\x01" + PACKET[7:], "SHA"),
        (PACKET[:10] + b"\x03" + PACKET[11:], "no creation time"),
        (PACKET[:9] + b"\x02\x02\x67\x02\x03" + PACKET[14:], "no creation time"),
        (with_trailing_subpacket(b"\x02\x94\x00"), "subpacket 20"),
        (with_trailing_subpacket(b"\x09\x10" + bytes(8)), "more than one issuer"),
        (with_trailing_subpacket(b"\x00"), "empty subpacket"),
        (with_trailing_subpacket(b"\xff\xff\xff\xff\xff"), "larger than"),
    ],
)
def test_what_is_not_understood_is_refused(packet: bytes, because: str) -> None:
    """MD5, partial lengths, critical subpackets etc. are refused by reason."""
    with pytest.raises(BadSignature, match=because):
        parse_signature(packet)


def test_a_signature_has_one_value() -> None:
    """A value plus the modulus is refused: a signature has only one form."""
    key, signature = published_test_key.PUBLIC, parse_signature(PACKET)
    for value in (signature.value + key.n, signature.value - key.n, 0):
        with pytest.raises(BadSignature, match="does not match"):
            verify(replace(signature, value=value), DATA, [key])


def test_a_key_too_small_for_the_hash_is_refused() -> None:
    """The key must leave eight bytes of padding (RFC 8017, 9.2)."""
    info_bytes = 19 + 64
    encoded_digest(10, bytes(64), 3 + 8 + info_bytes)
    with pytest.raises(BadSignature, match="too small"):
        encoded_digest(10, bytes(64), 3 + 7 + info_bytes)


def test_an_unknown_subpacket_that_is_not_critical_is_passed_over() -> None:
    """A notation subpacket is ignored."""
    packet = with_trailing_subpacket(b"\x02\x14\x00")
    assert verify(parse_signature(packet), DATA, [published_test_key.PUBLIC]) is published_test_key.PUBLIC


def test_a_good_dump_is_verified_and_names_the_key() -> None:
    """The verdict has hash, version and key: the simulator's key."""
    verdict = verify_dump(b"\xfe" + DUMP + bytes(65_472), SIMULATOR)
    assert verdict.outcome is Firmware.VERIFIED
    assert verdict.outcome == "image signature verified, as reported by the device"
    assert (verdict.version, verdict.hash_name, verdict.simulated) == (3, "SHA256", True)
    assert verdict.key_fingerprint == published_test_key.PUBLIC.fingerprint
    assert "test key" in verdict.detail


def test_the_test_key_is_not_the_vendors() -> None:
    """The public test key is accepted only for simulated devices."""
    verdict = verify_dump(DUMP)
    assert verdict.outcome is Firmware.NOT_VERIFIED
    assert "published test key" in verdict.reason
    assert verdict.key_fingerprint == ""


@pytest.mark.parametrize("at", [13, 13 + 131_072, 13 + 261_463, 261_477, 261_479, 261_490, 261_700, 262_156])
def test_tampering_in_any_region_is_not_verified(at: int) -> None:
    """Code, signature length, packet, number and padding are all covered."""
    dump = bytearray(DUMP)
    dump[at] ^= 0x01
    assert verify_dump(bytes(dump), SIMULATOR).outcome is Firmware.NOT_VERIFIED


def test_a_changed_version_selects_another_layout_and_fails() -> None:
    """The version is not signed, but a false one does not verify."""
    dump = DUMP[:9] + b"\x02" + DUMP[10:]
    assert verify_dump(dump, SIMULATOR).outcome is Firmware.NOT_VERIFIED


@pytest.mark.parametrize(
    "dump", [b"", bytes(1000), DUMP[:12], DUMP[:-1], DUMP[1:], DUMP[:6] + b"\x01" + DUMP[7:]]
)
def test_a_short_or_unreadable_dump_could_not_be_checked(dump: bytes) -> None:
    """An incomplete dump counts as unchecked, not as a bad signature."""
    verdict = verify_dump(dump, SIMULATOR)
    assert verdict.outcome is Firmware.COULD_NOT_CHECK
    assert verdict.reason == verdict.detail


def test_older_layouts_verify() -> None:
    """Images of versions 1 and 2 are checked with their own layout."""
    for version in (1, 2):
        assert verify_dump(simulated_dump(version), SIMULATOR).outcome is Firmware.VERIFIED


def test_a_signature_of_the_wrong_kind_is_not_verified() -> None:
    """A text signature of the right bytes is not a file signature."""
    packet = PACKET[:4] + b"\x01" + PACKET[5:]
    dump = assemble_dump(simulated_code(3), packet, version=3)
    assert "does not sign a file" in verify_dump(dump, SIMULATOR).reason


def sha1_signature(data: bytes) -> bytes:
    """Sign with SHA-1 and the test key; the product never does."""
    hashed = bytes.fromhex("04000102000605026774858000"[:-2])
    digest = hashlib.sha1(data + hashed + b"\x04\xff" + len(hashed).to_bytes(4, "big")).digest()
    info = bytes.fromhex("3021300906052b0e03021a05000414") + digest
    padded = b"\x00\x01" + b"\xff" * (253 - len(info)) + b"\x00" + info
    n, d = published_test_key.PUBLIC.n, published_test_key.PUBLISHED_PRIVATE_EXPONENT
    value = pow(int.from_bytes(padded, "big"), d, n)
    body = hashed + b"\x00\x00" + digest[:2] + value.bit_length().to_bytes(2, "big")
    body += value.to_bytes((value.bit_length() + 7) // 8, "big")
    return b"\x89" + len(body).to_bytes(2, "big") + body


def test_sha1_is_accepted_for_the_vendors_key_only() -> None:
    """SHA-1 is accepted only for signers that may use it."""
    assert VENDOR.sha1_accepted
    assert not SIMULATOR.sha1_accepted
    dump = assemble_dump(simulated_code(3), sha1_signature(simulated_code(3)), version=3)
    trusting = Signer("a vendor", published_test_key.PUBLIC, sha1_accepted=True)
    assert verify_dump(dump, trusting).hash_name == "SHA1"
    assert "SHA-1" in verify_dump(dump, SIMULATOR).reason


def test_a_subkeys_signature_is_pinned_to_the_primary() -> None:
    """If a subkey signed, the verdict names it and the primary key."""
    signer = Signer("a vendor", vendor_key.PRIMARY, (published_test_key.PUBLIC,))
    verdict = verify_dump(DUMP, signer)
    assert verdict.key_fingerprint == VENDOR_FINGERPRINT
    assert verdict.signed_by == published_test_key.PUBLIC.fingerprint


def test_a_changed_bit_in_the_signed_part_is_named() -> None:
    """The reason is that the data was changed."""
    image = read_image(DUMP[:20] + bytes([DUMP[20] ^ 1]) + DUMP[21:])
    with pytest.raises(BadSignature, match="for other data"):
        verify(parse_signature(image.signature), image.signed, [published_test_key.PUBLIC])
