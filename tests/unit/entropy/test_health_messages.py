"""What drivers say of their noise, which decides whether a kernel is credited."""

from dataclasses import replace

import pytest

from drawwell.drivers import chardev, execute, replay
from drawwell.reports import SourceIdentity, SourceReport, SourceState
from drawwell.wire.deposit_frames import SourceStatus
from drawwell.wire.limits import HEADER_BYTES

REPORT = SourceReport(
    SourceIdentity("stick", "x", "/dev/x"), SourceState.HEALTHY, False, 1, 0, 0, 0, 0, 0, 0.0, 0, 0, "",
)  # fmt: skip


@pytest.mark.parametrize(
    ("noise", "genuine"),
    [
        (chardev.CONDITIONED, True),
        (chardev.UNKNOWN, True),
        (chardev.OS_GENERATOR, False),
        (execute.NOISE, True),
        (replay.NOISE, False),
        ("bytes of a broker, not a noise source", False),
    ],
)
def test_what_a_driver_says_of_its_noise_reaches_the_broker_whole(noise: str, genuine: bool) -> None:
    """A text that were cut would lose its end, which says that it is no noise source."""
    sent = replace(REPORT, identity=replace(REPORT.identity, noise=noise))
    came = SourceStatus.decode(SourceStatus(sent).encode()[HEADER_BYTES:]).report.identity
    assert (came.noise, came.genuine) == (noise, genuine)
