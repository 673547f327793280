"""The ledger: the account of law 4, ``delivered <= conditioned <= assessed``, in bits, at every moment.

It holds for class ``full`` and for everything that seeds a DRBG. DRBG output is counted apart, in bytes, and
is never called entropy. A violation is a bug of ours: it raises AssertionError, and nothing is booked.
"""

from drawwell.reports import LedgerReport
from drawwell.units import Bits


class Ledger:
    """The account of one reservoir."""

    def __init__(self) -> None:
        self._assessed = 0
        self._conditioned = 0
        self._delivered = 0
        self._discarded = 0
        self._combined = 0
        self._drbg_bytes = 0

    def assess(self, bits: Bits) -> None:
        """Book min-entropy that tested samples were assessed at, before it is conditioned."""
        self._assessed += _amount(bits)

    def condition(self, bits: Bits) -> None:
        """Book full-entropy bits that came out of conditioning.

        Raises:
            AssertionError: more came out than was assessed going in.
        """
        if self._conditioned + _amount(bits) > self._assessed:
            raise AssertionError("ledger: more bits conditioned than assessed")
        self._conditioned += bits

    def deliver(self, bits: Bits) -> None:
        """Book full-entropy bits taken from the reservoir: for a grant of class full or for a DRBG's seed.

        Raises:
            AssertionError: more left than was ever conditioned.
        """
        self._leave(bits)
        self._delivered += bits

    def discard(self, bits: Bits) -> None:
        """Book conditioned bits that nobody got: overflow of the reservoir, or its wiping.

        Raises:
            AssertionError: more left than was ever conditioned.
        """
        self._leave(bits)
        self._discarded += bits

    def combine(self, bits: Bits) -> None:
        """Book conditioned bits that were used up by combining: all that went in but what came out.

        Raises:
            AssertionError: more left than was ever conditioned.
        """
        self._leave(bits)
        self._combined += bits

    def drbg(self, n_bytes: int) -> None:
        """Count bytes of DRBG output."""
        if n_bytes < 0:  # as `_amount`, for every draw
            raise AssertionError("ledger: a negative amount")
        self._drbg_bytes += n_bytes

    def report(self, in_reservoir_bytes: int, in_lanes_bytes: int = 0) -> LedgerReport:
        """Compare the account with what the reservoir and the lanes before it hold."""
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
            drbg_bytes=self._drbg_bytes,
            balanced=nothing_lost and self._delivered <= self._conditioned <= self._assessed,
        )

    def _leave(self, bits: Bits) -> None:
        gone = self._delivered + self._discarded + self._combined
        if bits < 0 or gone + bits > self._conditioned:
            raise AssertionError("ledger: a negative amount, or more bits left than were conditioned")


def _amount(value: int) -> int:
    if value < 0:
        raise AssertionError("ledger: a negative amount")
    return value
