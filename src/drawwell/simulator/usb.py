"""The simulated OneRNG in a virtual machine, connected by usbredir.

QEMU listens (``-chardev socket,id=stick,path=SOCKET,server=on,wait=off -device
usb-redir,chardev=stick``). Connecting plugs the device in, and disconnecting unplugs it. The
guest sees a real device, even its serial number "00".
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
    """A simulated OneRNG on a usbredir socket, within ``async with``.

    Args:
        where: The socket on which QEMU listens.
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
        """Plug the device in, unless the fault is ``unplugged``.

        Raises:
            UsageError: no QEMU listens on this socket.
        """
        if self._wanted:
            await self._plug()
        await self._begin()
        return self

    def set_fault(self, fault: SimulatedFault | str) -> None:
        """Set or clear the fault; unless ``unplugged``, plug the device in.

        Raises:
            UsageError: the fault is unknown.
        """
        self.fault = parse_fault(fault)
        self._device.fault = self.fault
        self._wanted = self.fault is not SimulatedFault.UNPLUGGED
        if not self._wanted:
            self._pull()

    def unplug(self) -> None:
        self._wanted = False
        self._pull()

    def replug(self) -> None:
        """Power the device on and plug it in as soon as QEMU listens."""
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
                f"no QEMU listens on {self.where}: {error.strerror}",
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
        """Process input, generate noise, and answer the guest's pending requests."""
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
        """Wait for input or for the next tick."""
        with suppress(TimeoutError):
            async with asyncio.timeout(TICK_S):
                await self._due.wait()
        self._due.clear()


class _Wire(asyncio.Protocol):
    """The connection, with a buffer of received bytes."""

    def __init__(self, due: asyncio.Event) -> None:
        self.ended = self.blocked = False
        self._due = due
        self._came = bytearray()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport if isinstance(transport, asyncio.WriteTransport) else None

    def data_received(self, data: bytes) -> None:
        self._came += data
        self._due.set()

    def pause_writing(self) -> None:
        self.blocked = True

    def resume_writing(self) -> None:
        self.blocked = False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio
        self.ended = True
        self._due.set()

    def take(self) -> bytes:
        """Take the received bytes."""
        data = bytes(self._came)
        self._came.clear()
        return data

    def send(self, data: bytes) -> None:
        if data and self._transport is not None:
            self._transport.write(data)

    def hang_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()
