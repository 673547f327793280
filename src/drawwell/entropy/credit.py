"""Credit: how many bits of entropy a kernel counts for each byte (law 5).

It depends on the evidence for the bytes alone. By default only a known noise device earns
credit; bytes that are known to be no noise never do.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from drawwell.entropy.blocks import NoiseOrigin
from drawwell.reports import CONDITIONED, RAW_NOISE, Evidence, Firmware, SourceIdentity

_CHECKED: Final = frozenset({Firmware.VERIFIED, Firmware.NOT_APPLICABLE})


@dataclass(frozen=True, slots=True)
class _Credit:
    """Bits per byte: by default, and at most."""

    default: float
    most: float


_CREDIT: Final[Mapping[Evidence, _Credit]] = {
    Evidence.DEVICE: _Credit(default=8.0, most=8.0),
    Evidence.UNVOUCHED: _Credit(default=0.0, most=8.0),
    Evidence.NO_NOISE: _Credit(default=0.0, most=0.0),
}


def credit(evidence: Evidence, written: float | None = None) -> float:
    """Return the credit in bits per byte; `written` is the operator's setting."""
    row = _CREDIT[evidence]
    return row.default if written is None else min(written, row.most)


def evidence_of(identity: SourceIdentity) -> Evidence:
    """Classify a source by its identity; an unknown kind is unvouched."""
    if identity.simulated or identity.noise.endswith("not a noise source"):
        return Evidence.NO_NOISE
    known = identity.noise in {RAW_NOISE, CONDITIONED} and identity.firmware in _CHECKED
    return Evidence.DEVICE if known else Evidence.UNVOUCHED


def weakest(evidence: Iterable[Evidence]) -> Evidence:
    """Return the evidence for a mixture; the strongest if it is empty."""
    return max(evidence, key=list(Evidence).index, default=Evidence.DEVICE)


def by_source(origins: Iterable[NoiseOrigin]) -> dict[str, NoiseOrigin]:
    """Return each source's origin with the weakest evidence, by name.

    Among equals it is the origin of the last life.
    """
    order = list(Evidence)
    lives = sorted(origins, key=lambda each: (order.index(evidence_of(each.identity)), each.health_epoch))
    return {each.identity.name: each for each in lives}
