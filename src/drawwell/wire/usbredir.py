"""The usbredir protocol 0.7 on the device's side (usb-redir-protocol.txt).

All numbers are little-endian. A packet is ``u32 type | u32 length | u64 id``, followed by
`length` bytes: a header that depends on the type, then data. Only ``hello`` has a 32-bit id;
it announces 64-bit ids. QEMU requires `CAPABILITIES` for a device on xHCI. We require them
from the peer too, to have a single format.
"""

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from drawwell.errors import RemoteProtocolError
from drawwell.wire import usb_device as usb

DEVICE_VERSION, MAX_PACKET_SIZE, IDS_64, BULK_LENGTH_32 = 1, 4, 5, 6
CAPABILITIES: Final = 1 << DEVICE_VERSION | 1 << MAX_PACKET_SIZE | 1 << IDS_64 | 1 << BULK_LENGTH_32
VERSION: Final = b"drawwell"
MAX_DATA_BYTES: Final = 65_536
"""Limit of one transfer; cdc_acm sends 1,280 bytes at once, other users of libusb less."""
FULL_SPEED: Final = 1

HELLO, DEVICE_CONNECT, DEVICE_DISCONNECT, RESET, INTERFACE_INFO, EP_INFO = range(6)
SET_CONFIGURATION, GET_CONFIGURATION, CONFIGURATION_STATUS = 6, 7, 8
SET_ALT_SETTING, GET_ALT_SETTING, ALT_SETTING_STATUS = 9, 10, 11
START_INTERRUPT, STOP_INTERRUPT, INTERRUPT_STATUS = 15, 16, 17
CANCEL_DATA, FILTER_REJECT, FILTER, DISCONNECT_ACK = 21, 22, 23, 24
CONTROL, BULK = 100, 101

_HELLO_HEAD: Final = struct.Struct("<III")
_HEAD: Final = struct.Struct("<IIQ")
_CONTROL: Final = struct.Struct("<BBBBHHH")
_BULK: Final = struct.Struct("<BBHIH")
_VERSION_BYTES: Final = 64
_MAX_CAPABILITY_BYTES: Final = 64
_IN: Final = 0x80
_SLOTS: Final = 32
"""The number of entries in the tables of interfaces and endpoints."""
_NO_ENDPOINT: Final = 255

_BODIES: Final = {
    RESET: (0, 0),
    SET_CONFIGURATION: (1, 1),
    GET_CONFIGURATION: (0, 0),
    SET_ALT_SETTING: (2, 2),
    GET_ALT_SETTING: (1, 1),
    START_INTERRUPT: (1, 1),
    STOP_INTERRUPT: (1, 1),
    CANCEL_DATA: (0, 0),
    FILTER_REJECT: (0, 0),
    FILTER: (0, 4096),
    DISCONNECT_ACK: (0, 0),
    CONTROL: (_CONTROL.size, _CONTROL.size + MAX_DATA_BYTES),
    BULK: (_BULK.size, _BULK.size + MAX_DATA_BYTES),
}
"""Packets from the peer after its hello, with their minimum and maximum lengths."""


class RedirStatus(IntEnum):
    """The result of a request (usb_redir_status)."""

    SUCCESS = 0
    CANCELLED = 1
    INVALID = 2
    IO_ERROR = 3
    STALL = 4


@dataclass(frozen=True, slots=True)
class UsbHello:
    """The peer's hello, with the required capabilities."""


@dataclass(frozen=True, slots=True)
class Plain:
    """A short packet: reset, settings, interrupts or cancel."""

    kind: int
    packet_id: int
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ControlRequest:
    """A control transfer; `data` is empty unless it is sent to the device."""

    packet_id: int
    endpoint: int
    setup: usb.Setup
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class BulkRequest:
    """A bulk transfer: `data` for the device, or a request for `length` bytes.

    Requests for bytes have an endpoint above 0x80.
    """

    packet_id: int
    endpoint: int
    length: int
    stream: int
    data: bytes = field(repr=False)


Packet = UsbHello | Plain | ControlRequest | BulkRequest


