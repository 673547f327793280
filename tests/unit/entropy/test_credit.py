"""The one table of credit: what each origin of bytes earns, and that nothing else decides."""

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
def test_what_nobody_vouches_for_earns_only_what_is_written(
    evidence: Evidence, by_default: float, with_eight: float
) -> None:
    """A device earns 8 bits a byte, an unknown origin the operator's word, and no noise nothing at all."""
    assert (credit(evidence), credit(evidence, 8.0), credit(evidence, 0.0)) == (by_default, with_eight, 0.0)


@pytest.mark.parametrize(
    ("changes", "evidence"),
    [
        ({}, Evidence.DEVICE),
        ({"noise": CONDITIONED, "firmware": Firmware.NOT_APPLICABLE}, Evidence.DEVICE),
        ({"firmware": Firmware.NOT_VERIFIED}, Evidence.UNVOUCHED),
        ({"firmware": Firmware.COULD_NOT_CHECK}, Evidence.UNVOUCHED),
        ({"noise": "words of a driver that is not written yet"}, Evidence.UNVOUCHED),
        ({"simulated": True}, Evidence.NO_NOISE),
        ({"simulated": True, "firmware": Firmware.NOT_VERIFIED}, Evidence.NO_NOISE),
        ({"noise": "bytes of a broker, not a noise source"}, Evidence.NO_NOISE),
    ],
)
def test_a_source_is_vouched_for_by_name_or_not_at_all(changes: dict, evidence: Evidence) -> None:
    """Only noise that is named as a device's, with firmware that was checked where there is any, is a device's."""
    assert evidence_of(replace(STICK, **changes)) is evidence


def test_a_mixture_is_as_good_as_its_worst_part() -> None:
    """One replayed file among three sticks makes the reservoir no noise."""
    assert weakest([Evidence.DEVICE, Evidence.NO_NOISE, Evidence.UNVOUCHED]) is Evidence.NO_NOISE
    assert weakest([Evidence.UNVOUCHED, Evidence.DEVICE]) is Evidence.UNVOUCHED
    assert weakest([]) is Evidence.DEVICE


def test_whoever_credits_a_kernel_is_known() -> None:
    """Where a credit reaches a kernel: the sink, and a guest's reseeding; both are handed what `credit` returned."""
    calls = re.compile(r"RNDADDENTROPY\b.*=|0x40085203")
    found = {str(each.relative_to(SOURCE)) for each in SOURCE.rglob("*.py") if calls.search(each.read_text())}
    assert found == {"sinks/kernel.py", "guests/inside/reseed.py"}
