"""The virtual OneRNG's usbredir with any peer: packets and garbage."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.errors import RemoteProtocolError
from drawwell.wire import usbredir as redir
from drawwell.wire.usb_device import BULK_IN, BULK_OUT, UsbIdentity
from drawwell.wire.usb_host import MAX_WAITING, UsbHost
from support.usb_guest import bulk_packet, control_packet, packet

IDENTITY = UsbIdentity(0x1D50, 0x6086, 9, "a", "b", "c")
IDS = st.integers(0, 2**64 - 1)
BYTES = st.integers(0, 255)
PLAIN = st.one_of(
    st.builds(lambda number, kind: packet(kind, number), IDS, st.sampled_from([3, 7, 21, 22, 24])),
    st.builds(
        lambda number, kind, one: packet(kind, number, bytes((one,))),
        IDS,
        st.sampled_from([6, 10, 15, 16]),
        BYTES,
    ),
    st.builds(lambda number, one, two: packet(9, number, bytes((one, two))), IDS, BYTES, BYTES),
)
CONTROLS = st.one_of(
    st.builds(
        lambda number, kind, request, value, length: control_packet(number, kind | 0x80, request, value, length=length),
        IDS, BYTES, BYTES, st.integers(0, 65535), st.integers(0, 65535),
    ),
    st.builds(
        lambda number, kind, request, value, data: control_packet(
            number, kind & 0x7F, request, value, length=len(data), data=data
        ),
        IDS, BYTES, BYTES, st.integers(0, 65535), st.binary(max_size=20),
    ),
)  # fmt: skip
BULKS = st.one_of(
    st.builds(lambda number, size: bulk_packet(number, BULK_IN, size), IDS, st.integers(0, 2**32 - 1)),
    st.builds(
        lambda number, data: bulk_packet(number, BULK_OUT, len(data), data), IDS, st.binary(max_size=100)
    ),
    st.builds(lambda number, end: bulk_packet(number, end | 0x80, 64), IDS, BYTES),
)
PACKETS = st.lists(st.one_of(PLAIN, CONTROLS, BULKS), max_size=12).map(
    lambda each: redir.hello() + b"".join(each)
)


def replies(data: bytes) -> list[tuple[int, int]]:
    """Return types and IDs of a device's output, in whole packets."""
    _, length, _ = struct.unpack_from("<III", data)
    at, found = 12 + length, []
    while at < len(data):
        kind, length, number = struct.unpack_from("<IIQ", data, at)
        at += 16 + length
        found.append((kind, number))
    assert at == len(data)
    return found


def lived(data: bytes, pieces: int = 0) -> tuple[UsbHost, bytes, bool]:
    """Return the device after this input, its output, and if it gave up."""
    host, out = UsbHost(IDENTITY), b""
    size = max(1, len(data) // pieces if pieces else len(data))
    try:
        for at in range(0, len(data), size):
            host.receive_data(data[at : at + size])
            while host.step():
                host.received.clear()
                out += host.data_to_send()
    except RemoteProtocolError:
        return host, out + host.data_to_send(), True
    return host, out + host.data_to_send(), False


@given(PACKETS)
def test_what_a_guest_may_send_is_answered(data: bytes) -> None:
    """Valid packets are accepted, and every answer is a whole packet."""
    _, out, given_up = lived(data)

    assert not given_up
    replies(out)


@given(PACKETS, st.integers(1, 50))
def test_how_packets_are_cut_makes_no_difference(data: bytes, pieces: int) -> None:
    """Any chunks, down to single bytes, give the same answers."""
    assert lived(data)[1:] == lived(data, pieces)[1:] == lived(data, len(data))[1:]


@given(PACKETS, st.integers(0, 10_000), st.binary(min_size=1, max_size=30))
def test_nonsense_is_refused_or_waited_for(data: bytes, at: int, rubbish: bytes) -> None:
    """Changed bytes cause the named error, or a wait for more."""
    at %= len(data)
    host, out, given_up = lived(data[:at] + rubbish + data[at + len(rubbish) :])

    if out:
        replies(out)
    assert given_up or host.unparsed_bytes <= 2 * redir.MAX_DATA_BYTES


@given(st.binary(max_size=300))
def test_any_first_bytes(data: bytes) -> None:
    """A peer that does not start with hello is disconnected at once."""
    _, out, given_up = lived(data)

    assert given_up or len(out) == len(redir.hello())


@given(st.binary(max_size=300))
def test_any_bytes_after_the_hello(data: bytes) -> None:
    """After hello, bytes parse, wait for more, or raise the named error."""
    lived(redir.hello() + data)


@given(st.lists(st.integers(64, 5000), min_size=1, max_size=20), st.binary(max_size=5000))
def test_bytes_go_out_once_and_in_order(asked: list[int], data: bytes) -> None:
    """Bytes answer the open requests in order, up to each one's size."""
    host = UsbHost(IDENTITY)
    host.receive_data(redir.hello() + b"".join(bulk_packet(n, BULK_IN, size) for n, size in enumerate(asked)))
    while host.step():
        pass
    host.data_to_send()
    wanted = host.waiting_bytes
    taken = host.give(data)
    assert taken == min(wanted, len(data))

    out, at, sent = host.data_to_send(), 0, b""
    number = 0
    while at < len(out):
        kind, length, packet_id = struct.unpack_from("<IIQ", out, at)
        body = out[at + 16 : at + 16 + length]
        assert (kind, packet_id, body[1]) == (redir.BULK, number, 0)
        assert len(body) - 10 == int.from_bytes(body[2:4], "little") <= asked[number]
        sent, at, number = sent + body[10:], at + 16 + length, number + 1
    assert sent == data[:taken]


def test_open_requests_are_bounded() -> None:
    """A peer with too many open requests is disconnected."""
    data = redir.hello() + b"".join(bulk_packet(n, BULK_IN, 64) for n in range(MAX_WAITING + 1))

    assert lived(data)[2]


@pytest.mark.parametrize("missing", [1, 4, 5, 6])
def test_a_peer_that_lacks_a_capability_is_given_up(missing: int) -> None:
    """Each of the four required capabilities is necessary."""
    hello = bytearray(redir.hello())
    hello[-4:] = (redir.CAPABILITIES & ~(1 << missing)).to_bytes(4, "little")

    assert lived(bytes(hello))[2]


def test_no_byte_stands_in_a_repr() -> None:
    """No packet's repr contains written bytes."""
    parser = redir.RedirParser()
    parser.feed(redir.hello() + bulk_packet(1, BULK_OUT, 6, b"secret"))

    assert parser.next_packet() == redir.UsbHello()
    assert "secret" not in repr(parser.next_packet())
