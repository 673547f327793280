"""Plain sentences about the results."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from drawwell.assess.ais31 import Ais31Result
from drawwell.assess.health_run import HealthRun
from drawwell.assess.iid import IidResult
from drawwell.assess.report.picture import Picture
from drawwell.assess.restart import RestartResult
from drawwell.assess.results import NonIidResult
from drawwell.reports import Firmware, Report, SourceIdentity

GOOD: Final = "good"
NOTE: Final = "note"
BAD: Final = "bad"

CHANCE: Final = 0.001
"""A result that is rarer than this in ideal noise is reported."""


_NEXT_TO_NOTHING: Final = 0.05  # bits per sample


@dataclass(frozen=True, slots=True)
class ReportFinding(Report):
    """A sentence about a result: good, bad or neutral."""

    level: str
    words: str  # wording: a JSON key


def findings_of(
    non_iid: NonIidResult,
    picture: Picture,
    *,
    claim: float | None,
    identity: SourceIdentity | None,
    health: HealthRun | None,
    iid: IidResult | None,
    restart: RestartResult | None,
    ais31: Ais31Result | None,
) -> tuple[ReportFinding, ...]:
    """Return all findings, worst first."""  # fmt: skip
    found = [
        *_of_identity(identity),
        *_of_entropy(non_iid, claim),
        *(_of_health(health) if health else ()),
        *(_of_restart(restart) if restart else ()),
        *(_of_iid(iid) if iid else ()),
        *(_of_ais31(ais31) if ais31 else ()),
        *_of_picture(picture),
        *(ReportFinding(NOTE, note) for note in non_iid.notes),
    ]
    order = {BAD: 0, GOOD: 1, NOTE: 2}
    return tuple(sorted(found, key=lambda finding: order[finding.level]))


def ceiling_text(result: NonIidResult) -> str:
    """Explain why an ideal source scores less than its full width."""
    if result.ceiling is None:
        return ""
    return (
        f"An ideal source with {bits_text(result)} per sample would score about"
        f" {result.ceiling.min_entropy:.2f} at this length. The estimates are lower bounds at 99 % confidence and"
        " rise slowly with the sample size, so no capture of an ideal source reaches the full width."
    )


def bits_text(result: NonIidResult) -> str:
    return "1 bit" if result.bits_per_sample == 1 else f"{result.bits_per_sample} bits"


def _of_identity(identity: SourceIdentity | None) -> Iterator[ReportFinding]:
    if identity is None:
        return
    if identity.simulated:
        yield ReportFinding(NOTE, "This is a simulated device: the figures do not apply to real hardware.")
    if identity.firmware is Firmware.NOT_VERIFIED:
        yield ReportFinding(
            BAD, f"The firmware is not verified: {identity.firmware_detail or 'unknown reason'}."
        )
    elif identity.firmware is Firmware.VERIFIED:
        yield ReportFinding(GOOD, "The firmware image that the device reports has a valid signature.")
    if identity.noise != "raw noise":
        yield ReportFinding(
            NOTE, f"The samples are {identity.noise}. A generator passes every statistical test, so the tests"
            " prove no lower bound.",
        )  # fmt: skip


def _of_entropy(result: NonIidResult, claim: float | None) -> Iterator[ReportFinding]:
    text = f"Each sample of {bits_text(result)} has {result.min_entropy:.3f} bits of min-entropy"
    if result.min_entropy < _NEXT_TO_NOTHING:
        yield ReportFinding(BAD, f"{text}, which is almost none. Earlier samples predict later ones.")
    elif claim is None:
        yield ReportFinding(NOTE, f"{text}; no claim was given for comparison.")
    elif result.min_entropy >= claim:
        yield ReportFinding(GOOD, f"{text}, which supports the claim of {claim:g}.")
    else:
        yield ReportFinding(
            BAD, f"{text}, less than the claim of {claim:g}. Set min_entropy to"
            f" {math.floor(10 * result.min_entropy) / 10:g} or less, and find the cause.",
        )  # fmt: skip
    ceiling = result.ceiling
    if ceiling and result.min_entropy >= ceiling.low:
        yield ReportFinding(
            GOOD, f"{ceiling_text(result)} Simulated ideal sources scored from {ceiling.low:.2f} to "
                f"{ceiling.high:.2f}; this source scored {result.min_entropy:.2f}.",
        )  # fmt: skip
    elif ceiling:
        part = result.min_entropy / ceiling.min_entropy
        yield ReportFinding(NOTE, f"{ceiling_text(result)} This source reaches {part:.0%} of that score.")


def _of_health(run: HealthRun) -> Iterator[ReportFinding]:
    fired = [event for event in run.events if event.kind in {"intermittent", "permanent"}]
    if fired:
        first = fired[0]
        yield ReportFinding(
            BAD, f"A health test fired, first at sample {first.sample:,}: {first.words}."  # wording: a JSON key
        )  # fmt: skip
        return
    nearest = max(run.tests, key=lambda test: test.worst_count / test.cutoff_intermittent)
    yield ReportFinding(
        GOOD, f"No health test fires on these samples. The {nearest.name} test of {nearest.unit}s came closest: it "
            f"counted {nearest.worst_count}; its cutoff is {nearest.cutoff_intermittent}.",
    )  # fmt: skip


def _of_restart(result: RestartResult) -> Iterator[ReportFinding]:
    if not result.sane:
        yield ReportFinding(
            BAD, f"The samples after restarts repeat: one value occurred {result.most} times in {result.most_in} of "
                f"the restart matrix; chance allows {result.cutoff}.",
        )  # fmt: skip
    elif not result.passed:
        yield ReportFinding(BAD, "The restart matrix has less than half of the estimated min-entropy.")
    else:
        yield ReportFinding(
            GOOD,
            f"The samples after restarts are independent: the restart tests confirm {result.min_entropy:.3f} bits "
            "per sample.",
        )


def _of_iid(result: IidResult) -> Iterator[ReportFinding]:
    if result.passed:
        yield ReportFinding(
            GOOD, "No test contradicts independent, identically distributed samples. A claim also requires"
            " knowledge of how the samples are produced.",
        )  # fmt: skip
    elif result.passed is False:
        failed = [
            name
            for name, passed in (
                ("the independence test", result.independence.passed),
                ("the goodness-of-fit test", result.goodness_of_fit.passed),
                ("the longest repeated substring", result.longest_repeat.passed),
                *((statistic.name, statistic.passed) for statistic in result.permutations),
            )
            if not passed
        ]
        yield ReportFinding(
            NOTE, f"The samples are not independent and identically distributed ({', '.join(failed)}). The"
            " estimators of the non-IID track take this into account.",
        )  # fmt: skip


def _of_ais31(result: Ais31Result) -> Iterator[ReportFinding]:
    failed = [test.name for test in result.trials[-1] if not test.passed]
    if failed:
        yield ReportFinding(
            NOTE, f"The AIS 20/31 suite for internal random numbers fails on the raw bits ({', '.join(failed)}),"
            " as is common for raw noise; only conditioned output must pass.",
        )  # fmt: skip
    else:
        yield ReportFinding(
            GOOD, "The raw bits pass the statistical suite of AIS 20/31 version 3.0 without conditioning."
        )


def _of_picture(picture: Picture) -> Iterator[ReportFinding]:
    share, sigma = picture.ones / picture.bits, 0.5 / math.sqrt(picture.bits)
    if abs(share - 0.5) > 3.3 * sigma:
        yield ReportFinding(
            NOTE, f"{share:.3%} of the bits are ones. Chance does not explain that; conditioning removes it."
        )  # fmt: skip
    else:
        yield ReportFinding(GOOD, f"{share:.3%} of the bits are ones, which chance explains.")
    if picture.chi2_p < CHANCE:
        yield ReportFinding(
            NOTE, "The values are not equally frequent; the most frequent value determines the min-entropy."
        )
    beyond = [
        lag
        for lag, value in enumerate(picture.autocorrelation, 1)
        if abs(value) > autocorrelation_band(picture)
    ]
    if beyond:
        lags = ", ".join(map(str, beyond[:8])) + (", …" if len(beyond) > 8 else "")
        yield ReportFinding(
            NOTE, f"Bits are correlated with the bits {lags} places earlier, more than chance explains."
        )
    else:
        yield ReportFinding(
            GOOD, f"Bits are not correlated with any of the {len(picture.autocorrelation)} bits before them."
        )


def autocorrelation_band(picture: Picture) -> float:
    """Return the bound that holds at all lags for 999 of 1,000 ideal captures."""
    return 4.47 / math.sqrt(picture.bits)  # two-sided normal quantile of 0.001 / 128
