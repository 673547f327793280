"""Combining: each output that leaves is the XOR of one conditioned output of each of k different sources.

It has full entropy if one of the k sources has. Every source fills a lane of its own; taking from the k fullest
lanes lets sources of any speeds give as much as they can (`combined_rate`).
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from heapq import nlargest
from typing import Final

from drawwell.entropy.blocks import FullEntropy, Origins
from drawwell.entropy.conditioning import OUTPUT_BITS
from drawwell.entropy.reservoir import Reservoir

OUTPUT_BYTES: Final = OUTPUT_BITS // 8
LANE_BYTES: Final = 512 * OUTPUT_BYTES
REMEMBERED_OUTPUTS: Final = 1024
"""How far back the outputs of two sources are compared."""


def new_lane() -> Reservoir:
    """Make an empty lane: the outputs of one source that wait to be combined."""
    return Reservoir(LANE_BYTES, low_mark=LANE_BYTES // 4, high_mark=LANE_BYTES * 3 // 4)


def combine(lanes: Iterable[Reservoir], n_sources: int) -> FullEntropy | None:
    """Take an output from each of the `n_sources` fullest lanes and return their XOR; None if too few have one."""
    fullest = nlargest(n_sources, lanes, key=len)
    if len(fullest) < n_sources or len(fullest[-1]) < OUTPUT_BYTES:
        return None
    mixed = 0
    origins: Origins = frozenset()
    for lane in fullest:
        output = lane.take(OUTPUT_BYTES)
        mixed ^= int.from_bytes(output.data, "little")
        origins |= output.origins
        output.data[:] = bytes(OUTPUT_BYTES)
    return FullEntropy(bytearray(mixed.to_bytes(OUTPUT_BYTES, "little")), origins)


def combined_rate(rates: Iterable[float], n_sources: int) -> float:
    """Return how much sources of these rates give together, `n_sources` to each output.

    A source goes into an output once: however fast the fastest are, the others must fill the remaining places.
    """
    ordered = sorted(rates, reverse=True)
    if len(ordered) < n_sources:
        return 0.0
    return min(sum(ordered[fastest:]) / (n_sources - fastest) for fastest in range(n_sources))


class RecentOutputs:
    """The last outputs of one source, as digests: the outputs themselves are gone."""

    def __init__(self) -> None:
        self._digests: OrderedDict[bytes, None] = OrderedDict()

    def add(self, digest: bytes) -> None:
        """Remember one more, and forget the oldest."""
        self._digests[digest] = None
        if len(self._digests) > REMEMBERED_OUTPUTS:
            self._digests.popitem(last=False)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._digests


def digest_of(output: FullEntropy) -> bytes:
    """Return what `RecentOutputs` keeps of an output."""
    return hashlib.sha256(output.data).digest()
