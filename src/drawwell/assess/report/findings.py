"""A plain sentence for each finding."""

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
"""What is rarer than this in ideal noise is remarked upon."""


_NEXT_TO_NOTHING: Final = 0.05  # bits a sample


@dataclass(frozen=True, slots=True)
class ReportFinding(Report):
    """One sentence, and whether it is good, to be noted, or bad."""

    level: str
    words: str


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
    """Say what was found, the worst first."""  # fmt: skip
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


def ceiling_words(result: NonIidResult) -> str:
    """Explain why a perfect source does not reach its full width."""
    if result.ceiling is None:
        return ""
    return (
        f"An ideal source of {bits_words(result)} a sample would score about"
        f" {result.ceiling.min_entropy:.2f} at this length: the estimates are lower bounds with 99 % confidence and"
        " tighten slowly, so no capture of a perfect source reaches its full width."
    )


def bits_words(result: NonIidResult) -> str:
    """Write the width of a sample."""
    return "1 bit" if result.bits_per_sample == 1 else f"{result.bits_per_sample} bits"


def _of_identity(identity: SourceIdentity | None) -> Iterator[ReportFinding]:
    if identity is None:
        return
    if identity.simulated:
        yield ReportFinding(NOTE, "This is a simulated device: the figures say nothing about any hardware.")
    if identity.firmware is Firmware.NOT_VERIFIED:
        yield ReportFinding(
            BAD, f"The firmware is not verified: {identity.firmware_detail or 'no reason known'}."
        )
    elif identity.firmware is Firmware.VERIFIED:
        yield ReportFinding(
            GOOD, "The signature of the firmware image is right, as the device reports that image."
        )
    if identity.noise != "raw noise":
        yield ReportFinding(
            NOTE, f"What was judged is {identity.noise}: a generator passes every statistical test, so this"
            " bounds nothing from below.",
        )  # fmt: skip


def _of_entropy(result: NonIidResult, claim: float | None) -> Iterator[ReportFinding]:
    words = f"A sample of {bits_words(result)} holds {result.min_entropy:.3f} bits of min-entropy"
    if result.min_entropy < _NEXT_TO_NOTHING:
        yield ReportFinding(BAD, f"{words}: next to nothing. What comes can be predicted from what came.")
    elif claim is None:
        yield ReportFinding(NOTE, f"{words}; nothing is claimed to compare it with.")
    elif result.min_entropy >= claim:
        yield ReportFinding(GOOD, f"{words}, which bears out the claim of {claim:g}.")
    else:
        yield ReportFinding(
            BAD, f"{words}, less than the claim of {claim:g}: set min_entropy to"
            f" {math.floor(10 * result.min_entropy) / 10:g} or less, and find out why.",
        )  # fmt: skip
    ceiling = result.ceiling
    if ceiling and result.min_entropy >= ceiling.low:
        yield ReportFinding(
            GOOD, f"{ceiling_words(result)} Ideal sources scored {ceiling.low:.2f} to {ceiling.high:.2f}, and this"
            f" one {result.min_entropy:.2f}.",
        )  # fmt: skip
    elif ceiling:
        part = result.min_entropy / ceiling.min_entropy
        yield ReportFinding(NOTE, f"{ceiling_words(result)} This one reaches {part:.0%} of that.")


def _of_health(run: HealthRun) -> Iterator[ReportFinding]:
    fired = [event for event in run.events if event.kind in {"intermittent", "permanent"}]
    if fired:
        first = fired[0]
        yield ReportFinding(
            BAD, f"The daemon's health tests fired, first at sample {first.sample:,}: {first.words}."
        )  # fmt: skip
        return
    nearest = max(run.tests, key=lambda test: test.worst_count / test.cutoff_intermittent)
    yield ReportFinding(
        GOOD, f"No health test of the daemon fires on these samples; the nearest, the {nearest.name} test of"
        f" {nearest.unit}s, counted {nearest.worst_count} of {nearest.cutoff_intermittent}.",
    )  # fmt: skip


def _of_restart(result: RestartResult) -> Iterator[ReportFinding]:
    if not result.sane:
        yield ReportFinding(
            BAD, f"Restarts repeat themselves: one value came {result.most} times in {result.most_in} of the"
            f" restart matrix, and chance explains {result.cutoff}.",
        )  # fmt: skip
    elif not result.passed:
        yield ReportFinding(BAD, "The restart matrix holds less than half of the estimated min-entropy.")
    else:
        yield ReportFinding(
            GOOD,
            f"Each restart starts afresh: {result.min_entropy:.3f} bits a sample stand after the restart tests.",
        )


def _of_iid(result: IidResult) -> Iterator[ReportFinding]:
    if result.passed:
        yield ReportFinding(
            GOOD, "Nothing contradicts independent, identically distributed samples; only who knows how they are"
            " made may claim it.",
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
            NOTE, f"The samples are not independent and identically distributed ({', '.join(failed)}); the"
            " estimators of the non-IID track allow for that.",
        )  # fmt: skip


def _of_ais31(result: Ais31Result) -> Iterator[ReportFinding]:
    failed = [test.name for test in result.trials[-1] if not test.passed]
    if failed:
        yield ReportFinding(
            NOTE, f"The AIS 20/31 suite for internal random numbers fails on the raw bits ({', '.join(failed)}),"
            " as raw noise often does; conditioned output is what must pass.",
        )  # fmt: skip
    else:
        yield ReportFinding(
            GOOD, "The raw bits pass the statistical suite of AIS 20/31 version 3.0 as they are."
        )


def _of_picture(picture: Picture) -> Iterator[ReportFinding]:
    share, sigma = picture.ones / picture.bits, 0.5 / math.sqrt(picture.bits)
    if abs(share - 0.5) > 3.3 * sigma:
        yield ReportFinding(
            NOTE, f"{share:.3%} of the bits are ones: a lean that chance does not explain and conditioning removes."
        )  # fmt: skip
    else:
        yield ReportFinding(GOOD, f"{share:.3%} of the bits are ones, as chance has it.")
    if picture.chi2_p < CHANCE:
        yield ReportFinding(
            NOTE, "The values do not come equally often; min-entropy counts the most frequent one."
        )
    beyond = [
        lag
        for lag, value in enumerate(picture.autocorrelation, 1)
        if abs(value) > autocorrelation_band(picture)
    ]
    if beyond:
        lags = ", ".join(map(str, beyond[:8])) + (", …" if len(beyond) > 8 else "")
        yield ReportFinding(
            NOTE, f"Bits are related to those {lags} places before them, more than chance explains."
        )
    else:
        yield ReportFinding(
            GOOD, f"No bit is related to any of the {len(picture.autocorrelation)} before it."
        )


def autocorrelation_band(picture: Picture) -> float:
    """Return the bound that all lags of ideal bits keep together, but for one capture in a thousand."""
    return 4.47 / math.sqrt(picture.bits)  # two-sided normal quantile of 0.001 / 128
