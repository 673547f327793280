"""A serial device plugged into a guest by usbredir: what is asked of it is answered, its bytes are the caller's.

Sans I/O. The caller feeds what the peer sent, takes `data_to_send`, looks at `received` and `dtr`, and gives bytes for
the requests in `waiting`, oldest first: none is answered before it was asked.
"""

from collections import deque
from typing import Final

from drawwell.errors import RemoteProtocolError
from drawwell.wire import usb_device as usb
from drawwell.wire import usbredir as redir

MAX_WAITING: Final = 256
"""Requests for bytes that may be open at once: cdc_acm has 16."""
MAX_RECEIVED_BYTES: Final = 65_536
"""What the guest may have written that the caller has not taken."""


class UsbHost:
    """One device and its way into one guest.

    Args:
        identity: What the device says of itself.
    """

    def __init__(self, identity: usb.UsbIdentity) -> None:
        self.received = bytearray()
        """What the guest wrote to the device; the caller deletes what it took."""
        self.refused = False
        """The guest's side does not want this device (its filter)."""
        self._device = usb.SerialDevice(identity)
        self._parser = redir.RedirParser()
        self._out = bytearray(redir.hello())
        self._waiting: deque[redir.BulkRequest] = deque()
        self._greeted = False
        self._plugged = True

    @property
    def plugged(self) -> bool:
        """Is it in?"""
        return self._plugged

    @property
    def dtr(self) -> bool:
        """Has somebody in the guest the terminal open?"""
        return self._plugged and self._device.dtr

    @property
    def waiting_bytes(self) -> int:
        """How many bytes are asked for, in whole packets of 64."""
        return sum(_whole_packets(request) for request in self._waiting)

    @property
    def unparsed_bytes(self) -> int:
        """How many bytes are here that no packet was made of."""
        return self._parser.unparsed_bytes

    def receive_data(self, data: bytes | memoryview) -> None:
        """Take bytes from the peer; `step` handles them."""
        self._parser.feed(data)

    def data_to_send(self) -> bytes:
        """Take what must be sent."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def step(self) -> bool:
        """Handle one packet; False when there is none to handle now.

        Raises:
            RemoteProtocolError: the peer does not speak usbredir, or asks for more than is kept.
        """
        if len(self.received) > MAX_RECEIVED_BYTES:
            return False
        packet = self._parser.next_packet()
        match packet:
            case None:
                return False
            case redir.UsbHello():
                self._greeted = True
                if self._plugged:
                    self._out += redir.connected(self._device.identity)
            case redir.ControlRequest():
                self._out += redir.control_answer(packet, self._device.control(packet.setup, packet.data))
                self._drop_if_closed()
            case redir.BulkRequest():
                self._bulk(packet)
            case redir.Plain():
                self._plain(packet)
        return True

    def give(self, data: bytes) -> int:
        """Answer open requests with `data`, oldest first; return how much of it was taken."""
        given = 0
        while self._waiting and given < len(data):
            request = self._waiting.popleft()
            piece = data[given : given + _whole_packets(request)]
            self._out += redir.bulk_answer(request, piece)
            given += len(piece)
        return given

    def unplug(self) -> None:
        """Pull the device out; the connection stays."""
        if self._plugged and self._greeted:
            self._out += redir.disconnected()
        self._plugged = False
        self._device.reset()
        self._waiting.clear()
        self.received.clear()

    def plug(self) -> None:
        """Put it in again."""
        if not self._plugged and self._greeted:
            self._out += redir.connected(self._device.identity)
        self._plugged = True

    def _bulk(self, request: redir.BulkRequest) -> None:
        if not self._plugged:
            return  # asked before the peer knew
        if request.endpoint == usb.BULK_OUT:
            self.received += request.data
            self._out += redir.bulk_answer(request)
        elif request.endpoint != usb.BULK_IN or not _whole_packets(request):
            self._out += redir.bulk_answer(request, status=redir.RedirStatus.INVALID)
        else:
            self._waiting.append(request)
            if len(self._waiting) > MAX_WAITING:
                raise RemoteProtocolError(f"usbredir peer has {len(self._waiting)} requests open")

    def _plain(self, packet: redir.Plain) -> None:
        match packet.kind, packet.values:
            case redir.RESET, ():
                self._device.reset()
                self._cancel_all()
            case redir.SET_CONFIGURATION, (configuration,):
                self._configure(packet.packet_id, configuration)
            case redir.GET_CONFIGURATION, ():
                self._answer(
                    redir.CONFIGURATION_STATUS, packet, redir.RedirStatus.SUCCESS, self._device.configuration
                )
            case redir.SET_ALT_SETTING, (interface, setting):
                good = interface < len(usb.INTERFACES) and setting == 0
                status = redir.RedirStatus.SUCCESS if good else redir.RedirStatus.INVALID
                self._answer(redir.ALT_SETTING_STATUS, packet, status, interface, setting)
            case redir.GET_ALT_SETTING, (interface,):
                self._answer(redir.ALT_SETTING_STATUS, packet, redir.RedirStatus.SUCCESS, interface, 0)
            case ((redir.START_INTERRUPT | redir.STOP_INTERRUPT), (endpoint,)):
                status = redir.RedirStatus.SUCCESS if endpoint == usb.NOTIFY_IN else redir.RedirStatus.INVALID
                self._answer(redir.INTERRUPT_STATUS, packet, status, endpoint)
            case redir.CANCEL_DATA, ():
                self._cancel(packet.packet_id)
            case redir.FILTER_REJECT, ():
                self.refused = True

    def _answer(self, kind: int, packet: redir.Plain, *values: int) -> None:
        self._out += redir.answer(kind, packet.packet_id, *values)

    def _configure(self, packet_id: int, configuration: int) -> None:
        good = self._device.configure(configuration)
        status = redir.RedirStatus.SUCCESS if good else redir.RedirStatus.INVALID
        self._out += redir.answer(redir.CONFIGURATION_STATUS, packet_id, status, configuration)
        self._drop_if_closed()

    def _drop_if_closed(self) -> None:
        """A device that lost its configuration has no open requests."""
        if not self._device.configuration:
            self._cancel_all()

    def _cancel(self, packet_id: int) -> None:
        for request in [each for each in self._waiting if each.packet_id == packet_id]:
            self._waiting.remove(request)
            self._out += redir.bulk_answer(request, status=redir.RedirStatus.CANCELLED)

    def _cancel_all(self) -> None:
        while self._waiting:
            self._out += redir.bulk_answer(self._waiting.popleft(), status=redir.RedirStatus.CANCELLED)


def _whole_packets(request: redir.BulkRequest) -> int:
    """What a request takes: whole packets, at most 4,096 bytes, as a short one ends it."""
    return min(request.length, 4096) // usb.PACKET_BYTES * usb.PACKET_BYTES
