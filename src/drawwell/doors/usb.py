"""The virtual OneRNG's door: QEMU's usb-redir connects, and its guest has a OneRNG that draws of this broker.

Whoever may open the socket is the one consumer that the door was made for, as with EGD. Nothing is drawn ahead: bytes
are taken from the broker for requests that the guest's driver has open, while its terminal is open and the device told
to run. What was drawn for requests that went meanwhile is lost, as it is with every other door.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from drawwell.authorisation import DRAW, DoorKind, Principal, Role, may
from drawwell.doors.connection import REQUESTS_PER_TURN, AnsweringConnection
from drawwell.doors.door import Limits
from drawwell.doors.local import LocalDoor
from drawwell.doors.retry import draw_patiently
from drawwell.entropy.blocks import DrawClass, DrawRequest
from drawwell.errors import DrawRefused, DrawwellError, Refused, RemoteProtocolError, StateUnavailable
from drawwell.onerng import usb as onerng_usb
from drawwell.onerng.virtual import VirtualOneRng
from drawwell.ports import Broker
from drawwell.wire.usb_device import PACKET_BYTES, UsbIdentity
from drawwell.wire.usb_host import UsbHost

DRAW_BYTES: Final = 2048
"""The most that is drawn at once: what cdc_acm asks for in its 16 requests."""
REFUSED_S: Final = 10.0
"""How long a stick is silent whose guest may have nothing; the operator may change that meanwhile."""
_LIMITS: Final = Limits(max_sessions=16, max_sessions_each=8)


class UsbDoor(LocalDoor):
    """Serve `broker` to guests as a virtual OneRNG; each connection is one stick.

    Args:
        where: A socket file (it has a slash), or a loopback ``host:port``.
        broker: Who is asked.
        consumer: Who everybody at this door is.
        draw_class: What is served.
        mode: Permissions of the socket file.
        limits: Deadlines and bounds.
        expects: See Door.

    Raises:
        ConfigError: `where` is not loopback.
    """

    def __init__(
        self,
        where: str,
        broker: Broker,
        consumer: str,
        draw_class: DrawClass,
        *,
        mode: int = 0o660,
        limits: Limits = _LIMITS,
        expects: Callable[[int, int], bool] | None = None,
    ) -> None:
        super().__init__(where, mode, "usbredir asks nobody who he is", limits, expects)
        self.broker = broker
        self.principal = Principal(Role.CONSUMER, consumer)
        self.draw_class = draw_class
        self.plugged = True
        self.refusals = 0
        """How often a guest asked for what a virtual device cannot honour: raw noise, or a firmware image."""
        self._sticks: dict[UsbConnection, None] = {}
        hardware_id = onerng_usb.virtual_id(consumer)
        self.hardware_id = hardware_id
        self.identity = UsbIdentity(
            vendor_id=onerng_usb.VENDOR_ID,
            product_id=onerng_usb.PRODUCT_ID,
            device_bcd=onerng_usb.RELEASE_BCD,
            manufacturer=onerng_usb.VIRTUAL_MANUFACTURER,
            product=onerng_usb.VIRTUAL_PRODUCT,
            serial=hardware_id,
        )

    def change_class(self, draw_class: DrawClass) -> None:
        """Serve this class from now on."""
        self.draw_class = draw_class

    def unplug(self) -> None:
        """Pull the stick out of every guest; the connections stay."""
        self.plugged = False
        for stick in self._sticks:
            stick.unplug()

    def replug(self) -> None:
        """Plug it in again."""
        self.plugged = True
        for stick in self._sticks:
            stick.plug()

    def remember(self, stick: "UsbConnection") -> None:
        """Note a connection, for `unplug`."""
        self._sticks[stick] = None

    def forget(self, stick: "UsbConnection") -> None:
        """Forget it."""
        self._sticks.pop(stick, None)

    def _connection(self) -> "UsbConnection":
        return UsbConnection(self)


class UsbConnection(AnsweringConnection):
    """One stick in one guest. At most one draw is under way for it."""

    def __init__(self, door: UsbDoor) -> None:
        super().__init__(door)
        self._usb = door
        self._power_on()
        self._handled = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Come in; the peer is whoever could open the socket, and may be stopped for as long as it likes (asyncio)."""
        super().connection_made(transport)
        self._usb.remember(self)
        self._admit(self._usb.principal.name)
        self._pump()

    def connection_lost(self, exc: Exception | None) -> None:
        """Go (asyncio)."""
        self._usb.forget(self)
        super().connection_lost(exc)

    def unplug(self) -> None:
        """Pull the stick out."""
        self._host.unplug()
        self._pump()

    def plug(self) -> None:
        """Plug it in, freshly powered on."""
        self._onerng = VirtualOneRng(self._usb.hardware_id)
        self._host.plug()
        self._pump()

    def _power_on(self) -> None:
        self._host = UsbHost(self._usb.identity)
        self._onerng = VirtualOneRng(self._usb.hardware_id)
        if not self._usb.plugged:
            self._host.unplug()

    def _received(self, data: memoryview) -> None:
        self._host.receive_data(data)
        self._pump()

    def _answer(self) -> None:
        steps = 0
        try:
            while not self._blocked and steps < REQUESTS_PER_TURN and self._host.step():
                steps += 1
                self._obey()
        except RemoteProtocolError:
            self._door.counts.protocol_errors += 1
            self._leave()
            return
        self._handled += steps
        self._stream()
        self._write(self._host.data_to_send())
        self._throttle(stalled=False, again=steps == REQUESTS_PER_TURN)

    def _part(self) -> int | None:
        return self._handled if self._host.unparsed_bytes else None

    def _obey(self) -> None:
        """Hand what the guest wrote to the device."""
        if self._host.received:
            refusals = self._onerng.refusals
            self._onerng.receive(self._host.received)
            self._host.received.clear()
            self._usb.refusals += self._onerng.refusals - refusals

    def _stream(self) -> None:
        """Answer the guest's open requests: with words at once, with bytes by a draw."""
        if reply := self._onerng.take_reply() if self._wanted_bytes else b"":
            self._host.give(reply)
        if not (wanted_bytes := self._wanted_bytes) or not self._onerng.streaming:
            self._drop_requests()  # nobody takes what would be drawn
        elif not self._requests and not self._blocked:
            may(DoorKind.USB, self._usb.principal, DRAW)
            self._spawn(self._draw(min(wanted_bytes, DRAW_BYTES)))

    @property
    def _wanted_bytes(self) -> int:
        """How many bytes there are open requests for, by somebody who has the terminal open."""
        transport = self._transport
        if transport is None or transport.is_closing() or not self._host.dtr:
            return 0
        return self._host.waiting_bytes

    async def _draw(self, n_bytes: int) -> None:
        """Draw for what the guest has asked for; when that is not to be had, one packet as soon as it is."""
        door = self._usb
        try:
            try:
                data = (await door.broker.draw(door.principal, DrawRequest(n_bytes, door.draw_class))).data
            except DrawRefused:
                raise
            except (Refused, StateUnavailable):
                grant = await draw_patiently(door.broker, door.principal, PACKET_BYTES, door.draw_class)
                data = grant.data
        except DrawwellError:
            await asyncio.sleep(REFUSED_S)
            return
        if self._wanted_bytes and self._onerng.streaming:
            self._host.give(data)

    def _finished(self, task: asyncio.Task[None]) -> None:
        """Go on, also after a draw that was dropped: the terminal may be open again."""
        self._requests.discard(task)
        self._pump()
