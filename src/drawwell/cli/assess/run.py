"""Runs the phases of an assessment and shows their progress."""

import datetime as dt
import hashlib
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from drawwell import __version__
from drawwell.cli.assess.input import Taken, bar
from drawwell.cli.output import Output
from drawwell.units import format_duration

if TYPE_CHECKING:
    from drawwell.assess.ais31 import Ais31Result
    from drawwell.assess.iid import IidResult
    from drawwell.assess.report import Assessment
    from drawwell.assess.restart import RestartResult
    from drawwell.assess.results import Progress
    from drawwell.assess.samples import Samples

THREADS = 2


def assess_taken(
    taken: Taken,
    out: Output,
    *,
    bits: int | None = None,
    claim: float | None = None,
    iid: bool = False,
    restart: bytes | None = None,
) -> "Assessment":
    """Run all phases that the command line selects.

    Args:
        taken: The samples.
        out: Shows the progress.
        bits: Bits per sample; None detects the width.
        claim: Bits of min-entropy per sample; overrides the source's configuration.
        iid: Also run the IID tests.
        restart: The restart matrix, row by row.

    Raises:
        BadData, MissingExtra: raised by the estimators.
    """
    # imported first, because its error for a missing NumPy has a hint
    from drawwell.assess.sp80090b import assess  # isort: skip
    from drawwell.assess.report import Assessment, Subject
    from drawwell.assess.report.findings import findings_of
    from drawwell.assess.report.picture import picture_of
    from drawwell.assess.samples import parse

    matrix = _matrix(restart)
    non_iid = assess(taken.data, bits, progress=_shower(out, "estimators"), threads=THREADS, name=taken.name)
    samples = parse(taken.data, bits, name=taken.name)
    iid_found = _iid(samples, out) if iid else None
    believed = taken.claim.min_entropy if taken.claim and claim is None else claim
    initial = non_iid.min_entropy if believed is None else min(believed, non_iid.min_entropy)
    restarted = _restart(matrix, initial, samples.bits_per_sample, out) if matrix is not None else None
    ais31 = _ais31(samples, out)
    health, margins = _health(taken, believed, out)
    picture = picture_of(samples)
    findings = findings_of(
        non_iid, picture, claim=believed, identity=taken.identity, health=health, iid=iid_found,
        restart=restarted, ais31=ais31,
    )  # fmt: skip
    out.clear_progress()
    return Assessment(
        subject=Subject(
            name=taken.name,
            sha256=hashlib.sha256(taken.data).hexdigest(),
            samples=len(taken.data),
            assessed_at=dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            identity=taken.identity,
            configuration=taken.configuration,
            versions=versions(),
        ),
        claim=believed,
        non_iid=non_iid,
        iid=iid_found,
        restart=restarted,
        ais31=ais31,
        health=health,
        margins=margins,
        picture=picture,
        findings=findings,
    )


def versions() -> dict[str, str]:
    """Return the software versions for a report."""
    import numpy as np

    return {
        "drawwell": __version__,
        "with": f"Python {platform.python_version()}, NumPy {np.__version__}, Linux {platform.release()}",
    }


def _matrix(restart: bytes | None) -> Any:
    """Parse the restart matrix before the first slow phase."""
    if restart is None:
        return None
    import numpy as np

    from drawwell.assess.restart import as_matrix

    return as_matrix(np.frombuffer(restart, dtype=np.uint8))


def _shower(out: Output, phase: str) -> "Callable[[Progress], None]":
    def show(progress: "Progress") -> None:
        left = "" if progress.seconds_left is None else f", {format_duration(progress.seconds_left)} left"
        running = f" · {', '.join(progress.running)}" if progress.running else ""
        out.progress(f"{phase} {bar(progress.done)} {progress.done:.0%}{left}{running}"[:110])

    return show


def _iid(samples: "Samples", out: Output) -> "IidResult":
    from drawwell.assess.iid import assess_iid
    from drawwell.assess.iid.permutation import ROUNDS

    begun = time.monotonic()

    def show(rounds: int, undecided: int) -> None:
        left = format_duration((time.monotonic() - begun) / rounds * (ROUNDS - rounds))
        out.progress(
            f"permutations {bar(rounds / ROUNDS)} {rounds} of at most {ROUNDS}, {undecided} of 19 statistics"
            f" undecided, at most {left} left"
        )

    pool = ThreadPoolExecutor(THREADS)
    try:
        return assess_iid(samples, seed=int.from_bytes(os.urandom(8), "big"), mapper=pool.map, progress=show)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _restart(matrix: Any, h_initial: float, bits: int, out: Output) -> "RestartResult":
    from drawwell.assess.restart import assess_restart
    from drawwell.assess.sp80090b import assess

    def estimate(vector: Any) -> float:
        show = _shower(out, "restart matrix")
        return assess(vector, bits, progress=show, threads=THREADS, name="the restart matrix").h_original

    return assess_restart(matrix, h_initial=h_initial, estimate=estimate)


def _ais31(samples: "Samples", out: Output) -> "Ais31Result | None":
    from drawwell.assess.ais31 import TRIAL_BITS, assess_ais31
    from drawwell.assess.estimators.lz78y import lz78y
    from drawwell.assess.estimators.multimmc import multi_mmc

    string = samples.bit_string
    if len(string) < TRIAL_BITS:
        return None
    out.progress("AIS 20/31")
    return assess_ais31(
        string, multi_mmc=lambda part: multi_mmc(part, 2).min_entropy or 0.0,
        lz78y=lambda part: lz78y(part, 2).min_entropy or 0.0,
    )  # fmt: skip


def _health(taken: Taken, believed: float | None, out: Output) -> Any:
    """Run the health tests with the claimed min-entropy, if there is a claim."""
    from drawwell.assess.health_run import blocks_of, margins_of, run_health_tests
    from drawwell.entropy.health import NoiseClaim

    if believed is None:
        return None, ()
    out.progress("health tests")
    claim = NoiseClaim(believed, bits=taken.claim is not None and taken.claim.bits)
    run = run_health_tests(blocks_of(taken.data), claim, os.urandom(32))
    return run, margins_of(taken.data, claim)
