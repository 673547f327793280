"""The door of the virtual OneRNG, to which QEMU's usb-redir connects.

The guest sees a OneRNG. As with EGD, each peer that opens the socket is the same consumer.
Bytes are never drawn in advance. They are drawn for open requests of the guest's driver, while
the guest's terminal is open and the device is on. If the requests are cancelled, their bytes
are lost.
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
"""The size of the largest draw: the total of cdc_acm's 16 requests."""
REFUSED_S: Final = 10.0
"""The pause after a refusal, during which the operator might change the guest's terms."""
_LIMITS: Final = Limits(max_sessions=16, max_sessions_each=8)


class UsbDoor(LocalDoor):
    """A door that serves `broker` to guests as virtual OneRNGs.

    Args:
        where: A socket file (with a slash), or a loopback ``host:port``.
        broker: Serves the draws.
        consumer: The consumer of every peer at this door.
        draw_class: The class of the served bytes.
        mode: Permissions of the socket file.
        limits: Deadlines and connection limits.
        expects: See Door.

    Raises:
        ConfigError: `where` is not a loopback address.
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
        super().__init__(where, mode, "usbredir does not identify its peers", limits, expects)
        self.broker = broker
        self.principal = Principal(Role.CONSUMER, consumer)
        self.draw_class = draw_class
        self.plugged = True
        self.refusals = 0
        """The number of requests for raw noise or firmware, which the device does not have."""
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
        """Change the class of the served bytes."""
        self.draw_class = draw_class

    def unplug(self) -> None:
        """Unplug all sticks without closing the connections."""
        self.plugged = False
        for stick in self._sticks:
            stick.unplug()

    def replug(self) -> None:
        """Plug all sticks in again."""
        self.plugged = True
        for stick in self._sticks:
            stick.plug()

    def remember(self, stick: "UsbConnection") -> None:
        """Register a connection for `unplug`."""
        self._sticks[stick] = None

    def forget(self, stick: "UsbConnection") -> None:
        """Deregister a connection."""
        self._sticks.pop(stick, None)

    def _connection(self) -> "UsbConnection":
        return UsbConnection(self)


class UsbConnection(AnsweringConnection):
    """A stick in a guest. At most one draw runs for it at a time."""

    def __init__(self, door: UsbDoor) -> None:
        super().__init__(door)
        self._usb = door
        self._power_on()
        self._handled = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection as the consumer's (asyncio)."""
        super().connection_made(transport)
        self._usb.remember(self)
        self._admit(self._usb.principal.name)
        self._pump()

    def connection_lost(self, exc: Exception | None) -> None:
        """Deregister the connection (asyncio)."""
        self._usb.forget(self)
        super().connection_lost(exc)

    def unplug(self) -> None:
        """Unplug the stick."""
        self._host.unplug()
        self._pump()

    def plug(self) -> None:
        """Plug the stick in, in the state after power-on."""
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
        """Pass the guest's output to the device."""
        if self._host.received:
            refusals = self._onerng.refusals
            self._onerng.receive(self._host.received)
            self._host.received.clear()
            self._usb.refusals += self._onerng.refusals - refusals

    def _stream(self) -> None:
        """Answer the guest's open requests with a device reply, or draw bytes."""
        if reply := self._onerng.take_reply() if self._wanted_bytes else b"":
            self._host.give(reply)
        if not (wanted_bytes := self._wanted_bytes) or not self._onerng.streaming:
            self._drop_requests()  # no open request is left
        elif not self._requests and not self._blocked:
            may(DoorKind.USB, self._usb.principal, DRAW)
            self._spawn(self._draw(min(wanted_bytes, DRAW_BYTES)))

    @property
    def _wanted_bytes(self) -> int:
        """The size of open requests; 0 if the guest's terminal is closed."""
        transport = self._transport
        if transport is None or transport.is_closing() or not self._host.dtr:
            return 0
        return self._host.waiting_bytes

    async def _draw(self, n_bytes: int) -> None:
        """Draw the requested bytes; after a temporary refusal, draw one packet."""
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
        """Continue even after a cancelled draw: the terminal might be open again."""
        self._requests.discard(task)
        self._pump()
