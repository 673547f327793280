"""Changes that take effect before they are on disk.

Revocations, new limits and new keys must take effect immediately. A full disk only delays
writing them.
"""

import threading
from collections.abc import Callable

from drawwell.errors import StateUnavailable


class OverdueWrites:
    """Writes changes that are already in effect, and retries failed writes."""

    def __init__(self) -> None:
        self._writes: dict[str, Callable[[], object]] = {}
        self._writing = threading.RLock()

    def write(self, change: str, action: Callable[[], object]) -> None:
        """Write all overdue changes and this one; keep those that fail.

        Raises:
            StateUnavailable: the change is not written yet.
        """
        with self._writing:
            self._writes.pop(change, None)
            self._writes[change] = action
            try:
                self._write_all()
            except StateUnavailable as error:
                raise _not_written(change, error) from error

    def retry(self) -> None:
        """Retry the overdue writes, oldest first.

        Raises:
            StateUnavailable: a change is still not written.
        """
        try:
            with self._writing:
                self._write_all()
        except StateUnavailable as error:
            raise _not_written("; ".join(self._writes), error) from error

    def note(self) -> str:
        """Describe the changes that a restart would lose, or "" for none."""
        changes = "; ".join(self._writes)
        return changes and f"not on disk yet, and would be lost by a restart: {changes}"

    def _write_all(self) -> None:
        for change, action in tuple(self._writes.items()):
            action()
            del self._writes[change]


def _not_written(change: str, error: StateUnavailable) -> StateUnavailable:
    return StateUnavailable(
        f"{change}, but the change is not on disk yet and would be lost by a restart: {error}",
        hint=f"{error.hint or ''} The write is retried every minute; see 'drawwell status'.",
        cannot=error.cannot,
    )
