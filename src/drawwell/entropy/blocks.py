"""The four types that show how far a byte can be trusted (law 1).

``RawBlock -> TestedBlock -> FullEntropy -> Grant``. These types never compare, print or hash
their bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, TypedDict

from drawwell.units import Bits

if TYPE_CHECKING:  # start-up time: a draw needs no reports
    from drawwell.reports import SourceIdentity


class DrawClass(StrEnum):
    """The class of a draw. One class never replaces the other."""

    FULL = "full"
    """Full-entropy bytes, each served once, XORed with output of the consumer's DRBG
    (RBG3(XOR), SP 800-90C 6.4).
    """
    DRBG = "drbg"
    """Output of the consumer's Hash_DRBG, seeded from the reservoir (SP 800-90A; RBG2(P))."""

    __hash__ = str.__hash__  # Enum.__hash__ is slow Python code, and every draw looks up its class


class DrawOptions(TypedDict, total=False):
    """Options of a draw besides size and class; see `DrawRequest`."""

    prediction_resistance: bool
    receipt: bool
    patience_s: float


@dataclass(slots=True)
class DrawRequest:
    """A request for `n_bytes` of one class.

    `prediction_resistance` reseeds the DRBG first (SP 800-90A, 9.3.3). `receipt` requests a
    signed receipt. If the reservoir is low, the draw waits in the queue for up to
    `patience_s`. `request_id` identifies the request within its session. `retried` means that
    the door retries the draw after a temporary refusal. This class and `Grant` are not frozen,
    because that would take 1 µs per draw.
    """

    n_bytes: int
    draw_class: DrawClass
    prediction_resistance: bool = False
    receipt: bool = False
    patience_s: float = 0.0
    request_id: int = 0
    retried: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class RawBlock:
    """Untested samples from a noise source, one per byte."""

    data: bytes = field(repr=False)

    def __len__(self) -> int:
        return len(self.data)


@dataclass(frozen=True, slots=True, eq=False)
class TestedBlock:
    """Samples that passed the continuous tests, with their min-entropy."""

    __test__ = False  # pytest: not a test class

    data: bytes = field(repr=False)
    assessed: Bits

    def __len__(self) -> int:
        return len(self.data)


def joined(blocks: Sequence[TestedBlock]) -> TestedBlock:
    """Join several blocks into one."""
    return TestedBlock(
        b"".join(block.data for block in blocks), Bits(sum(block.assessed for block in blocks))
    )


@dataclass(frozen=True, slots=True)
class NoiseOrigin:
    """A source's identity and health epoch when the source delivered bytes."""

    identity: "SourceIdentity"
    health_epoch: int


Origins = frozenset[NoiseOrigin]


@dataclass(frozen=True, slots=True, eq=False)
class FullEntropy:
    """Conditioned bytes with eight bits of min-entropy each, wiped after use.

    `origins` are exactly the origins of these bytes.
    """

    data: bytearray = field(repr=False)
    origins: Origins = frozenset()

    def __len__(self) -> int:
        return len(self.data)


@dataclass(slots=True, eq=False)
class Grant:
    """Bytes granted to one consumer, once.

    `serial` is unique within a broker. `receipt` is the signed receipt as sent, and
    `receipt_key` is the key of the receipt's HMAC; both are empty unless requested. Until the
    receipt is signed, its body is in `unsigned`.
    """

    data: bytes = field(repr=False)
    serial: int
    draw_class: DrawClass
    receipt: bytes = field(default=b"", repr=False)
    receipt_key: bytes = field(default=b"", repr=False)
    unsigned: bytes = field(default=b"", repr=False)

    def __len__(self) -> int:
        return len(self.data)
