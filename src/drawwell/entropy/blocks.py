"""The four types that say how far a byte may be trusted (law 1).

``RawBlock -> TestedBlock -> FullEntropy -> Grant``. Nothing here compares, prints or hashes its bytes.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, TypedDict

from drawwell.units import Bits

if TYPE_CHECKING:  # start-up time: whoever draws needs no reports
    from drawwell.reports import SourceIdentity


class DrawClass(StrEnum):
    """What a consumer asks for; never substituted for one another."""

    FULL = "full"
    """Full-entropy bytes, each once, XORed with the consumer's DRBG (RBG3(XOR), SP 800-90C 6.4)."""
    DRBG = "drbg"
    """The consumer's own Hash_DRBG, seeded from the reservoir (SP 800-90A; RBG2(P))."""

    __hash__ = str.__hash__  # that of Enum is written in Python, and every draw looks things up by class


class DrawOptions(TypedDict, total=False):
    """What may be asked besides size and class; see `DrawRequest`."""

    prediction_resistance: bool
    receipt: bool
    patience_s: float


@dataclass(frozen=True, slots=True)
class DrawRequest:
    """What a consumer asks for: `n_bytes` of one class.

    `prediction_resistance` has its DRBG seeded afresh first (SP 800-90A, 9.3.3), `receipt` has the grant signed. While
    the reservoir is short the draw waits in the queue, for `patience_s` at most. `request_id` tells the open requests
    of one session apart. `retried` means that its door asks again after a refusal that waiting ends.
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
    """Samples as they came from a noise source, one byte each; worth nothing yet."""

    data: bytes = field(repr=False)

    def __len__(self) -> int:
        return len(self.data)


@dataclass(frozen=True, slots=True, eq=False)
class TestedBlock:
    """Samples that passed the continuous health tests, and the min-entropy that they are assessed at."""

    __test__ = False  # pytest: not a test class

    data: bytes = field(repr=False)
    assessed: Bits

    def __len__(self) -> int:
        return len(self.data)


@dataclass(frozen=True, slots=True)
class NoiseOrigin:
    """A source as it was when it gave bytes; `health_epoch` counts the start-up tests that it had passed."""

    identity: "SourceIdentity"
    health_epoch: int


Origins = frozenset[NoiseOrigin]


@dataclass(frozen=True, slots=True, eq=False)
class FullEntropy:
    """Conditioned bytes, eight bits of min-entropy each. The holder overwrites `data` after use.

    `origins` are the sources that went into these bytes, and no others.
    """

    data: bytearray = field(repr=False)
    origins: Origins = frozenset()

    def __len__(self) -> int:
        return len(self.data)


@dataclass(frozen=True, slots=True, eq=False)
class Grant:
    """Bytes given to exactly one consumer, and only once.

    `serial` is unique in a broker's life. `receipt` is the signed receipt as it goes over the wire, with the
    key of its HMAC in `receipt_key`; both are empty when no receipt was asked for. Until it is
    signed, its body is in `unsigned`, and `receipt` is empty.
    """

    data: bytes = field(repr=False)
    serial: int
    draw_class: DrawClass
    receipt: bytes = field(default=b"", repr=False)
    receipt_key: bytes = field(default=b"", repr=False)
    unsigned: bytes = field(default=b"", repr=False)

    def __len__(self) -> int:
        return len(self.data)
