"""Credit: how many bits of entropy a kernel counts for each byte (law 5).

The credit depends only on the evidence for the bytes. By default only a known noise device
earns credit. Bytes that are known not to be noise never earn any.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from drawwell.entropy.blocks import NoiseOrigin
from drawwell.reports import CONDITIONED, NOT_NOISE, RAW_NOISE, Evidence, Firmware, SourceIdentity

_CHECKED: Final = frozenset({Firmware.VERIFIED, Firmware.NOT_APPLICABLE})


@dataclass(frozen=True, slots=True)
class _Credit:
    """The default and the maximum credit, in bits per byte."""

    default: float
    most: float


_CREDIT: Final[Mapping[Evidence, _Credit]] = {
    Evidence.DEVICE: _Credit(default=8.0, most=8.0),
    Evidence.UNVOUCHED: _Credit(default=0.0, most=8.0),
    Evidence.NO_NOISE: _Credit(default=0.0, most=0.0),
}


def credit(evidence: Evidence | None, written: float | None = None) -> float:
    """Return the credit in bits per byte.

    Args:
        evidence: The broker's; None for bytes from another machine, which are unvouched.
        written: The operator's setting.
    """
    row = _CREDIT[evidence or Evidence.UNVOUCHED]
    return row.default if written is None else min(written, row.most)


def evidence_of(identity: SourceIdentity) -> Evidence:
    """Classify a source by its identity; an unknown kind is unvouched."""
    if identity.simulated or identity.noise.endswith(NOT_NOISE):
        return Evidence.NO_NOISE
    known = identity.noise in {RAW_NOISE, CONDITIONED} and identity.firmware in _CHECKED
    return Evidence.DEVICE if known else Evidence.UNVOUCHED


def weakest(evidence: Iterable[Evidence]) -> Evidence:
    """Return the weakest evidence, or the strongest kind if none is given."""
    return max(evidence, key=list(Evidence).index, default=Evidence.DEVICE)


def by_source(origins: Iterable[NoiseOrigin]) -> dict[str, NoiseOrigin]:
    """Return each source's origin with the weakest evidence, by name.

    If several are equally weak, the one with the highest health epoch is returned.
    """
    order = list(Evidence)
    lives = sorted(origins, key=lambda each: (order.index(evidence_of(each.identity)), each.health_epoch))
    return {each.identity.name: each for each in lives}
