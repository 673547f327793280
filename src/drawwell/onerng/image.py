"""Parser of the firmware image that a OneRNG sends after ``cmdX``.

Source: OneRNG/firmware 81d70bf (Version 3), be5d9d9 (1), 1f65931 (2): cdc_app.c, merge.sh,
set_size.c, validate.c. A dump has a header of 13 bytes and 262,144 bytes of flash,
little-endian::

    dump  0 magic FE ED BE EF 20 14 | 6 length (3) | 9 version (2) | 11 text size (2) | 13
        image
    image 0 signed data | L-E  signature length (2) | L-E+2 signature | 0xFF up to L

L is 262,144. E is 600 for versions 1 and 2. From version 3 on it is 680: the last 128 bytes
are a secret area that the dump shows as 0xFF. The header is not signed.
"""

from dataclasses import dataclass, field
from typing import Final

MAGIC: Final = bytes.fromhex("feedbeef2014")
HEADER_BYTES: Final = 13
IMAGE_BYTES: Final = 262_144
DUMP_BYTES: Final = HEADER_BYTES + IMAGE_BYTES
_SECRET_BYTES: Final = 128


class UnreadableImage(ValueError):
    """No complete image was received, so the firmware cannot be checked."""


class BadSignature(ValueError):
    """The image is complete but has no valid signature by the expected key."""


@dataclass(frozen=True, slots=True)
class Header:
    """The 13 bytes before the image; `text_size` is stored modulo 65,536."""

    length: int
    version: int
    text_size: int


def parse_header(data: bytes) -> Header:
    """Parse a header of `HEADER_BYTES` bytes.

    Raises:
        UnreadableImage: the data is too short, or the magic is missing.
    """
    if len(data) < HEADER_BYTES or not data.startswith(MAGIC):
        raise UnreadableImage("no image header")
    fields = (data[6:9], data[9:11], data[11:13])
    return Header(*(int.from_bytes(value, "little") for value in fields))


@dataclass(frozen=True, slots=True)
class Image:
    """A complete image; its version determines the layout."""

    header: Header
    data: bytes = field(repr=False)

    @property
    def dump(self) -> bytes:
        """Header and image as the device sent them."""
        header = self.header
        fields = ((header.length, 3), (header.version, 2), (header.text_size, 2))
        return MAGIC + b"".join(value.to_bytes(size, "little") for value, size in fields) + self.data

    @property
    def signed(self) -> bytes:
        """The bytes that the signature covers."""
        return self.data[: IMAGE_BYTES - self._end_area_bytes]

    @property
    def signature(self) -> bytes:
        """The detached OpenPGP signature.

        Raises:
            BadSignature: the length is 0 or too large, or the padding is not 0xFF.
        """
        start = len(self.signed)
        length = int.from_bytes(self.data[start : start + 2], "little")
        if not 0 < length <= self._signature_room:
            raise BadSignature(f"signature length {length} does not fit the image's layout")
        end = start + 2 + length
        if self.data[end:].strip(b"\xff"):
            raise BadSignature("the bytes after the signature are not 0xFF")
        return self.data[start + 2 : end]

    @property
    def _end_area_bytes(self) -> int:
        return end_area_bytes(self.header.version)

    @property
    def _signature_room(self) -> int:
        return signature_room(self.header.version)


def end_area_bytes(version: int) -> int:
    """Return E, the number of unsigned bytes at an image's end (merge.sh)."""
    return 680 if version >= 3 else 600


def signature_room(version: int) -> int:
    """Return the maximum signature size: 550 bytes from V3 on, else 598."""
    return end_area_bytes(version) - 2 - (_SECRET_BYTES if version >= 3 else 0)


class ImageReceiver:
    """Collects one dump from a stream that may begin with noise.

    It stores at most one dump and ignores later bytes (V3 sends up to 65,472 zeros).
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def missing_bytes(self) -> int:
        """Minimum number of missing bytes; 0 only for a complete image."""
        return max(0, DUMP_BYTES - len(self._buffer))

    def feed(self, data: bytes) -> None:
        """Process the next bytes of the stream; chunks may have any size."""
        self._buffer += data
        if not self._buffer.startswith(MAGIC):
            self._drop_what_precedes_the_magic()
        del self._buffer[DUMP_BYTES:]

    def image(self) -> Image:
        """Return the image.

        Raises:
            UnreadableImage: the magic or a part is missing, or the length is wrong.
        """
        if len(self._buffer) < len(MAGIC):
            raise UnreadableImage("the device sent no image header")
        if self.missing_bytes:
            raise UnreadableImage(f"{self.missing_bytes} of {DUMP_BYTES} bytes of the image are missing")
        header = parse_header(bytes(self._buffer[:HEADER_BYTES]))
        if header.length != IMAGE_BYTES:
            raise UnreadableImage(
                f"the header gives {header.length} bytes, but a OneRNG image has {IMAGE_BYTES}"
            )
        return Image(header, bytes(self._buffer[HEADER_BYTES:]))

    def _drop_what_precedes_the_magic(self) -> None:
        start = self._buffer.find(MAGIC)
        if start < 0:
            start = len(self._buffer) - _beginning_of_magic(self._buffer)
        del self._buffer[:start]


def read_image(stream: bytes) -> Image:
    """Find the image in a recorded dump.

    Raises:
        UnreadableImage: as for `ImageReceiver.image`.
    """
    receiver = ImageReceiver()
    receiver.feed(stream)
    return receiver.image()


def _beginning_of_magic(data: bytes | bytearray) -> int:
    """Return how many bytes at the end of `data` may begin the magic."""
    return next((size for size in range(len(MAGIC) - 1, 0, -1) if data.endswith(MAGIC[:size])), 0)
