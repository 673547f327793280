"""Changes that take effect before they are on disk.

This is for changes that must take effect at once, such as a revocation. A full disk delays
only the record of them.
"""

from collections.abc import Callable

from drawwell.errors import StateUnavailable


class OverdueWrites:
    """Writes changes that are in effect already, and retries failed writes."""

    def __init__(self) -> None:
        self._writes: dict[str, Callable[[], None]] = {}

    def write(self, change: str, action: Callable[[], None]) -> None:
        """Write a change; keep it for `retry` if that fails.

        Raises:
            StateUnavailable: the change is not written yet.
        """
        try:
            action()
        except StateUnavailable as error:
            self._writes[change] = action
            raise StateUnavailable(
                f"{change}, but this is not on disk yet, and a restart would lose it: {error}",
                hint=f"{error.hint or ''} The write is retried each minute: see 'drawwell status'.",
            ) from error
        self._writes.pop(change, None)

    def retry(self) -> None:
        """Retry the overdue writes, oldest first.

        Raises:
            StateUnavailable: a change is still not written.
        """
        for change, action in tuple(self._writes.items()):
            self.write(change, action)

    def note(self) -> str:
        """Describe the changes that a restart would lose, "" for none."""
        changes = "; ".join(self._writes)
        return changes and f"not on disk yet, and a restart would lose it: {changes}"
