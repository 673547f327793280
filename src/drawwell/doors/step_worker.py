"""A thread for the steps of handshakes.

A step takes a millisecond, during which OpenSSL releases the GIL, so the event loop continues
to serve. The thread has the same priority as the loop. At a lower priority, other programs
could preempt the thread while it has the GIL, and so block the loop.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable

Work = Callable[[], None]
Done = Callable[[float, Exception | None], object]


class StepWorker:
    """Runs one step after another; the first step starts the thread."""

    def __init__(self) -> None:
        self._steps: queue.SimpleQueue[tuple[Work, Done] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def run(self, work: Work, done: Done) -> None:
        """Call `work`, then `done` with the CPU seconds and exception of `work`.

        Both are called in the thread.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="handshakes", daemon=True)
            self._thread.start()
        self._steps.put((work, done))

    def close(self) -> None:
        """Finish the queued steps, then end the thread."""
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
            except Exception as raised:  # noqa: BLE001 - the loop handles it
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop is closed
                done(time.thread_time() - begun, error)
            del step, work, done, error
