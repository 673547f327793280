"""Garbage, stalls and floods at the enrolment door."""

import socket
import ssl

import pytest

from drawwell.doors import enrol
from drawwell.doors.enrol_places import JoiningPeer, network_of, one_too_many
from drawwell.links.enrol import join
from drawwell.testing.waiting import DEADLINE_S
from support.enrolling import Broker, received


@pytest.fixture
def broker(tmp_path):
    with Broker(str(tmp_path / "broker")).running() as broker:
        yield broker


@pytest.fixture
def link(tmp_path):
    return str(tmp_path / "links" / "well")


def raw_exchange(broker: Broker, sent: bytes) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", broker.port), DEADLINE_S) as plain,
        context.wrap_socket(plain) as peer,
    ):
        peer.sendall(sent)
        received = b""
        try:
            while piece := peer.recv(65536):
                received += piece
        except (ssl.SSLError, ConnectionError):
            pass
        return received


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff\xff\xff" + b"x" * 100,
        b"\x00\x40\x01" + b"x" * 16385,
        b"\x00\x00\x02{}",
        b"\x00\x00\x04null",
        b"\x00\x00\x03\xff\xfe\xfd",
        b"\x00\x40\x00" + b"[" * 16384,
        b'\x00\x00\x21{"v":1,"invitation":"","csr":[]}  ',
    ],
)
def test_garbage_gets_no_answer_and_the_door_lives(broker, link, sent) -> None:
    """Malformed requests get no answer, and the next joiner succeeds."""
    token = broker.invite()

    assert raw_exchange(broker, sent) == b""
    assert join(token, link).consumer == "web01"


def test_stalled_peers_are_dropped_and_bounded(broker, link, monkeypatch) -> None:
    """Peers that connect and stall are disconnected at the deadline."""
    token = broker.invite()
    with monkeypatch.context() as quick:
        quick.setattr(enrol, "DEADLINE_S", 0.3)
        stalled = [socket.create_connection(("127.0.0.1", broker.port), DEADLINE_S) for _ in range(5)]
        ends = [received(peer) for peer in stalled]
    for peer in stalled:
        peer.close()

    assert ends == [b""] * 5
    assert join(token, link).consumer == "web01"


def flood(broker: Broker, addresses: int, each: int) -> list[socket.socket]:
    """Open idle connections from several loopback addresses."""
    places = [f"127.0.{n}.1" for n in range(addresses)] * each
    return [socket.create_connection(("127.0.0.1", broker.port), 20, (place, 0)) for place in places]


@pytest.mark.parametrize(("addresses", "each"), [(6, 11), (6, 40), (1, 100)])
def test_idle_connections_keep_no_machine_out(broker, link, addresses, each) -> None:
    """A machine can join while a flood occupies all places."""
    token = broker.invite()
    held = flood(broker, addresses, each)
    try:
        assert join(token, link).consumer == "web01"
    finally:
        for peer in held:
            peer.close()


def test_the_places_are_bounded(broker) -> None:
    """At the limit, a new connection replaces the most silent one."""
    broker.invite()
    held = flood(broker, 2, enrol.MAX_AT_ONCE // 2)
    held += flood(broker, 2, 1)
    held[0].settimeout(DEADLINE_S)
    assert held[0].recv(1) == b""
    assert len(broker.door._inside) <= enrol.MAX_AT_ONCE
    for peer in held:
        peer.close()


def joining(host: str, now: float) -> JoiningPeer:
    """Return a connection as the door sees it; its socket is never read."""
    return JoiningPeer(socket.socket(), host, now)


@pytest.mark.parametrize(
    ("crowd", "single"),
    [
        ([f"192.0.2.{n}" for n in range(8)], "198.51.100.1"),
        ([f"2001:db8:0:{n:x}::1" for n in range(8)], "2001:db8:1::1"),
        (["192.0.2.1"] * 8, "192.0.2.2"),
        (["2001:db8::1:1", "2001:db8::2:2"] * 4, "2001:db8:0:1::1"),
    ],
)
def test_a_crowd_of_one_network_loses_its_own(crowd: list[str], single: str) -> None:
    """The fullest /24 or /48 loses one of its fullest address or /64."""
    first = joining(single, 0.0)
    peers = [first, *(joining(host, 1.0 + n) for n, host in enumerate(crowd))]
    assert one_too_many(peers, 20.0) is peers[1]
    for peer in peers:
        peer.peer.close()


def test_who_waits_for_us_is_not_dropped_for_the_idle() -> None:
    """Among equal addresses the silent connection is dropped, even if newer."""
    peers = [joining(f"10.{n}.0.1", float(n)) for n in range(3)]
    peers[0].waits_for_us = True
    assert one_too_many(peers, 20.0) is peers[1]
    for peer in peers:
        peer.peer.close()


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.1", "192.0.2.0/24"),
        ("::ffff:192.0.2.1", "192.0.2.0/24"),
        ("2001:db8::1:2:3:4", "2001:db8::/48"),
        ("fe80::1%eth0", "fe80::/48"),
    ],
)
def test_a_network_is_an_ipv4_24_or_an_ipv6_48(host, network) -> None:
    """A network counts as one, with any number of addresses."""
    assert network_of(host) == network
