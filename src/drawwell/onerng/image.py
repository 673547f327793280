"""The firmware image that a OneRNG sends for ``cmdX``: found, measured and taken apart.

Source: OneRNG/firmware 81d70bf (Version 3), be5d9d9 (1), 1f65931 (2): cdc_app.c, merge.sh, set_size.c,
validate.c. A dump is a header of 13 bytes and 262,144 bytes of flash; little-endian throughout::

    dump    0  magic FE ED BE EF 20 14 | 6 length (3) | 9 version (2) | 11 text size (2) | 13 image
    image   0  signed data | L-E  signature length (2) | L-E+2 signature | 0xFF up to L

L is 262,144; E is 600 for versions 1 and 2, and 680 from version 3 on, whose last 128 bytes are a secret area
that the dump shows as 0xFF. The header itself is not signed.
"""

from dataclasses import dataclass, field
from typing import Final

MAGIC: Final = bytes.fromhex("feedbeef2014")
HEADER_BYTES: Final = 13
IMAGE_BYTES: Final = 262_144
DUMP_BYTES: Final = HEADER_BYTES + IMAGE_BYTES
_SECRET_BYTES: Final = 128


class UnreadableImage(ValueError):
    """No whole image was received: nothing can be said about the firmware."""


class BadSignature(ValueError):
    """The image is whole, and does not carry a good signature by the key that was asked for."""


@dataclass(frozen=True, slots=True)
class Header:
    """The 13 bytes before the image. `text_size` is the size of the real code modulo 65,536."""

    length: int
    version: int
    text_size: int


def parse_header(data: bytes) -> Header:
    """Read the fields out of `HEADER_BYTES` bytes.

    Raises:
        UnreadableImage: they are fewer, or do not begin with the magic.
    """
    if len(data) < HEADER_BYTES or not data.startswith(MAGIC):
        raise UnreadableImage("no image header")
    fields = (data[6:9], data[9:11], data[11:13])
    return Header(*(int.from_bytes(value, "little") for value in fields))


@dataclass(frozen=True, slots=True)
class Image:
    """A whole image. The properties follow the layout that its version selects."""

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
            BadSignature: its length is zero or more than the layout has room for, or what follows is not 0xFF.
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
    """E: how many bytes at the end of the image are not signed (merge.sh)."""
    return 680 if version >= 3 else 600


def signature_room(version: int) -> int:
    """The longest signature that a dump of this version shows whole: 550 bytes from V3 on, 598 before."""
    return end_area_bytes(version) - 2 - (_SECRET_BYTES if version >= 3 else 0)


class ImageReceiver:
    """Collects one dump out of a stream in which noise may come first.

    Holds one dump at most. What follows the image (V3 sends up to 65,472 zeros) is not looked at.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def missing_bytes(self) -> int:
        """How many more bytes a dump needs at least; never zero before the image is whole."""
        return max(0, DUMP_BYTES - len(self._buffer))

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream. How they are cut into calls makes no difference."""
        self._buffer += data
        if not self._buffer.startswith(MAGIC):
            self._drop_what_precedes_the_magic()
        del self._buffer[DUMP_BYTES:]

    def image(self) -> Image:
        """Return the image.

        Raises:
            UnreadableImage: no magic yet, image not whole, or a length that no OneRNG has.
        """
        if len(self._buffer) < len(MAGIC):
            raise UnreadableImage("no image header in what the device sent")
        if self.missing_bytes:
            raise UnreadableImage(f"{self.missing_bytes} of {DUMP_BYTES} bytes of the image are missing")
        header = parse_header(bytes(self._buffer[:HEADER_BYTES]))
        if header.length != IMAGE_BYTES:
            raise UnreadableImage(
                f"the header says {header.length} bytes, and every OneRNG image has {IMAGE_BYTES}"
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
        UnreadableImage: as `ImageReceiver.image`.
    """
    receiver = ImageReceiver()
    receiver.feed(stream)
    return receiver.image()


def _beginning_of_magic(data: bytes | bytearray) -> int:
    """How many bytes at the end of `data` may be the beginning of the magic."""
    return next((size for size in range(len(MAGIC) - 1, 0, -1) if data.endswith(MAGIC[:size])), 0)