class RedirParser:
    """A parser of packets, with a buffer of unparsed input."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._greeted = False

    @property
    def unparsed_bytes(self) -> int:
        """The size of unparsed input."""
        return len(self._buffer)

    def feed(self, data: bytes | memoryview) -> None:
        """Buffer input."""
        self._buffer += data

    def next_packet(self) -> Packet | None:
        """Return the next packet, or None if incomplete.

        Raises:
            RemoteProtocolError: the packet's length is invalid, or the guest's side does not
                send this type; further input cannot be parsed.
        """
        head = _HEAD if self._greeted else _HELLO_HEAD
        if len(self._buffer) < head.size:
            return None
        kind, length, packet_id = head.unpack_from(self._buffer)
        shortest, longest = self._bounds(kind)
        if not shortest <= length <= longest:
            raise RemoteProtocolError(f"usbredir packet {kind} cannot have {length} bytes")
        end = head.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[head.size : end])
        del self._buffer[:end]
        if not self._greeted:
            return self._hello(body)
        if kind == CONTROL:
            return _control(packet_id, body)
        return _bulk(packet_id, body) if kind == BULK else Plain(kind, packet_id, tuple(body))

    def _bounds(self, kind: int) -> tuple[int, int]:
        if not self._greeted and kind == HELLO:
            return _VERSION_BYTES, _VERSION_BYTES + _MAX_CAPABILITY_BYTES
        if not self._greeted or kind not in _BODIES:
            raise RemoteProtocolError(f"unexpected usbredir packet {kind}")
        return _BODIES[kind]

    def _hello(self, body: bytes) -> UsbHello:
        if len(body) % 4:
            raise RemoteProtocolError(f"the usbredir hello cannot have {len(body)} bytes")
        capabilities = int.from_bytes(body[_VERSION_BYTES:][:4], "little")
        if capabilities & CAPABILITIES != CAPABILITIES:
            raise RemoteProtocolError(f"the usbredir peer's capabilities {capabilities:#x} are insufficient")
        self._greeted = True
        return UsbHello()


def _control(packet_id: int, body: bytes) -> ControlRequest:
    endpoint, request, request_type, _, value, index, length = _CONTROL.unpack_from(body)
    data = body[_CONTROL.size :]
    if len(data) != (0 if endpoint & _IN else length):
        raise RemoteProtocolError(f"a usbredir control packet has {len(data)} bytes but declares {length}")
    return ControlRequest(packet_id, endpoint, usb.Setup(request_type, request, value, index, length), data)


def _bulk(packet_id: int, body: bytes) -> BulkRequest:
    endpoint, _, low, stream, high = _BULK.unpack_from(body)
    length, data = high << 16 | low, body[_BULK.size :]
    if len(data) != (0 if endpoint & _IN else length):
        raise RemoteProtocolError(f"a usbredir bulk packet has {len(data)} bytes but declares {length}")
    return BulkRequest(packet_id, endpoint, length, stream, data)


# ---- output


def hello() -> bytes:
    """Return our first packet."""
    body = VERSION.ljust(_VERSION_BYTES, b"\0") + CAPABILITIES.to_bytes(4, "little")
    return _HELLO_HEAD.pack(HELLO, len(body), 0) + body


def connected(identity: usb.UsbIdentity) -> bytes:
    """Return the packets that plug in a serial device."""
    device = struct.pack(
        "<BBBBHHH", FULL_SPEED, usb.CDC, 0, 0, identity.vendor_id, identity.product_id, identity.device_bcd
    )
    return (
        _packet(INTERFACE_INFO, 0, _interfaces())
        + _packet(EP_INFO, 0, _endpoints())
        + _packet(DEVICE_CONNECT, 0, device)
    )


def disconnected() -> bytes:
    """Return the packet that unplugs the device."""
    return _packet(DEVICE_DISCONNECT, 0, b"")


def answer(kind: int, packet_id: int, *values: int) -> bytes:
    """Return a short CONFIGURATION_, ALT_SETTING_ or INTERRUPT_STATUS packet."""
    return _packet(kind, packet_id, bytes(values))


def control_answer(request: ControlRequest, data: bytes | None) -> bytes:
    """Return the answer to a control transfer; None stalls it."""
    setup, status = request.setup, RedirStatus.STALL if data is None else RedirStatus.SUCCESS
    length = len(data or b"") if data is None or request.endpoint & _IN else setup.length
    head = _CONTROL.pack(
        request.endpoint, setup.request, setup.request_type, status, setup.value, setup.index, length
    )
    return _packet(CONTROL, request.packet_id, head + (data or b""))


def bulk_answer(request: BulkRequest, data: bytes = b"", status: RedirStatus = RedirStatus.SUCCESS) -> bytes:
    """Return the answer to a bulk transfer, with `data` if it was requested."""
    length = len(data) if request.endpoint & _IN or status else request.length
    head = _BULK.pack(request.endpoint, status, length & 0xFFFF, request.stream, length >> 16)
    return _packet(BULK, request.packet_id, head + data)


def _packet(kind: int, packet_id: int, body: bytes) -> bytes:
    return _HEAD.pack(kind, len(body), packet_id) + body


def _interfaces() -> bytes:
    columns = [range(len(usb.INTERFACES)), *zip(*usb.INTERFACES, strict=True)]
    return len(usb.INTERFACES).to_bytes(4, "little") + b"".join(
        bytes(column).ljust(_SLOTS, b"\0") for column in columns
    )


def _endpoints() -> bytes:
    """Return the table of endpoints: slots 0 to 15 are OUT, 16 to 31 are IN."""
    kinds, intervals, interfaces = bytearray([_NO_ENDPOINT] * _SLOTS), bytearray(_SLOTS), bytearray(_SLOTS)
    sizes = [0] * _SLOTS
    for address, kind, interval, interface, size in (
        (0x00, 0, 0, 0, usb.CONTROL_BYTES),
        (0x80, 0, 0, 0, usb.CONTROL_BYTES),
        (usb.NOTIFY_IN, 3, usb.NOTIFY_INTERVAL, 0, usb.NOTIFY_BYTES),
        (usb.BULK_IN, 2, 0, 1, usb.PACKET_BYTES),
        (usb.BULK_OUT, 2, 0, 1, usb.PACKET_BYTES),
    ):
        slot = (address & 0x0F) + (16 if address & _IN else 0)
        kinds[slot], intervals[slot], interfaces[slot], sizes[slot] = kind, interval, interface, size
    return bytes(kinds + intervals + interfaces) + struct.pack(f"<{_SLOTS}H", *sizes)
