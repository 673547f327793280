"""The limits of the FIPS 140-2 block tests, and the verdict on one block."""

from enum import IntFlag
from typing import Final

BLOCK_BYTES: Final = 2500
WORD_BYTES: Final = 4
"""The continuous test compares aligned 32-bit words."""

# FIPS 140-2 change notice 1, table 4.9.1 and text: limits are inclusive.
MONOBIT: Final = range(9726, 10274 + 1)
POKER: Final = range(1_563_176, 1_576_928 + 1)  # sum of squares: 2.16 < X < 46.17 in integers
RUNS: Final = tuple(
    range(low, high + 1)
    for low, high in ((2315, 2685), (1114, 1386), (527, 723), (240, 384), (103, 209), (103, 209))
)


class BlockVerdict(IntFlag):
    """The tests that a block failed, as rngtest's bit masks; 0 if it passed."""

    MONOBIT = 1
    POKER = 2
    RUNS = 4
    LONG_RUN = 8
    CONTINUOUS_RUN = 16

    @property
    def title(self) -> str:
        """The test's name as printed by rngtest, for instance ``Long run``."""
        return str(self.name).replace("_", " ").capitalize()


PASS: Final = BlockVerdict(0)
