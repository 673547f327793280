"""The parser of the firmware image."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.onerng.image import (
    DUMP_BYTES,
    MAGIC,
    BadSignature,
    Header,
    Image,
    ImageReceiver,
    UnreadableImage,
    parse_header,
    read_image,
    signature_room,
)
from drawwell.simulator.firmware_image import assemble_dump, simulated_code, simulated_dump

DUMP = simulated_dump()
SIGNATURE_AT = 13 + 262_144 - 680


def test_a_header_is_read_little_endian() -> None:
    """Length, version and text size are read as by the vendor's verifier."""
    header = parse_header(MAGIC + bytes.fromhex("0ff001 0770 ffee"))
    assert header == Header(length=0x01F00F, version=0x7007, text_size=0xEEFF)


@pytest.mark.parametrize("data", [b"", MAGIC, MAGIC + bytes(6), b"\xff" + MAGIC + bytes(7)])
def test_what_is_no_header_is_unreadable(data: bytes) -> None:
    """A short header, or one without the magic, is refused."""
    with pytest.raises(UnreadableImage):
        parse_header(data)


@pytest.mark.parametrize("noise", [b"", b"\xfe", b"\xfe" * 5, bytes(1000), MAGIC[:5], MAGIC[:3] + MAGIC[:5]])
def test_the_magic_is_found_after_anything(noise: bytes) -> None:
    """Any bytes may precede the magic, even its own first byte."""
    assert read_image(noise + DUMP).data == DUMP[13:]


@pytest.mark.parametrize(
    ("version", "signed_bytes"), [(1, 261_544), (2, 261_544), (3, 261_464), (9, 261_464)]
)
def test_the_layout_follows_the_version(version: int, signed_bytes: int) -> None:
    """E is 600 bytes for versions 1 and 2, and 680 from 3 on."""
    image = read_image(assemble_dump(simulated_code(version), b"signature", version=version))
    assert len(image.signed) == signed_bytes
    assert image.signature == b"signature"
    assert image.header.version == version


@pytest.mark.parametrize(("version", "room"), [(1, 598), (2, 598), (3, 550)])
def test_the_longest_signature_fits_and_one_byte_more_does_not(version: int, room: int) -> None:
    """A V3 dump has room for a signature of 550 bytes, older dumps for 598."""
    longest = bytes(room - 1) + b"\x01"
    assert signature_room(version) == room
    assert read_image(assemble_dump(simulated_code(version), longest, version=version)).signature == longest
    with pytest.raises(ValueError, match="do not fit"):
        assemble_dump(simulated_code(version), longest + b"\x01", version=version)


@pytest.mark.parametrize("length", [0, 551, 598, 678, 0xFFFF])
def test_a_signature_length_out_of_bounds_is_a_bad_signature(length: int) -> None:
    """The signature's length must fit the layout."""
    dump = bytearray(DUMP)
    dump[SIGNATURE_AT : SIGNATURE_AT + 2] = length.to_bytes(2, "little")
    with pytest.raises(BadSignature, match="length"):
        _ = read_image(bytes(dump)).signature


def test_bytes_after_the_signature_must_be_ff() -> None:
    """The padding is not signed, so it must be empty."""
    with pytest.raises(BadSignature, match="0xFF"):
        _ = read_image(DUMP[:-1] + b"\x00").signature


@pytest.mark.parametrize("length", [0, 262_143, 262_145, 0xFFFFFF])
def test_another_image_length_is_unreadable(length: int) -> None:
    """The length must be 262,144."""
    with pytest.raises(UnreadableImage, match=str(length)):
        read_image(MAGIC + length.to_bytes(3, "little") + DUMP[9:])


def test_a_receiver_counts_the_missing_bytes() -> None:
    """After the magic, the count decreases with each byte and ends at zero."""
    receiver = ImageReceiver()
    receiver.feed(b"noise")
    assert receiver.missing_bytes == DUMP_BYTES
    receiver.feed(DUMP[:100])
    assert receiver.missing_bytes == DUMP_BYTES - 100
    receiver.feed(DUMP[100:-1])
    assert receiver.missing_bytes == 1
    with pytest.raises(UnreadableImage, match="1 of 262157"):
        receiver.image()
    receiver.feed(DUMP[-1:] + bytes(65_472))
    assert receiver.missing_bytes == 0
    assert receiver.image().data == DUMP[13:]


def test_nothing_received_is_unreadable() -> None:
    """A device that sends no header has no image."""
    with pytest.raises(UnreadableImage, match="no image header"):
        ImageReceiver().image()


near_magic = st.lists(
    st.one_of(st.binary(max_size=8), st.integers(1, 6).map(lambda size: MAGIC[:size])), max_size=20
).map(b"".join)


@given(near_magic)
def test_receiving_whole_and_byte_by_byte_is_the_same(stream: bytes) -> None:
    """Chunks of any size give the same count, and the same image or error."""
    whole, bytewise = ImageReceiver(), ImageReceiver()
    whole.feed(stream)
    for byte in stream:
        bytewise.feed(bytes([byte]))
    assert whole.missing_bytes == bytewise.missing_bytes
    assert whole._buffer == bytewise._buffer
    with pytest.raises(UnreadableImage):
        whole.image()


@given(st.binary(max_size=300), st.integers(0, 0xFFFF), st.binary(min_size=680, max_size=680))
def test_an_image_of_garbage_parses_or_is_a_bad_signature(noise: bytes, version: int, end: bytes) -> None:
    """Any bytes instead of the signature are parsed or refused."""
    header = Header(262_144, version, 0)
    image = Image(header, noise.ljust(262_144 - 680, b"\x00") + end)
    try:
        assert 0 < len(image.signature) <= signature_room(version)
    except BadSignature:
        assert len(image.signed) in (261_464, 261_544)


def test_the_dump_is_what_the_device_sent() -> None:
    """A dump consists of an image's header and data, without earlier bytes."""
    assert read_image(b"noise" + DUMP).dump == DUMP
