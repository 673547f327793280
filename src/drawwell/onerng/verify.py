"""Verify the signature of a firmware image.

A valid signature proves that the image *reported by the device* is the vendor's. Malicious
firmware can report a stored genuine image.
"""

from dataclasses import dataclass
from typing import Final

from drawwell.onerng import published_test_key, vendor_key
from drawwell.onerng.image import BadSignature, Image, UnreadableImage, read_image
from drawwell.onerng.openpgp import BINARY_DOCUMENT, RsaKey, Signature, parse_signature, verify
from drawwell.reports import Firmware, Report

_SHA1: Final = "SHA1"


@dataclass(frozen=True, slots=True)
class Signer:
    """An accepted signer: a pinned primary key and its signing subkeys."""

    owner: str
    primary: RsaKey
    subkeys: tuple[RsaKey, ...] = ()
    sha1_accepted: bool = False

    @property
    def keys(self) -> tuple[RsaKey, ...]:
        """The primary key and its subkeys."""
        return (self.primary, *self.subkeys)


VENDOR: Final = Signer("vendor", vendor_key.PRIMARY, (vendor_key.SUBKEY,), sha1_accepted=True)
"""SHA-1 is accepted only from the vendor, because the hash of its 2015 images is unknown."""
SIMULATOR: Final = Signer("published test key of the simulated device", published_test_key.PUBLIC)


@dataclass(frozen=True, slots=True)
class FirmwareVerdict(Report):
    """The verdict and its reasons.

    `key_fingerprint` is the primary key's, even if a subkey signed (`signed_by`); both are
    empty unless verified. `simulated`: the published test key signed the image, which proves
    nothing. `version` and `text_size` are from the unsigned header; -1 without a header.
    """

    outcome: Firmware
    reason: str
    version: int = -1
    text_size: int = -1
    hash_name: str = ""
    key_owner: str = ""
    key_fingerprint: str = ""
    signed_by: str = ""
    simulated: bool = False

    @property
    def detail(self) -> str:
        """Key, hash and version in one line, or the reason for the failure."""
        if self.outcome is not Firmware.VERIFIED:
            return self.reason
        return f"version {self.version}, {self.hash_name}, key {self.key_fingerprint} ({self.key_owner})"


def verify_dump(stream: bytes, signer: Signer = VENDOR) -> FirmwareVerdict:
    """Verify a recorded dump; ignore bytes before and after the image."""
    try:
        return verify_image(read_image(stream), signer)
    except UnreadableImage as error:
        return FirmwareVerdict(Firmware.COULD_NOT_CHECK, str(error))


def verify_image(image: Image, signer: Signer = VENDOR) -> FirmwareVerdict:
    """Verify a complete image."""
    version, text_size = image.header.version, image.header.text_size
    try:
        signature = parse_signature(image.signature)
        key = _accept(signature, image.signed, signer)
    except BadSignature as error:
        return FirmwareVerdict(Firmware.NOT_VERIFIED, str(error), version, text_size)
    return FirmwareVerdict(
        outcome=Firmware.VERIFIED,
        reason=Firmware.VERIFIED.value,
        version=version,
        text_size=text_size,
        hash_name=signature.hash_name,
        key_owner=signer.owner,
        key_fingerprint=signer.primary.fingerprint,
        signed_by=key.fingerprint,
        simulated=signer is SIMULATOR,
    )


def _accept(signature: Signature, data: bytes, signer: Signer) -> RsaKey:
    if signature.kind != BINARY_DOCUMENT:
        raise BadSignature("the signature does not sign a file")
    if signature.hash_name == _SHA1 and not signer.sha1_accepted:
        raise BadSignature("it is a SHA-1 signature, which is accepted only from the vendor's key")
    if SIMULATOR.primary not in signer.keys and signature.issuer == SIMULATOR.primary.key_id:
        raise BadSignature("the published test key signed it, and counts only for a simulated device")
    return verify(signature, data, signer.keys)
