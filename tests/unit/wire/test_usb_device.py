"""Descriptors and control requests of the serial device for guests."""

import struct

import pytest

from drawwell.wire.usb_device import SerialDevice, Setup, UsbIdentity

IDENTITY = UsbIdentity(0x1D50, 0x6086, 0x0009, "maker", "something", "0815")


@pytest.fixture
def device() -> SerialDevice:
    return SerialDevice(IDENTITY)


def get(device: SerialDevice, kind: int, index: int = 0, length: int = 255) -> bytes | None:
    return device.control(Setup(0x80, 6, kind << 8 | index, 0, length), b"")


def test_device_descriptor(device: SerialDevice) -> None:
    """The descriptor has the identity, one configuration (USB 2.0, table 9-8)."""
    found = get(device, 1)

    assert found is not None
    size, kind, _, device_class, *_, vendor, product, release, _, _, _, configurations = struct.unpack(
        "<BBHBBBBHHHBBBB", found
    )
    assert (size, kind, device_class, configurations) == (18, 1, 2, 1)
    assert (vendor, product, release) == (0x1D50, 0x6086, 0x0009)


def test_configuration_is_whole(device: SerialDevice) -> None:
    """The length is the sum of all its descriptors (USB 2.0, 9.6.3)."""
    found = get(device, 2)

    assert found is not None
    assert struct.unpack_from("<H", found, 2) == (len(found),)
    at, endpoints, interfaces = 0, [], []
    while at < len(found):
        endpoints += [found[at + 2]] if found[at + 1] == 5 else []
        interfaces += [found[at + 2]] if found[at + 1] == 4 else []
        at += found[at]
    assert at == len(found)
    assert (endpoints, interfaces) == ([0x82, 0x85, 0x05], [0, 1])


def test_strings(device: SerialDevice) -> None:
    """There is a language and three UTF-16 strings."""
    texts = [get(device, 3, index) for index in range(4)]

    assert texts[0] == b"\x04\x03\x09\x04"
    assert [text[2:].decode("utf-16-le") for text in texts[1:] if text] == ["maker", "something", "0815"]
    assert get(device, 3, 4) is None


def test_no_more_is_answered_than_was_asked_for(device: SerialDevice) -> None:
    """A request for the start of a descriptor gets only that."""
    assert get(device, 2, length=9) == (get(device, 2) or b"")[:9]


def test_line_coding_is_remembered(device: SerialDevice) -> None:
    """GET_LINE_CODING returns the last value; other lengths are refused."""
    coding = struct.pack("<IBBB", 115200, 0, 0, 8)

    assert device.control(Setup(0x21, 0x20, 0, 0, 7), coding) == b""
    assert device.control(Setup(0xA1, 0x21, 0, 0, 7), b"") == coding
    assert device.control(Setup(0x21, 0x20, 0, 0, 3), b"abc") is None
    assert device.control(Setup(0xA1, 0x21, 0, 0, 7), b"") == coding


def test_dtr_is_bit_0_of_the_line_state(device: SerialDevice) -> None:
    """SET_CONTROL_LINE_STATE sets DTR; a reset drops it (PSTN 1.2, 6.3.12)."""
    for value, dtr in ((3, True), (2, False), (1, True)):
        assert device.control(Setup(0x21, 0x22, value, 0, 0), b"") == b""
        assert device.dtr is dtr
    device.reset()
    assert not device.dtr


@pytest.mark.parametrize(
    "setup",
    [
        Setup(0x80, 6, 6 << 8, 0, 10),
        Setup(0xC0, 1, 0, 0, 1),
        Setup(0x40, 9, 0, 0, 0),
        Setup(0x00, 9, 7, 0, 0),
    ],
)
def test_what_it_does_not_know_is_stalled(device: SerialDevice, setup: Setup) -> None:
    """A qualifier, vendor requests and unknown configurations are stalled."""
    assert device.control(setup, b"") is None


def test_standard_requests_are_answered(device: SerialDevice) -> None:
    """Status, configuration and interface follow USB 2.0, table 9-4."""
    assert device.control(Setup(0x80, 0, 0, 0, 2), b"") == b"\0\0"
    assert device.control(Setup(0x80, 8, 0, 0, 1), b"") == b"\0"
    assert device.control(Setup(0x00, 9, 1, 0, 0), b"") == b""
    assert device.control(Setup(0x80, 8, 0, 0, 1), b"") == b"\x01"
    assert [device.control(Setup(0x81, 10, 0, index, 1), b"") for index in range(3)] == [b"\0", b"\0", None]
    assert [device.control(Setup(0x01, 11, 0, index, 0), b"") for index in range(3)] == [b"", b"", None]


@pytest.mark.parametrize("setup", [Setup(0x02, 1, 0, 0x85, 0), Setup(0x21, 0x23, 0, 0, 0)])
def test_a_halt_is_cleared_and_a_break_sent(device: SerialDevice, setup: Setup) -> None:
    """CLEAR_FEATURE and SEND_BREAK are acknowledged and have no effect."""
    assert device.control(setup, b"") == b""
