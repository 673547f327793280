"""A thread for the steps of handshakes.

OpenSSL releases the GIL in a step, which takes a millisecond, so that the event loop
goes on serving. The thread has the loop's priority: at a lower one it would hold up the
loop when other programs preempt it while it has the GIL.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable

Work = Callable[[], None]
Done = Callable[[float, Exception | None], object]


class StepWorker:
    """Runs one step after the other; the thread begins with the first."""

    def __init__(self) -> None:
        self._steps: queue.SimpleQueue[tuple[Work, Done] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def run(self, work: Work, done: Done) -> None:
        """Call `work`, then `done` with its CPU seconds and its exception.

        Both are called in the thread.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="handshakes", daemon=True)
            self._thread.start()
        self._steps.put((work, done))

    def close(self) -> None:
        """End the thread after the steps that were begun."""
        if self._thread is not None:
            self._steps.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (step := self._steps.get()) is not None:
            work, done = step
            error: Exception | None = None
            begun = time.thread_time()
            try:
                work()
            except Exception as raised:  # noqa: BLE001 - the loop decides what becomes of it
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop is closed
                done(time.thread_time() - begun, error)
            del step, work, done, error
