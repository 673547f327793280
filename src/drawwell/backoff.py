"""Waits between retries: exponential backoff, with optional jitter."""

from collections.abc import Callable


def _no_jitter() -> float:
    return 1.0


class Backoff:
    """The wait before each retry: `first_s`, then doubled up to `longest_s`.

    Args:
        first_s: The wait after the first failure, in seconds.
        longest_s: The longest wait, in seconds.
        jitter: Returns a factor from 0 to 1 for each wait, to spread the clients' retries.
    """

    def __init__(self, first_s: float, longest_s: float, jitter: Callable[[], float] = _no_jitter) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._jitter = jitter
        self._next_s = first_s

    def reset(self) -> None:
        """Restart from the first wait; call this after a success."""
        self._next_s = self._first_s

    def next_s(self) -> float:
        """Return the wait before the next retry, in seconds."""
        wait_s, self._next_s = self._next_s, min(2 * self._next_s, self._longest_s)
        return wait_s * self._jitter()
