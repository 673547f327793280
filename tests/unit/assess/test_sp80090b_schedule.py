"""Concurrent jobs: order, progress, errors and interrupts."""

import itertools
import threading

import pytest

from drawwell.assess.estimators.outcome import EstimatorResult
from drawwell.assess.results import Progress
from drawwell.assess.schedule import Job, run


def quick(title: str, cost: float = 1.0) -> Job:
    return Job(title, cost, lambda: (EstimatorResult(cost),))


def interrupt(_news: Progress) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("threads", [0, 1, 2, 50])
def test_results_are_in_the_order_of_the_jobs(threads):
    """With any number of threads, results have the order of the jobs."""
    done, seconds = run([quick(str(each), each + 1.0) for each in range(20)], threads=threads)
    assert [each.outcomes[0].min_entropy for each in done] == [each + 1.0 for each in range(20)]
    assert seconds >= 0.0


def test_costliest_jobs_start_first():
    """The longest job starts first."""
    started: list[str] = []

    def job(title: str, cost: float) -> Job:
        return Job(title, cost, lambda: (started.append(title), (EstimatorResult(cost),))[1])

    run([job("small", 1.0), job("large", 9.0), job("middle", 5.0)], threads=1)

    assert started == ["large", "middle", "small"]


def test_error_of_a_job_reaches_the_caller():
    """A job's exception is raised in the caller, and no further job starts."""

    def fail() -> tuple[EstimatorResult, ...]:
        raise MemoryError("no memory")

    started: list[str] = []
    last = Job("last", 1.0, lambda: (started.append("last"), ())[1])
    with pytest.raises(MemoryError, match="no memory"):
        run([Job("first", 2.0, fail), last], threads=1)
    assert started == []


def test_interrupt_ends_at_once_while_a_job_is_running():
    """The caller is not blocked by a stuck job, and queued jobs never start."""
    hold, started = threading.Event(), []

    def stuck() -> tuple[EstimatorResult, ...]:
        hold.wait()
        return (EstimatorResult(None),)

    second = Job("second", 1.0, lambda: (started.append("second"), ())[1])
    try:
        with pytest.raises(KeyboardInterrupt):
            run([Job("first", 2.0, stuck), second], threads=1, progress=interrupt)
    finally:
        hold.set()
    workers = [each for each in threading.enumerate() if each.name == "drawwell-assess"]
    for each in workers:
        each.join(10)
    assert started == []


def test_workers_do_not_keep_the_process_alive():
    """A running thread does not delay the end of the program."""
    hold, seen = threading.Event(), []

    def look() -> tuple[EstimatorResult, ...]:
        seen.append(threading.current_thread().daemon)
        return ()

    run([Job("look", 1.0, look)], threads=1)
    hold.set()
    assert seen == [True]


def test_progress_grows_to_the_whole():
    """Progress never decreases and ends at 1; an estimate of the rest appears."""
    news: list[Progress] = []
    run([quick(str(each), 1.0) for each in range(10)], threads=1, progress=news.append)
    shares = [each.done for each in news]
    assert all(a <= b for a, b in itertools.pairwise(shares))
    assert news[-1].done == 1.0
    assert news[-1].running == ()
    assert all(each.seconds_left is not None for each in news if each.done > 0)
