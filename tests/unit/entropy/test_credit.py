"""The credit table: what each kind of evidence earns."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from drawwell.entropy.credit import credit, evidence_of, weakest
from drawwell.reports import CONDITIONED, Evidence, Firmware, SourceIdentity

SOURCE = Path(__file__).parents[3] / "src" / "drawwell"
STICK = SourceIdentity("stick", "onerng", "/dev/ttyACM0", firmware=Firmware.VERIFIED)


@pytest.mark.parametrize(
    ("evidence", "by_default", "with_eight"),
    [(Evidence.DEVICE, 8.0, 8.0), (Evidence.UNVOUCHED, 0.0, 8.0), (Evidence.NO_NOISE, 0.0, 0.0)],
)
def test_unvouched_bytes_earn_only_what_is_configured(
    evidence: Evidence, by_default: float, with_eight: float
) -> None:
    """A device earns 8 bits per byte by default; other bytes earn none."""
    assert (credit(evidence), credit(evidence, 8.0), credit(evidence, 0.0)) == (by_default, with_eight, 0.0)


@pytest.mark.parametrize(
    ("changes", "evidence"),
    [
        ({}, Evidence.DEVICE),
        ({"noise": CONDITIONED, "firmware": Firmware.NOT_APPLICABLE}, Evidence.DEVICE),
        ({"firmware": Firmware.NOT_VERIFIED}, Evidence.UNVOUCHED),
        ({"firmware": Firmware.COULD_NOT_CHECK}, Evidence.UNVOUCHED),
        ({"noise": "text of a driver that is not written yet"}, Evidence.UNVOUCHED),
        ({"simulated": True}, Evidence.NO_NOISE),
        ({"simulated": True, "firmware": Firmware.NOT_VERIFIED}, Evidence.NO_NOISE),
        ({"noise": "bytes from a broker, not a noise source"}, Evidence.NO_NOISE),
    ],
)
def test_only_known_noise_is_evidence_of_a_device(changes: dict, evidence: Evidence) -> None:
    """If a device has firmware, it must also be verified."""
    assert evidence_of(replace(STICK, **changes)) is evidence


def test_a_mixture_has_the_evidence_of_its_weakest_part() -> None:
    """One replayed file makes the whole reservoir count as no noise."""
    assert weakest([Evidence.DEVICE, Evidence.NO_NOISE, Evidence.UNVOUCHED]) is Evidence.NO_NOISE
    assert weakest([Evidence.UNVOUCHED, Evidence.DEVICE]) is Evidence.UNVOUCHED
    assert weakest([]) is Evidence.DEVICE


def test_only_two_modules_credit_a_kernel() -> None:
    """Only the kernel sink and guest reseeding use the result of `credit`."""
    calls = re.compile(r"RNDADDENTROPY\b.*=|0x40085203")
    found = {str(each.relative_to(SOURCE)) for each in SOURCE.rglob("*.py") if calls.search(each.read_text())}
    assert found == {"sinks/kernel.py", "guests/inside/reseed.py"}
