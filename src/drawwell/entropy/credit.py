"""What a kernel is told to believe of bytes: the one decision, by what vouches for them (law 5).

Only bytes of a known noise device earn anything by default; what is known to be no noise never does.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from drawwell.reports import CONDITIONED, RAW_NOISE, Evidence, Firmware, SourceIdentity

_CHECKED: Final = frozenset({Firmware.VERIFIED, Firmware.NOT_APPLICABLE})


@dataclass(frozen=True, slots=True)
class _Credit:
    """Bits per byte: unless one is written down, and at most."""

    default: float
    most: float


_CREDIT: Final[Mapping[Evidence, _Credit]] = {
    Evidence.DEVICE: _Credit(default=8.0, most=8.0),
    Evidence.UNVOUCHED: _Credit(default=0.0, most=8.0),
    Evidence.NO_NOISE: _Credit(default=0.0, most=0.0),
}


def credit(evidence: Evidence, written: float | None = None) -> float:
    """Return the bits per byte that bytes with this evidence are credited; `written` is the operator's word."""
    row = _CREDIT[evidence]
    return row.default if written is None else min(written, row.most)


def evidence_of(identity: SourceIdentity) -> Evidence:
    """Judge a source by what its driver found out; anything that is not named here is unvouched."""
    if identity.simulated or identity.noise.endswith("not a noise source"):
        return Evidence.NO_NOISE
    known = identity.noise in {RAW_NOISE, CONDITIONED} and identity.firmware in _CHECKED
    return Evidence.DEVICE if known else Evidence.UNVOUCHED


def weakest(evidence: Iterable[Evidence]) -> Evidence:
    """Return what can be said of bytes of several origins mixed; of none at all the best."""
    return max(evidence, key=list(Evidence).index, default=Evidence.DEVICE)
