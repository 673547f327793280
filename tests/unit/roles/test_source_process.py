"""A source process: its status line, and when it ends."""

from dataclasses import replace

import pytest

from drawwell.errors import SourceRejected, SourceStalled, SourceUnavailable
from drawwell.reports import SourceIdentity, SourceReport, SourceState
from drawwell.roles.source_process import LoneSource, SourceStatusLine
from drawwell.service.systemd import Manager
from drawwell.testing.scripted import ScriptedSource
from drawwell.testing.virtual_time import run_virtually
from support.workbench import CLAIM

REPORT = SourceReport(
    SourceIdentity("stick", "onerng", "/dev/stick"), SourceState.HEALTHY, False, 1, 0, 0, 0, 0, 0, 0.0, 0, 0, "",
)  # fmt: skip


@pytest.mark.parametrize(
    ("report", "rate", "text"),
    [
        (REPORT, 31_948.8, "healthy, 31.2KiB/s full entropy"),
        (REPORT, 0.0, "healthy"),
        (replace(REPORT, identity=replace(REPORT.identity, simulated=True)), 0.0, "healthy (simulated)"),
        (replace(REPORT, paused=True), 5.0, "paused"),
        (replace(REPORT, state=SourceState.STARTING), 0.0, "starting"),
        (replace(REPORT, state=SourceState.PERMANENT_FAILURE, last_error="stuck"), 0.0, "FAILED: stuck"),
        (replace(REPORT, state=SourceState.OFF, last_error="unplugged"), 0.0, "no source: unplugged"),
        (
            replace(REPORT, state=SourceState.OFF, stalled=True, last_error="silent"),
            0.0,
            "STALLED 0 s: silent",
        ),
    ],
)
def test_the_status_line_shows_the_state(report: SourceReport, rate: float, text: str) -> None:
    """Each state has its text, and a simulated source is marked."""
    assert SourceStatusLine()(report, "", rate) == text


def test_the_status_line_shows_that_it_waits_for_a_broker() -> None:
    """A healthy source without a broker has a different line than one with it."""
    assert SourceStatusLine()(REPORT, "no broker", 0.0) == "healthy; waiting: no broker"


@pytest.mark.parametrize(
    ("error", "path", "ends"),
    [
        (SourceRejected("firmware not verified"), "/dev/null", True),
        (SourceUnavailable("unplugged"), "/dev/drawwell-none", True),
        (SourceUnavailable("busy"), "/dev/null", False),
        (SourceStalled("silent"), "/dev/drawwell-none", False),
    ],
)
def test_it_ends_when_there_is_no_use_in_going_on(error: Exception, path: str, ends: bool) -> None:
    """A rejected or absent device ends it; a busy or silent one is retried."""

    async def run() -> None:
        driver = ScriptedSource("stick")
        driver.identity = replace(driver.identity, path=path)
        assert LoneSource(driver, CLAIM, "/nowhere", Manager({}))._ends(error) is ends

    run_virtually(run())
