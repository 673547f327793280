"""Is the firmware image that a device shows signed by the key that we expect? Three answers, never confused.

A good signature says that the image is the vendor's *as reported by the device*: firmware that lies can show a
stored good image.
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
    """Whose signature is accepted: a pinned primary key and the subkeys that may sign for it."""

    owner: str
    primary: RsaKey
    subkeys: tuple[RsaKey, ...] = ()
    sha1_accepted: bool = False

    @property
    def keys(self) -> tuple[RsaKey, ...]:
        """The primary key and its subkeys."""
        return (self.primary, *self.subkeys)


VENDOR: Final = Signer("vendor", vendor_key.PRIMARY, (vendor_key.SUBKEY,), sha1_accepted=True)
"""SHA-1 is accepted from the vendor alone: nobody knows which hash the images of 2015 were signed with."""
SIMULATOR: Final = Signer("published test key of the simulated device", published_test_key.PUBLIC)


@dataclass(frozen=True, slots=True)
class FirmwareVerdict(Report):
    """The outcome and what it rests on.

    `key_fingerprint` is the pinned primary key's, also when a subkey signed (`signed_by`); both are empty unless
    verified. `simulated` is set when the key is the published test key, whose signature proves nothing.
    `version` and `text_size` are the header's, which nobody signs; -1 without a header.
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
        """Key, hash and version in one line, or the reason why not."""
        if self.outcome is not Firmware.VERIFIED:
            return self.reason
        return f"version {self.version}, {self.hash_name}, key {self.key_fingerprint} ({self.key_owner})"


def verify_dump(stream: bytes, signer: Signer = VENDOR) -> FirmwareVerdict:
    """Judge a recorded dump; what precedes and follows the image does not matter."""
    try:
        return verify_image(read_image(stream), signer)
    except UnreadableImage as error:
        return FirmwareVerdict(Firmware.COULD_NOT_CHECK, str(error))


def verify_image(image: Image, signer: Signer = VENDOR) -> FirmwareVerdict:
    """Judge a whole image: verified, or not."""
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
        raise BadSignature("the signature is not one over a file")
    if signature.hash_name == _SHA1 and not signer.sha1_accepted:
        raise BadSignature("a SHA-1 signature is accepted from the vendor's key only")
    if SIMULATOR.primary not in signer.keys and signature.issuer == SIMULATOR.primary.key_id:
        raise BadSignature("signed by the published test key, which is accepted from a simulated device only")
    return verify(signature, data, signer.keys)
