"""Signs of a cheating or broken broker that a consumer detects."""

import pytest

from drawwell.entropy.blocks import DrawClass, Grant
from drawwell.errors import RemoteProtocolError
from drawwell.links.suspicion import Suspicion


def grant(serial: int, data: bytes) -> Grant:
    return Grant(data, serial, DrawClass.FULL)


def test_ordinary_grants_pass() -> None:
    """Different bytes with different serial numbers are accepted."""
    suspicion = Suspicion()
    for serial in range(1, 10_000):
        suspicion.look(grant(serial, serial.to_bytes(16, "big")))


def test_a_serial_number_that_comes_twice_is_seen() -> None:
    """A repeated serial number is detected."""
    suspicion = Suspicion()
    suspicion.look(grant(7, b"0123456789abcdef"))

    with pytest.raises(RemoteProtocolError, match="grant 7 twice"):
        suspicion.look(grant(7, b"fedcba9876543210"))


def test_bytes_that_come_twice_are_seen() -> None:
    """A replayed grant with a new number is detected by its bytes."""
    suspicion = Suspicion()
    suspicion.look(grant(1, b"0123456789abcdef"))

    with pytest.raises(RemoteProtocolError, match="same bytes twice"):
        suspicion.look(grant(2, b"0123456789abcdef"))


@pytest.mark.parametrize("value", [0x00, 0x41, 0xFF])
def test_one_bytes_repetition_is_seen(value: int) -> None:
    """A grant of 16 equal bytes is refused."""
    with pytest.raises(RemoteProtocolError, match="all bytes are equal"):
        Suspicion().look(grant(1, bytes([value]) * 16))


def test_short_grants_may_be_equal_by_chance() -> None:
    """Grants of up to 15 bytes are not compared."""
    suspicion = Suspicion()
    suspicion.look(grant(1, bytes(15)))
    suspicion.look(grant(2, bytes(15)))


def test_memory_is_bounded() -> None:
    """A grant is forgotten after 4,096 others."""
    suspicion = Suspicion()
    suspicion.look(grant(0, b"0123456789abcdef"))
    for serial in range(1, 4097):
        suspicion.look(grant(serial, serial.to_bytes(16, "big")))

    suspicion.look(grant(0, b"0123456789abcdef"))
