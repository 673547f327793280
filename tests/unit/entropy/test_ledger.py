"""The ledger by single steps; its state machine is in tests/property."""

import pytest

from drawwell.entropy.ledger import Ledger
from drawwell.units import Bits


def booked(*, assessed: int = 576, conditioned: int = 512) -> Ledger:
    ledger = Ledger()
    ledger.assess(Bits(assessed))
    ledger.condition(Bits(conditioned))
    return ledger


def test_account_balances_when_every_bit_is_somewhere() -> None:
    """Delivered, discarded and stored bits add up to the conditioned bits."""
    ledger = booked()
    ledger.deliver(Bits(128))
    ledger.discard(Bits(64))
    ledger.drbg_bytes += 1000

    report = ledger.report(in_reservoir_bytes=40)
    assert (report.delivered_bits, report.discarded_bits, report.in_reservoir_bits) == (128, 64, 320)
    assert (report.drbg_bytes, report.balanced) == (1000, True)


@pytest.mark.parametrize("in_reservoir_bytes", [63, 65])
def test_account_does_not_balance_when_the_reservoir_disagrees(in_reservoir_bytes: int) -> None:
    """A missing or extra byte in the reservoir is detected."""
    assert not booked().report(in_reservoir_bytes).balanced


def test_conditioning_more_than_was_assessed_is_our_bug() -> None:
    """The excess bit is refused and not recorded."""
    ledger = booked(assessed=576, conditioned=576)

    with pytest.raises(AssertionError, match="more bits conditioned than assessed"):
        ledger.condition(Bits(1))
    assert ledger.report(72).balanced


@pytest.mark.parametrize("way_out", ["deliver", "discard"])
def test_letting_out_more_than_was_conditioned_is_our_bug(way_out: str) -> None:
    """Delivered plus discarded bits never exceed the conditioned bits."""
    ledger = booked()
    ledger.deliver(Bits(500))

    with pytest.raises(AssertionError, match="more bits removed than conditioned"):
        getattr(ledger, way_out)(Bits(13))


@pytest.mark.parametrize("verb", ["assess", "condition", "deliver", "discard"])
def test_negative_amounts_are_our_bug(verb: str) -> None:
    """A negative amount is refused."""
    with pytest.raises(AssertionError, match="negative"):
        getattr(booked(), verb)(-1)
