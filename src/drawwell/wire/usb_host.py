"""A serial device plugged into a guest through usbredir, without I/O.

The caller passes input to `receive_data`, calls `step`, sends `data_to_send`, and answers the
guest's requests for bytes with `give`. Bytes are never sent before a request.
"""

from collections import deque
from typing import Final

from drawwell.errors import RemoteProtocolError
from drawwell.wire import usb_device as usb
from drawwell.wire import usbredir as redir

MAX_WAITING: Final = 256
"""The maximum number of open requests for bytes; cdc_acm opens 16."""
MAX_RECEIVED_BYTES: Final = 65_536
"""The limit of bytes from the guest that the caller has not taken yet."""


class UsbHost:
    """A device and its connection to one guest.

    Args:
        identity: The device's identity.
    """

    def __init__(self, identity: usb.UsbIdentity) -> None:
        self.received = bytearray()
        """Bytes from the guest for the device; the caller deletes those it has processed."""
        self.refused = False
        """Whether the guest's filter rejected this device."""
        self._device = usb.SerialDevice(identity)
        self._parser = redir.RedirParser()
        self._out = bytearray(redir.hello())
        self._waiting: deque[redir.BulkRequest] = deque()
        self._greeted = False
        self._plugged = True

    @property
    def plugged(self) -> bool:
        return self._plugged

    @property
    def dtr(self) -> bool:
        """Whether a program in the guest has opened the device."""
        return self._plugged and self._device.dtr

    @property
    def waiting_bytes(self) -> int:
        """The number of requested bytes, in whole packets of 64."""
        return sum(_whole_packets(request) for request in self._waiting)

    @property
    def unparsed_bytes(self) -> int:
        """The size of unparsed input."""
        return self._parser.unparsed_bytes

    def receive_data(self, data: bytes | memoryview) -> None:
        """Buffer input for `step`."""
        self._parser.feed(data)

    def data_to_send(self) -> bytes:
        """Return and remove the output."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def step(self) -> bool:
        """Handle one packet; return False if none can be handled now.

        Raises:
            RemoteProtocolError: a violation of usbredir, or too many requests.
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
        """Answer open requests, oldest first; return how much of `data` was used."""
        given = 0
        while self._waiting and given < len(data):
            request = self._waiting.popleft()
            piece = data[given : given + _whole_packets(request)]
            self._out += redir.bulk_answer(request, piece)
            given += len(piece)
        return given

    def unplug(self) -> None:
        """Unplug the device without closing the connection."""
        if self._plugged and self._greeted:
            self._out += redir.disconnected()
        self._plugged = False
        self._device.reset()
        self._waiting.clear()
        self.received.clear()

    def plug(self) -> None:
        """Plug the device in again."""
        if not self._plugged and self._greeted:
            self._out += redir.connected(self._device.identity)
        self._plugged = True

    def _bulk(self, request: redir.BulkRequest) -> None:
        if not self._plugged:
            return  # sent before the peer learned of the unplugging
        if request.endpoint == usb.BULK_OUT:
            self.received += request.data
            self._out += redir.bulk_answer(request)
        elif request.endpoint != usb.BULK_IN or not _whole_packets(request):
            self._out += redir.bulk_answer(request, status=redir.RedirStatus.INVALID)
        else:
            self._waiting.append(request)
            if len(self._waiting) > MAX_WAITING:
                raise RemoteProtocolError(f"the usbredir peer has more than {MAX_WAITING} open requests")

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
        """Cancel all requests if the device no longer has a configuration."""
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
    """Return a request's size, in whole packets and at most 4,096 bytes."""
    return min(request.length, 4096) // usb.PACKET_BYTES * usb.PACKET_BYTES
