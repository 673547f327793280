"""Conditioning: SHA-512 over tested samples, a vetted component of SP 800-90B 3.1.5.1.1.

An output of n_out = 512 bits has full entropy when the samples that went in are assessed at n_out + 64 bits at
least (SP 800-90C), so no more than 512/576 of what was assessed ever comes out. Each output takes as few samples
as make 576 bits, ceil(576 / H), and the next one goes on with the sample after.
"""

import hashlib
from fractions import Fraction
from typing import Final

from drawwell.entropy.blocks import FullEntropy, TestedBlock
from drawwell.units import Bits

OUTPUT_BITS: Final = 512  # n_out and the narrowest width of SHA-512
INPUT_BITS: Final = OUTPUT_BITS + 64  # SP 800-90C: n_out + 64


class Conditioner:
    """Gathers one source's tested samples until they are worth an output.

    A block's bits are spread evenly over its samples and kept as a fraction: none is lost between outputs and
    none is counted twice. Samples that wait for the rest exist inside the hash only.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha512()
        self._gathered = Fraction(0)

    @property
    def pending(self) -> Bits:
        """Assessed bits that wait for the rest of an output, rounded down."""
        return Bits(int(self._gathered))

    def feed(self, block: TestedBlock) -> list[FullEntropy]:
        """Take a block in; return the outputs of 64 bytes that it completes."""
        outputs: list[FullEntropy] = []
        samples, bits = len(block), int(block.assessed)
        at, needed = 0, _samples_for(INPUT_BITS - self._gathered, bits, samples)
        whole = -(-INPUT_BITS * samples // bits) if bits else None
        while needed is not None and at + needed <= samples:
            self._hash.update(block.data[at : at + needed])
            outputs.append(FullEntropy(bytearray(self._hash.digest())))
            self._start_over()
            at, needed = at + needed, whole
        if at < samples:
            self._hash.update(block.data[at:])
            self._gathered += Fraction(bits * (samples - at), samples)
        return outputs

    def discard(self) -> Bits:
        """Drop what waits, as after a health failure; return the assessed bits that are lost, rounded down."""
        lost = self.pending
        self._start_over()
        return lost

    def _start_over(self) -> None:
        self._hash = hashlib.sha512()
        self._gathered = Fraction(0)


def _samples_for(wanted: Fraction, bits: int, samples: int) -> int | None:
    """Return how many samples hold `wanted` bits where `samples` hold `bits`; None when none ever do."""
    return -(-wanted * samples // bits) if bits else None
