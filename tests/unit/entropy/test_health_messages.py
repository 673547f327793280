"""A driver's description of its noise survives the way to the broker: it decides a kernel's credit."""

from dataclasses import replace

import pytest

from drawwell.drivers import chardev, execute, replay
from drawwell.entropy.credit import evidence_of
from drawwell.reports import CONDITIONED, RAW_NOISE, Evidence, SourceIdentity, SourceReport, SourceState
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
        (replay.NOISE, Evidence.NO_NOISE),
        ("bytes of a broker, not a noise source", Evidence.NO_NOISE),
    ],
)
def test_what_a_driver_says_of_its_noise_reaches_the_broker_whole(noise: str, evidence: Evidence) -> None:
    """A text that were cut would lose its end, which says that it is no noise source."""
    sent = replace(REPORT, identity=replace(REPORT.identity, noise=noise))
    came = SourceStatus.decode(SourceStatus(sent).encode()[HEADER_BYTES:]).report.identity
    assert (came.noise, evidence_of(came)) == (noise, evidence)
