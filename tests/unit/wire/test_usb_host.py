"""A guest's requests to the USB device, and their answers."""

import struct
from collections.abc import Callable

import pytest

from drawwell.errors import RemoteProtocolError
from drawwell.wire import usbredir as redir
from drawwell.wire.usb_device import BULK_IN, NOTIFY_IN, UsbIdentity
from drawwell.wire.usb_host import MAX_RECEIVED_BYTES, UsbHost
from support.usb_guest import bulk_packet, control_packet, packet

ID = 7
GOOD, CANCELLED, INVALID = 0, 1, 2
OPEN_LINE = control_packet(1, 0x21, 0x22, 1, length=0)
CONFIGURE = packet(redir.SET_CONFIGURATION, 1, b"\x01")


@pytest.fixture
def host() -> UsbHost:
    """Return a device after the guest's hello."""
    host = UsbHost(UsbIdentity(0x1D50, 0x6086, 9, "a", "b", "c"))
    answers(host, redir.hello())
    return host


def answers(host: UsbHost, *packets: bytes) -> list[tuple[int, bytes]]:
    """Return type and body of each answer to these packets."""
    host.receive_data(b"".join(packets))
    while host.step():
        pass
    return sent(host)


def sent(host: UsbHost) -> list[tuple[int, bytes]]:
    data, found = host.data_to_send(), []
    at = 12 + struct.unpack_from("<I", data, 4)[0] if data.startswith(bytes(4)) else 0
    while at < len(data):
        kind, length, _ = struct.unpack_from("<IIQ", data, at)
        found.append((kind, data[at + 16 : at + 16 + length]))
        at += 16 + length
    return found


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ((redir.GET_CONFIGURATION,), (redir.CONFIGURATION_STATUS, GOOD, 0)),
        ((redir.SET_CONFIGURATION, 1), (redir.CONFIGURATION_STATUS, GOOD, 1)),
        ((redir.SET_CONFIGURATION, 2), (redir.CONFIGURATION_STATUS, INVALID, 2)),
        ((redir.SET_ALT_SETTING, 1, 0), (redir.ALT_SETTING_STATUS, GOOD, 1, 0)),
        ((redir.SET_ALT_SETTING, 2, 0), (redir.ALT_SETTING_STATUS, INVALID, 2, 0)),
        ((redir.GET_ALT_SETTING, 1), (redir.ALT_SETTING_STATUS, GOOD, 1, 0)),
        ((redir.START_INTERRUPT, NOTIFY_IN), (redir.INTERRUPT_STATUS, GOOD, NOTIFY_IN)),
        ((redir.STOP_INTERRUPT, BULK_IN), (redir.INTERRUPT_STATUS, INVALID, BULK_IN)),
    ],
)
def test_a_short_request_is_answered(host: UsbHost, asked: tuple, answer: tuple) -> None:
    """Configuration, alternate setting and interrupts get one answer each."""
    kind, *values = asked
    assert answers(host, packet(kind, ID, bytes(values))) == [(answer[0], bytes(answer[1:]))]


@pytest.mark.parametrize(
    ("request_packet", "cancelled"),
    [
        (packet(redir.CANCEL_DATA, 3), 1),
        (packet(redir.RESET, ID), 2),
        (packet(redir.SET_CONFIGURATION, ID, b"\0"), 2),
        (control_packet(ID, 0x00, 9, 0, length=0), 2),
    ],
    ids=["cancel", "reset", "no configuration", "no configuration by control"],
)
def test_open_requests_are_cancelled(host: UsbHost, request_packet: bytes, cancelled: int) -> None:
    """A cancel ends one request; a reset or a lost configuration ends all."""
    answers(host, CONFIGURE, bulk_packet(3, BULK_IN, 64), bulk_packet(4, BULK_IN, 64))
    assert host.waiting_bytes == 128

    ended = [body[1] for kind, body in answers(host, request_packet) if kind == redir.BULK]
    assert ended == cancelled * [CANCELLED]
    assert host.waiting_bytes == 128 - 64 * cancelled


@pytest.mark.parametrize(("endpoint", "length"), [(BULK_IN, 63), (0x81, 64)])
def test_an_impossible_transfer_is_invalid(host: UsbHost, endpoint: int, length: int) -> None:
    """Less than a packet, or another endpoint, is answered at once."""
    ((kind, body),) = answers(host, bulk_packet(ID, endpoint, length))
    assert (kind, body[1], host.waiting_bytes) == (redir.BULK, INVALID, 0)


def test_a_replugged_device_has_forgotten_the_guest(host: UsbHost) -> None:
    """Unplugging drops requests and line state; plugging in starts over."""
    answers(host, CONFIGURE, OPEN_LINE, bulk_packet(3, BULK_IN, 64))
    assert (host.plugged, host.dtr, host.waiting_bytes) == (True, True, 64)

    host.unplug()
    assert [kind for kind, _ in sent(host)] == [redir.DEVICE_DISCONNECT]
    assert (host.plugged, host.dtr, host.waiting_bytes) == (False, False, 0)
    assert answers(host, bulk_packet(4, BULK_IN, 64)) == []

    host.plug()
    assert [kind for kind, _ in sent(host)][-1] == redir.DEVICE_CONNECT
    assert (host.plugged, host.dtr, host.waiting_bytes) == (True, False, 0)


@pytest.mark.parametrize("change", [UsbHost.plug, lambda host: (host.unplug(), host.unplug())])
def test_plugging_twice_is_announced_once(host: UsbHost, change: Callable[[UsbHost], object]) -> None:
    """Plugging or unplugging twice has no further effect."""
    change(host)
    assert len(sent(host)) == (0 if host.plugged else 1)


def test_a_device_is_announced_after_the_hello_only() -> None:
    """Before the guest's hello only our own hello is sent."""
    host = UsbHost(UsbIdentity(0x1D50, 0x6086, 9, "a", "b", "c"))
    host.unplug()
    assert answers(host, redir.hello()) == []
    host.plug()
    assert [kind for kind, _ in sent(host)][-1] == redir.DEVICE_CONNECT


def test_a_filter_can_refuse_the_device(host: UsbHost) -> None:
    """If the guest's side rejects the device, nothing is answered."""
    assert not host.refused
    assert answers(host, packet(redir.FILTER_REJECT, ID)) == []
    assert host.refused


def test_bytes_from_the_guest_are_bounded(host: UsbHost) -> None:
    """Input is not processed further while the caller takes no packets."""
    host.received += bytes(MAX_RECEIVED_BYTES + 1)
    assert answers(host, packet(redir.GET_CONFIGURATION, ID)) == []
    host.received.clear()
    assert len(answers(host)) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        control_packet(ID, 0x21, 0x20, 0, length=7, data=b"abc"),
        bulk_packet(ID, 0x05, 4, b"abc"),
        bulk_packet(ID, BULK_IN, 4, b"abc"),
    ],
    ids=["control", "bulk out", "bulk in"],
)
def test_data_must_be_as_long_as_its_length(host: UsbHost, wrong: bytes) -> None:
    """A transfer whose data differs from its length ends the connection."""
    with pytest.raises(RemoteProtocolError, match="bytes but declares"):
        answers(host, wrong)


def test_a_hello_is_whole_capabilities() -> None:
    """A hello's capabilities must be whole 32-bit words."""
    host = UsbHost(UsbIdentity(0x1D50, 0x6086, 9, "a", "b", "c"))
    with pytest.raises(RemoteProtocolError, match="cannot have 66 bytes"):
        answers(host, struct.pack("<III", redir.HELLO, 66, 0) + bytes(66))
