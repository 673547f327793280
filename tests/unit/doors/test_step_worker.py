"""Handshake steps in a separate thread."""

import threading
from collections.abc import Iterator

import pytest

from drawwell.doors.step_worker import StepWorker
from drawwell.testing.waiting import DEADLINE_S


@pytest.fixture
def worker() -> Iterator[StepWorker]:
    worker = StepWorker()
    yield worker
    worker.close()


def test_steps_run_one_after_the_other_in_one_thread(worker: StepWorker) -> None:
    """Steps run in the order of the calls, in another thread."""
    ran, threads, ended = [], set(), threading.Event()

    def step(number: int) -> None:
        ran.append(number)
        threads.add(threading.get_ident())

    for number in range(100):
        worker.run(lambda number=number: step(number), lambda *_: None)  # type: ignore[misc]
    worker.run(ended.set, lambda *_: None)
    assert ended.wait(DEADLINE_S)
    assert ran == list(range(100))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_a_step_that_fails_costs_itself_alone(worker: StepWorker) -> None:
    """A failed step's error and CPU time are passed on; the next step runs."""
    outcomes, ended = [], threading.Event()

    def outcome(cost_s: float, error: Exception | None) -> None:
        outcomes.append((cost_s >= 0, type(error)))
        if error is None:
            ended.set()

    worker.run(lambda: 1 // 0, outcome)  # type: ignore[arg-type]
    worker.run(lambda: None, outcome)
    assert ended.wait(DEADLINE_S)
    assert outcomes == [(True, ZeroDivisionError), (True, type(None))]


def test_a_closed_worker_leaves_no_thread() -> None:
    """A step that has begun ends first."""
    worker, ran = StepWorker(), []
    worker.close()
    worker.run(lambda: ran.append(1), lambda *_: None)
    worker.close()
    assert ran == [1]
    assert "handshakes" not in {thread.name for thread in threading.enumerate()}
