"""A USB serial device: its descriptors and control requests.

References: USB 2.0, chapter 9 (descriptors and standard requests); CDC 1.2, sections 5.2.3
(functional descriptors) and 6.2 (requests); PSTN 1.2, sections 5.3 and 6.3 (line coding,
control line state). The device has full speed, one configuration and two interfaces, as
Linux's cdc_acm expects.
"""

import struct
from dataclasses import dataclass
from typing import Final

NOTIFY_IN: Final = 0x82
BULK_IN: Final = 0x85
BULK_OUT: Final = 0x05
"""The OneRNG's endpoints (OneRNG/firmware 81d70bf, cdc.c)."""
PACKET_BYTES: Final = 64
"""The largest bulk packet at full speed (USB 2.0, 5.8.3)."""
CONTROL_BYTES: Final = 32
NOTIFY_BYTES: Final = 32
NOTIFY_INTERVAL: Final = 0x40
CDC: Final = 2
CDC_DATA: Final = 10
ACM: Final = 2
AT_COMMANDS: Final = 1
"""bInterfaceProtocol for V.25ter."""
INTERFACES: Final = ((CDC, ACM, AT_COMMANDS), (CDC_DATA, 0, 0))
"""Class, subclass and protocol of each interface."""
CONFIGURATION: Final = 1

_LANGUAGE_US: Final = b"\x04\x03\x09\x04"
_BUS_POWERED: Final = 0x80
_MILLIAMPERE_200: Final = 100  # in units of 2 mA
_SETUP_IN: Final = 0x80
_DEVICE, _CONFIGURATION_DESCRIPTOR, _STRING = 1, 2, 3
_LINE_CODING_BYTES: Final = 7
_LINE_CODING: Final = struct.pack("<IBBB", 9600, 0, 0, 8)  # 9600 8N1


@dataclass(frozen=True, slots=True)
class UsbIdentity:
    """The identity of a device; `device_bcd` is its release, 0x0009 for 0.09."""

    vendor_id: int
    product_id: int
    device_bcd: int
    manufacturer: str
    product: str
    serial: str


@dataclass(frozen=True, slots=True)
class Setup:
    """A control request (USB 2.0, 9.3)."""

    request_type: int
    request: int
    value: int
    index: int
    length: int


class SerialDevice:
    """The device's side of control requests, with the serial line's state."""

    def __init__(self, identity: UsbIdentity) -> None:
        self.identity = identity
        self.configuration = 0
        self.dtr = False
        """Data terminal ready: a program has opened the device (PSTN 1.2, 6.3.12)."""
        self._line_coding = _LINE_CODING
        self._strings = (
            _LANGUAGE_US,
            *map(_string, (identity.manufacturer, identity.product, identity.serial)),
        )

    def reset(self) -> None:
        """Return to the state after power-on."""
        self.configuration, self.dtr, self._line_coding = 0, False, _LINE_CODING

    def configure(self, configuration: int) -> bool:
        """Set a configuration; return False for an unknown one."""
        if configuration not in {0, CONFIGURATION}:
            return False
        self.configuration, self.dtr = configuration, self.dtr and bool(configuration)
        return True

    def control(self, setup: Setup, data: bytes) -> bytes | None:
        """Handle a request; return data, or b"" for success, or None to stall it.

        The numbers are from USB 2.0, tables 9-3 and 9-4, and PSTN 1.2, table 13.
        """
        if setup.request_type & _SETUP_IN:
            answer = self._read(setup)
            return None if answer is None else answer[: setup.length]
        return b"" if self._done(setup, data) else None

    def _read(self, setup: Setup) -> bytes | None:
        match setup.request_type, setup.request:
            case 0x80, 6:
                return self._descriptor(setup.value >> 8, setup.value & 0xFF)
            case 0x80 | 0x81 | 0x82, 0:
                return b"\0\0"
            case 0x80, 8:
                return bytes((self.configuration,))
            case 0x81, 10:
                return b"\0" if setup.index < len(INTERFACES) else None
            case 0xA1, 0x21:
                return self._line_coding
        return None

    def _done(self, setup: Setup, data: bytes) -> bool:
        match setup.request_type, setup.request:
            case 0x00, 9:
                return self.configure(setup.value)
            case 0x01, 11:
                return setup.value == 0 and setup.index < len(INTERFACES)
            case 0x21, 0x20 if len(data) == _LINE_CODING_BYTES:
                self._line_coding = data
            case 0x21, 0x22:
                self.dtr = bool(setup.value & 1)
            case (0x02, 1) | (0x21, 0x23):  # there is no halt to clear, and no line for a break
                pass
            case _:
                return False
        return True

    def _descriptor(self, kind: int, index: int) -> bytes | None:
        if kind == _DEVICE:
            return self._device_descriptor()
        if kind == _CONFIGURATION_DESCRIPTOR and index == 0:
            return configuration_descriptor()
        if kind == _STRING and index < len(self._strings):
            return self._strings[index]
        return None

    def _device_descriptor(self) -> bytes:
        who = self.identity
        return struct.pack(
            "<BBHBBBBHHHBBBB",
            18, _DEVICE, 0x0200, CDC, 0, 0, CONTROL_BYTES, who.vendor_id, who.product_id, who.device_bcd, 1, 2, 3, 1,
        )  # fmt: skip


def configuration_descriptor() -> bytes:
    """Return the whole configuration descriptor (USB 2.0, 9.6; CDC 1.2, 5.2)."""
    control = (
        _interface(0, 1, INTERFACES[0])
        + bytes((5, 0x24, 0, 0x10, 1))  # header: CDC 1.10
        + bytes((5, 0x24, 1, 0, 1))  # call management: none
        + bytes((4, 0x24, 2, 2))  # ACM: line coding and line state
        + bytes((5, 0x24, 6, 0, 1))  # union of interfaces 0 and 1
        + _endpoint(NOTIFY_IN, 3, NOTIFY_BYTES, NOTIFY_INTERVAL)
    )
    data = _interface(1, 2, INTERFACES[1]) + b"".join(
        _endpoint(address, 2, PACKET_BYTES, 0) for address in (BULK_IN, BULK_OUT)
    )
    length = 9 + len(control) + len(data)
    head = struct.pack("<BBHBBBBB", 9, 2, length, 2, CONFIGURATION, 0, _BUS_POWERED, _MILLIAMPERE_200)
    return head + control + data


def _interface(number: int, endpoints: int, kind: tuple[int, int, int]) -> bytes:
    return bytes((9, 4, number, 0, endpoints, *kind, 0))


def _endpoint(address: int, kind: int, packet_bytes: int, interval: int) -> bytes:
    return struct.pack("<BBBBHB", 7, 5, address, kind, packet_bytes, interval)


def _string(text: str) -> bytes:
    """Return a string descriptor of at most 126 characters (USB 2.0, 9.6.7)."""
    data = text.encode("utf-16-le")[:252]
    return bytes((2 + len(data), _STRING)) + data
