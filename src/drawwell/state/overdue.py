"""Changes that take effect before they are on disk.

This is for changes that must take effect at once: revocations, other limits, another key. A
full disk delays only the record of them.
"""

import threading
from collections.abc import Callable

from drawwell.errors import StateUnavailable


class OverdueWrites:
    """Writes changes that are in effect already, and retries failed writes."""

    def __init__(self) -> None:
        self._writes: dict[str, Callable[[], object]] = {}
        self._writing = threading.RLock()

    def write(self, change: str, action: Callable[[], object]) -> None:
        """Write a change after those that are overdue; keep it if that fails.

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
        """Describe the changes that a restart would lose, "" for none."""
        changes = "; ".join(self._writes)
        return changes and f"not on disk yet, and a restart would lose it: {changes}"

    def _write_all(self) -> None:
        for change, action in tuple(self._writes.items()):
            action()
            del self._writes[change]


def _not_written(change: str, error: StateUnavailable) -> StateUnavailable:
    return StateUnavailable(
        f"{change}, but this is not on disk yet, and a restart would lose it: {error}",
        hint=f"{error.hint or ''} The write is retried each minute: see 'drawwell status'.",
    )
