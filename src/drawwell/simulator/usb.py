"""The simulated OneRNG plugged into a virtual machine: its USB by usbredir, its commands and its image as ever.

QEMU listens (``-chardev socket,id=stick,path=SOCKET,server=on,wait=off -device usb-redir,chardev=stick``); to connect
is to plug it in, to hang up is to pull it out. In the guest it is what a real one is, down to its serial number "00".
"""

import asyncio
import os
from contextlib import suppress
from typing import Final, Self

from drawwell.errors import RemoteProtocolError, UsageError
from drawwell.onerng import usb as onerng_usb
from drawwell.simulator.noise import SimulatedFault
from drawwell.simulator.stick import CHUNK_BYTES, NOISE_RATE, TICK_S, SimulatedStick, parse_fault
from drawwell.wire.usb_device import UsbIdentity
from drawwell.wire.usb_host import UsbHost

IDENTITY: Final = UsbIdentity(
    vendor_id=onerng_usb.VENDOR_ID,
    product_id=onerng_usb.PRODUCT_ID,
    device_bcd=onerng_usb.RELEASE_BCD,
    manufacturer=onerng_usb.MANUFACTURER,
    product=onerng_usb.PRODUCT,
    serial=onerng_usb.SERIAL,
)


class UsbStick(SimulatedStick):
    """A simulated OneRNG at a usbredir socket, from ``async with`` to its end, in the caller's event loop.

    Args:
        where: The socket that QEMU listens at.
        seed, fault, rate, version: See `SimulatedStick`.
    """

    def __init__(
        self,
        where: str | os.PathLike[str],
        *,
        seed: int | None = None,
        fault: SimulatedFault | str = SimulatedFault.NONE,
        rate: float = NOISE_RATE,
        version: int = 3,
    ) -> None:
        super().__init__(seed=seed, fault=fault, rate=rate, version=version)
        self.where = os.fspath(where)
        self._host = UsbHost(IDENTITY)
        self._wire: _Wire | None = None
        self._due = asyncio.Event()
        self._wanted = self.fault is not SimulatedFault.UNPLUGGED

    async def __aenter__(self) -> Self:
        """Plug it in, unless the fault is ``unplugged``.

        Raises:
            UsageError: nobody listens there.
        """
        if self._wanted:
            await self._plug()
        await self._begin()
        return self

    def set_fault(self, fault: SimulatedFault | str) -> None:
        """Make it ill, or well again; any other fault than ``unplugged`` plugs it in.

        Raises:
            UsageError: there is no such fault.
        """
        self.fault = parse_fault(fault)
        self._device.fault = self.fault
        self._wanted = self.fault is not SimulatedFault.UNPLUGGED
        if not self._wanted:
            self._pull()

    def unplug(self) -> None:
        """Pull it out."""
        self._wanted = False
        self._pull()

    def replug(self) -> None:
        """Plug it in again, freshly powered on, as soon as somebody listens."""
        if self.fault is SimulatedFault.UNPLUGGED:
            self.fault = SimulatedFault.NONE
        self._pull()
        self._wanted = True
        self._due.set()

    async def _plug(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, self._wire = await loop.create_unix_connection(lambda: _Wire(self._due), self.where)
        except OSError as error:
            raise UsageError(
                f"nobody listens at {self.where}: {error.strerror}",
                hint="Start QEMU with -chardev socket,id=stick,path=SOCKET,server=on,wait=off "
                "-device usb-redir,chardev=stick.",
            ) from None
        self._host = UsbHost(IDENTITY)
        self._device = self._power_on(loop.time())
        self.node = self.where

    def _pull(self) -> None:
        if self._wire is not None:
            self._wire.hang_up()
        self._wire, self.node = None, ""

    async def _run(self) -> None:
        while True:
            if not self._wanted or (self._wire is not None and self._wire.ended):
                self._pull()
            elif self._wire is None:
                with suppress(UsageError):
                    await self._plug()
            else:
                self._serve()
            await self._wait()

    def _serve(self) -> None:
        """Handle what came, let noise be gathered, and answer the guest's open requests with what there is."""
        host, device = self._host, self._device
        if self._wire is None:
            return
        host.receive_data(self._wire.take())
        try:
            while host.step():
                device.receive(bytes(host.received))
                host.received.clear()
                device.dtr = host.dtr
        except RemoteProtocolError:
            self._pull()
            return
        device.advance(asyncio.get_running_loop().time())
        if not self._wire.blocked:
            self.sent_bytes += host.give(device.transmit(min(host.waiting_bytes, CHUNK_BYTES)))
        self._wire.send(host.data_to_send())

    async def _wait(self) -> None:
        """Until something came, or for the next tick."""
        with suppress(TimeoutError):
            async with asyncio.timeout(TICK_S):
                await self._due.wait()
        self._due.clear()


class _Wire(asyncio.Protocol):
    """The connection: what came lies here until it is taken."""

    def __init__(self, due: asyncio.Event) -> None:
        self.ended = self.blocked = False
        self._due = due
        self._came = bytearray()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin (asyncio)."""
        self._transport = transport if isinstance(transport, asyncio.WriteTransport) else None

    def data_received(self, data: bytes) -> None:
        """Keep it (asyncio)."""
        self._came += data
        self._due.set()

    def pause_writing(self) -> None:
        """Give it no more noise (asyncio)."""
        self.blocked = True

    def resume_writing(self) -> None:
        """Go on (asyncio)."""
        self.blocked = False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio
        """Note the end (asyncio)."""
        self.ended = True
        self._due.set()

    def take(self) -> bytes:
        """Take what came."""
        data = bytes(self._came)
        self._came.clear()
        return data

    def send(self, data: bytes) -> None:
        """Send it."""
        if data and self._transport is not None:
            self._transport.write(data)

    def hang_up(self) -> None:
        """End it at once."""
        if self._transport is not None:
            self._transport.abort()
