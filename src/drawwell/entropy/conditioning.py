"""Conditioning by SHA-512, a vetted component of SP 800-90B 3.1.5.1.1.

An output of n_out = 512 bits has full entropy if its input samples are assessed at n_out + 64
bits or more (SP 800-90C). So the output is at most 512/576 of the assessed entropy. Each
output uses the smallest number of samples with 576 bits, ceil(576 / H). The next output
starts with the next sample.
"""

import hashlib
from fractions import Fraction
from typing import Final

from drawwell.entropy.blocks import FullEntropy, TestedBlock
from drawwell.units import Bits

OUTPUT_BITS: Final = 512  # n_out and the narrowest width of SHA-512
INPUT_BITS: Final = OUTPUT_BITS + 64  # SP 800-90C: n_out + 64
_NOTHING: Final = Fraction(0)


class Conditioner:
    """Collects one source's tested samples until they suffice for an output.

    The assessed bits of a block are spread evenly over its samples, as an exact fraction, so
    no bit is lost or counted twice. Pending samples exist only inside the hash.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha512()
        self._gathered = _NOTHING

    @property
    def pending(self) -> Bits:
        """Assessed bits of the pending samples, rounded down."""
        return Bits(int(self._gathered))

    def feed(self, block: TestedBlock) -> FullEntropy:
        """Process a block; return the outputs of 64 bytes that it completes."""
        outputs = bytearray()
        samples, bits = len(block), int(block.assessed)
        at, needed = 0, _samples_for(INPUT_BITS - self._gathered, bits, samples)
        whole = -(-INPUT_BITS * samples // bits) if bits else None
        while needed is not None and at + needed <= samples:
            self._hash.update(block.data[at : at + needed])
            outputs += self._hash.digest()
            self._start_over()
            at, needed = at + needed, whole
        if at < samples:
            self._hash.update(block.data[at:])
            self._gathered += Fraction(bits * (samples - at), samples)
        return FullEntropy(outputs)

    def discard(self) -> Bits:
        """Drop the pending samples; return their assessed bits, rounded down."""
        lost = self.pending
        self._start_over()
        return lost

    def _start_over(self) -> None:
        self._hash = hashlib.sha512()
        self._gathered = _NOTHING


def _samples_for(wanted: Fraction, bits: int, samples: int) -> int | None:
    """Return how many samples `wanted` bits need, at `bits` per `samples`."""
    return -(-wanted * samples // bits) if bits else None
