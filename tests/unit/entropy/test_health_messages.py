"""A driver's noise text reaches the broker and decides the credit."""

from dataclasses import replace

import pytest

from drawwell.drivers import chardev, execute
from drawwell.entropy.credit import evidence_of
from drawwell.reports import (
    CONDITIONED,
    NOT_NOISE,
    RAW_NOISE,
    Evidence,
    SourceIdentity,
    SourceReport,
    SourceState,
)
from drawwell.wire.deposit_frames import SourceStatus
from drawwell.wire.limits import HEADER_BYTES

REPORT = SourceReport(
    SourceIdentity("stick", "x", "/dev/x"), SourceState.HEALTHY, False, 1, 0, 0, 0, 0, 0, 0.0, 0, 0, "",
)  # fmt: skip


@pytest.mark.parametrize(
    ("noise", "evidence"),
    [
        (RAW_NOISE, Evidence.DEVICE),
        (CONDITIONED, Evidence.DEVICE),
        (chardev.UNKNOWN, Evidence.UNVOUCHED),
        (chardev.OS_GENERATOR, Evidence.NO_NOISE),
        (execute.NOISE, Evidence.UNVOUCHED),
        (NOT_NOISE, Evidence.NO_NOISE),
        ("bytes from a broker, not a noise source", Evidence.NO_NOISE),
    ],
)
def test_a_drivers_noise_text_reaches_the_broker_untruncated(noise: str, evidence: Evidence) -> None:
    """Truncation would remove the end, "not a noise source"."""
    sent = replace(REPORT, identity=replace(REPORT.identity, noise=noise))
    came = SourceStatus.decode(SourceStatus(sent).encode()[HEADER_BYTES:]).report.identity
    assert (came.noise, evidence_of(came)) == (noise, evidence)
