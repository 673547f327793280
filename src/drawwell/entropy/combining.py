"""Combining: XOR one conditioned output from each of k different sources.

The result has full entropy if at least one of the k outputs does. Each source fills its own
lane. Taking from the k fullest lanes achieves the highest rate that the sources allow
(`combined_rate`).
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
"""Each new output is compared with this number of past outputs of every other source."""


def new_lane() -> Reservoir:
    """Create an empty lane for one source's outputs that wait to be combined."""
    return Reservoir(LANE_BYTES, low_mark=LANE_BYTES // 4, high_mark=LANE_BYTES * 3 // 4)


def combine(lanes: Iterable[Reservoir], n_sources: int) -> FullEntropy | None:
    """XOR one output from each of the `n_sources` fullest lanes.

    If fewer lanes have an output, returns None and takes nothing.
    """
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
    """Return the highest rate of outputs that combine `n_sources` sources.

    A source contributes at most once to each output. So the fastest sources alone cannot
    raise the rate: the other sources must provide the remaining inputs.
    """
    ordered = sorted(rates, reverse=True)
    if len(ordered) < n_sources:
        return 0.0
    return min(sum(ordered[fastest:]) / (n_sources - fastest) for fastest in range(n_sources))


class RecentOutputs:
    """Digests of one source's last outputs; the outputs are not kept."""

    def __init__(self) -> None:
        self._digests: OrderedDict[bytes, None] = OrderedDict()

    def add(self, digest: bytes) -> None:
        """Add a digest; drop the oldest one beyond the limit."""
        self._digests[digest] = None
        self._digests.move_to_end(digest)
        if len(self._digests) > REMEMBERED_OUTPUTS:
            self._digests.popitem(last=False)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._digests


def digest_of(output: FullEntropy) -> bytes:
    """Return the digest of an output for `RecentOutputs`."""
    return hashlib.sha256(output.data).digest()
