"""The ledger of law 4, ``delivered <= conditioned <= assessed``, in bits.

The law covers class ``full`` and DRBG seeds. DRBG output is counted separately, in bytes,
and never as entropy. A violation is a bug: it raises AssertionError and changes nothing.
"""

from drawwell.reports import LedgerReport
from drawwell.units import Bits


class Ledger:
    """The ledger of one reservoir."""

    def __init__(self) -> None:
        self._assessed = 0
        self._conditioned = 0
        self._delivered = 0
        self._discarded = 0
        self._combined = 0
        self.drbg_bytes = 0
        """Bytes of DRBG output."""

    def assess(self, bits: Bits) -> None:
        """Record the min-entropy of tested samples before conditioning."""
        self._assessed += _amount(bits)

    def condition(self, bits: Bits) -> None:
        """Record full-entropy bits from conditioning.

        Raises:
            AssertionError: the sum exceeds the assessed bits.
        """
        if self._conditioned + _amount(bits) > self._assessed:
            raise AssertionError("ledger: more bits conditioned than assessed")
        self._conditioned += bits

    def deliver(self, bits: Bits) -> None:
        """Record bits taken from the reservoir, for class full or a DRBG's seed.

        Raises:
            AssertionError: the sum exceeds the conditioned bits.
        """
        self._leave(bits)
        self._delivered += bits

    def discard(self, bits: Bits) -> None:
        """Record conditioned bits that were dropped by overflow or wiping.

        Raises:
            AssertionError: the sum exceeds the conditioned bits.
        """
        self._leave(bits)
        self._discarded += bits

    def combine(self, bits: Bits) -> None:
        """Record bits used up by combining: the inputs minus the output.

        Raises:
            AssertionError: the sum exceeds the conditioned bits.
        """
        self._leave(bits)
        self._combined += bits

    def report(self, in_reservoir_bytes: int, in_lanes_bytes: int = 0) -> LedgerReport:
        """Return the ledger, compared with the contents of reservoir and lanes."""
        in_reservoir, in_lanes = 8 * in_reservoir_bytes, 8 * in_lanes_bytes
        gone = self._delivered + self._discarded + self._combined
        nothing_lost = self._conditioned == gone + in_reservoir + in_lanes
        return LedgerReport(
            assessed_bits=self._assessed,
            conditioned_bits=self._conditioned,
            delivered_bits=self._delivered,
            discarded_bits=self._discarded,
            combined_bits=self._combined,
            in_lanes_bits=in_lanes,
            in_reservoir_bits=in_reservoir,
            drbg_bytes=self.drbg_bytes,
            balanced=nothing_lost and self._delivered <= self._conditioned <= self._assessed,
        )

    def _leave(self, bits: Bits) -> None:
        gone = self._delivered + self._discarded + self._combined
        if bits < 0 or gone + bits > self._conditioned:
            raise AssertionError("ledger: a negative amount, or more bits removed than conditioned")


def _amount(value: int) -> int:
    if value < 0:
        raise AssertionError("ledger: a negative amount")
    return value
