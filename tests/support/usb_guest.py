"""The other end of usbredir: simulated QEMU, with the guest's cdc_acm."""

import asyncio
import itertools
import struct
from collections import deque
from typing import Any, Final, Self

from drawwell.wire import usb_device as usb
from drawwell.wire import usbredir as redir

_HELLO_HEAD: Final = struct.Struct("<III")
_HEAD: Final = struct.Struct("<IIQ")
_CONTROL: Final = struct.Struct("<BBBBHHH")
_BULK: Final = struct.Struct("<BBHIH")
REQUEST_BYTES: Final = 128
"""Size of one cdc_acm request."""
REQUESTS: Final = 16


def packet(kind: int, packet_id: int, body: bytes = b"") -> bytes:
    """Return any packet except hello."""
    return _HEAD.pack(kind, len(body), packet_id) + body


def control_packet(
    packet_id: int, request_type: int, request: int, value: int, *, length: int, data: bytes = b""
) -> bytes:
    """Return a control transfer to interface 0 or to the device."""
    endpoint = request_type & 0x80
    return packet(
        redir.CONTROL, packet_id, _CONTROL.pack(endpoint, request, request_type, 0, value, 0, length) + data
    )


def bulk_packet(packet_id: int, endpoint: int, length: int, data: bytes = b"") -> bytes:
    """Return a bulk transfer: to the device with data, from it without."""
    return packet(redir.BULK, packet_id, _BULK.pack(endpoint, 0, length & 0xFFFF, 0, length >> 16) + data)


class UsbGuest:
    """A guest at a usbredir socket. Its terminal stays closed until `open`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.plugged = False
        self.device: tuple[Any, ...] = ()
        """Speed, class, subclass, protocol, vendor, product, release."""
        self.arrived = bytearray()
        self.ends: deque[tuple[int, int, bytes]] = deque()
        """Completed transfers: id, status, data."""
        self._ids = itertools.count(1)

    @classmethod
    async def at(cls, path: str) -> Self:
        """Connect to a socket and exchange hellos."""
        guest = cls(*await asyncio.open_unix_connection(path))
        await guest.greet()
        return guest

    async def greet(self) -> None:
        """Exchange hellos."""
        self.writer.write(redir.hello())
        head = _HELLO_HEAD.unpack(await self.reader.readexactly(_HELLO_HEAD.size))
        await self.reader.readexactly(head[1])

    async def take(self) -> int:
        """Read one packet from the device and return its type."""
        kind: int
        kind, length, packet_id = _HEAD.unpack(await self.reader.readexactly(_HEAD.size))
        body = await self.reader.readexactly(length)
        if kind == redir.DEVICE_CONNECT:
            self.plugged, self.device = True, struct.unpack("<BBBBHHH", body)
        elif kind == redir.DEVICE_DISCONNECT:
            self.plugged = False
        elif kind == redir.CONTROL:
            self.ends.append((packet_id, body[3], body[_CONTROL.size :]))
        elif kind == redir.BULK:
            self.ends.append((packet_id, body[1], body[_BULK.size :]))
        else:
            self.ends.append((packet_id, body[0], body[1:]))
        return kind

    async def end_of(self, packet_id: int) -> tuple[int, bytes]:
        """Wait for the end of a transfer; return status and data."""
        while True:
            for end in tuple(self.ends):
                if end[0] == packet_id:
                    self.ends.remove(end)
                    return end[1:]
            await self.take()

    async def until_plugged(self, *, plugged: bool = True) -> None:
        """Wait until the device is plugged in, or unplugged."""
        while self.plugged is not plugged:
            await self.take()

    async def control(
        self, request_type: int, request: int, value: int = 0, length: int = 0, data: bytes = b""
    ) -> tuple[int, bytes]:
        """Perform a complete control transfer."""
        number = next(self._ids)
        self.writer.write(control_packet(number, request_type, request, value, length=length, data=data))
        return await self.end_of(number)

    async def open(self) -> None:
        """Configure the device and raise DTR and RTS, as cdc_acm's first open."""
        number = next(self._ids)
        self.writer.write(packet(redir.SET_CONFIGURATION, number, bytes((usb.CONFIGURATION,))))
        await self.end_of(number)
        await self.control(0x21, 0x22, value=3)

    async def close_terminal(self) -> None:
        """Drop DTR, as cdc_acm's last close."""
        await self.control(0x21, 0x22, value=0)

    async def write(self, data: bytes) -> None:
        """Write to the terminal."""
        number = next(self._ids)
        self.writer.write(bulk_packet(number, usb.BULK_OUT, len(data), data))
        await self.end_of(number)

    def ask(self, length: int = REQUEST_BYTES) -> int:
        """Send a request for bytes; return its id."""
        number = next(self._ids)
        self.writer.write(bulk_packet(number, usb.BULK_IN, length))
        return number

    def cancel(self, number: int) -> None:
        """Cancel a request."""
        self.writer.write(packet(redir.CANCEL_DATA, number))

    async def read(self, n_bytes: int) -> bytes:
        """Read n bytes like cdc_acm, and cancel the remaining requests."""
        requests = deque(self.ask() for _ in range(REQUESTS))
        got = bytearray()
        while len(got) < n_bytes:
            _, data = await self.end_of(requests.popleft())
            got += data
            requests.append(self.ask())
        for number in requests:
            self.cancel(number)
        for number in requests:
            got += (await self.end_of(number))[1]
        return bytes(got)

    async def aclose(self) -> None:
        """Disconnect."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            return
