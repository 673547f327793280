"""The distant repeat test, for loops beyond the repeat test's reach.

A landmark is a place in the stream where four bytes in a row are in a secret class of 16
values. On average there is one per 2**16 bytes. The test stores a keyed digest of the stretch
of 64 bytes (ceil(128 / H) if H is below 2) at each of the last 2**14 landmarks, which cover
about a gibibyte of noise. A repeated digest is an intermittent failure; a second one in a row
is a permanent failure.

A loop without a landmark is not detected. The share of such loops is 2**-23 at 1 MiB, and less
for longer loops. A source with few values might lack landmarks, but the repeat test still
finds its repeats up to 1 MiB back. The digest has 128 bits, and two stretches of a source that
meets its claim are equal with probability 2**-128 at most. The false alarm rate is 2**14 *
2**-127 per landmark.
"""

import hashlib
import math
from typing import Final

from drawwell.entropy.continuous import Alarm, Cutoffs, HealthTest
from drawwell.entropy.cutoffs import exact

LANDMARKS: Final = 1 << 14
STRETCH_BYTES: Final = 64
_MARK: Final = b"\1" * 4
_CLASS: Final = 16  # of 256 values: (1/16)**4 = 2**-16


class DistantRepeatTest(HealthTest):
    """A test that fires when *cutoff* landmarks in a row are repeats.

    Args:
        min_entropy: Claimed bits of min-entropy per byte.
        hash_key: 16 to 64 secret bytes for the class of values and the digests.
    """

    name: Final = "distant repeat"

    def __init__(self, min_entropy: float, *, hash_key: bytes) -> None:
        super().__init__(min_entropy, "landmark", LANDMARKS, Cutoffs(1, 2))
        self._stretch = max(STRETCH_BYTES, math.ceil(128 / exact(min_entropy)))
        self._hash = hashlib.blake2b(key=hash_key, digest_size=16, person=b"landmarks")
        ranked = sorted(range(256), key=lambda value: self._digest(bytes([value])))
        self._classes = bytes(int(ranked[value] < _CLASS) for value in range(256))
        self._known: dict[bytes, None] = {}
        self._tail = b""
        self._run = 0

    def _examine(self, samples: bytes) -> Alarm | None:
        stream, alarm = self._tail + samples, None
        marked = stream.translate(self._classes)
        at = marked.find(_MARK)
        while 0 <= at <= len(stream) - self._stretch:
            if cutoff := self._look(self._digest(stream[at : at + self._stretch])):
                found = self._alarm(cutoff, max(0, at + self._stretch - 1 - len(self._tail)))
                alarm = alarm.or_worse(found) if alarm else found
            at = marked.find(_MARK, at + 1)
        self._tail = stream[max(0, len(stream) - self._stretch + 1) :]
        return alarm

    def forget(self) -> None:
        self._run = 0

    def describe(self, count: int) -> str:
        return f"{count} repeats of a stretch of {self._stretch} bytes, up to a gibibyte back"

    def _look(self, digest: bytes) -> int:
        """Test and store a landmark; return the cutoff that was reached, or 0."""
        before = self._run
        self._run = before + 1 if digest in self._known else 0
        self.worst = max(self.worst, min(self._run, self.cutoffs.permanent))
        self._known[digest] = None
        if len(self._known) > LANDMARKS:
            del self._known[next(iter(self._known))]
        return self.cutoffs.crossed(before, self._run)

    def _digest(self, data: bytes) -> bytes:
        keyed = self._hash.copy()
        keyed.update(data)
        return keyed.digest()
