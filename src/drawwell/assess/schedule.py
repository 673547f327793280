"""Run jobs in a few threads, with progress; stop early on request.

Threads are enough, because the loops release the GIL and share samples and compiled code. They
are daemon threads, and the caller only waits for messages, so an interrupt takes effect at
once. Each thread ends after its current job.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from drawwell.assess.estimators.outcome import EstimatorResult
from drawwell.assess.results import Progress, ProgressCallback

_NEWS_S = 0.2
"""Time between two progress reports, in seconds."""


@dataclass(frozen=True, slots=True)
class Job:
    """One estimator (or two that share work) for one column."""

    title: str
    cost: float
    """The expected nanoseconds; only ratios matter."""
    work: Callable[[], tuple[EstimatorResult, ...]]


@dataclass(frozen=True, slots=True)
class Done:
    """A job's results and its duration in seconds."""

    outcomes: tuple[EstimatorResult, ...]
    seconds: float


@dataclass(slots=True)
class _Board:
    """The list of jobs and its state, shared by all threads."""

    jobs: Sequence[Job]
    todo: list[int]
    cancelled: bool = False
    started: dict[int, float] = field(default_factory=dict)
    done: dict[int, Done] = field(default_factory=dict)
    news: "queue.SimpleQueue[tuple[int, Done | BaseException]]" = field(default_factory=queue.SimpleQueue)

    def work(self) -> None:
        while not self.cancelled:
            try:
                index = self.todo.pop()
            except IndexError:
                return
            self.started[index] = start = time.monotonic()
            try:
                outcomes = self.jobs[index].work()
            except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
                self.news.put((index, error))
                return
            self.news.put((index, Done(outcomes, time.monotonic() - start)))

    def progress(self) -> Progress:
        now = time.monotonic()
        total = sum(job.cost for job in self.jobs)
        finished = sum(self.jobs[index].cost for index in self.done)
        spent = sum(each.seconds for each in self.done.values())
        running = [index for index in list(self.started) if index not in self.done]
        if finished and spent:
            speed = finished / spent
            finished += sum(
                min(0.95 * self.jobs[index].cost, (now - self.started[index]) * speed) for index in running
            )
            left = (total - finished) / speed / max(1, len(running))
        share = finished / total
        return Progress(share, left if finished else None, tuple(self.jobs[index].title for index in running))


def run(
    jobs: Sequence[Job], *, threads: int, progress: ProgressCallback | None = None
) -> tuple[list[Done], float]:
    """Run all jobs, most expensive first; return results and duration.

    The results are in the order of the jobs. The duration is in seconds.

    Raises:
        BaseException: raised by a job, the callback or an interrupt. The other jobs are
            dropped.
    """
    start = time.monotonic()
    board = _Board(jobs, sorted(range(len(jobs)), key=lambda index: jobs[index].cost))
    for _ in range(max(1, min(threads, len(jobs)))):
        threading.Thread(target=board.work, name="drawwell-assess", daemon=True).start()
    try:
        while len(board.done) < len(jobs):
            try:
                index, found = board.news.get(timeout=_NEWS_S)
            except queue.Empty:
                pass
            else:
                if isinstance(found, BaseException):
                    raise found
                board.done[index] = found
            if progress is not None:
                progress(board.progress())
    finally:
        board.cancelled = True
    return [board.done[index] for index in range(len(jobs))], time.monotonic() - start
