"""Changes that hold in memory before the disk has taken them.

For what must hold at once, such as a revocation: a full disk delays its record only.
"""

from collections.abc import Callable

from drawwell.errors import StateUnavailable


class OverdueWrites:
    """Write changes that already hold in memory, and retry what failed."""

    def __init__(self) -> None:
        self._writes: dict[str, Callable[[], None]] = {}

    def write(self, change: str, action: Callable[[], None]) -> None:
        """Write a change, and keep it for `retry` where that fails.

        Raises:
            StateUnavailable: it is not written yet.
        """
        try:
            action()
        except StateUnavailable as error:
            self._writes[change] = action
            raise StateUnavailable(
                f"{change}; a restart before that is written loses it, and it is not written yet: {error}",
                hint=f"{error.hint or ''} The write is retried each minute, until then see 'drawwell status'.",
            ) from error
        self._writes.pop(change, None)

    def retry(self) -> None:
        """Write what is overdue, oldest first.

        Raises:
            StateUnavailable: something is still not written.
        """
        for change, action in tuple(self._writes.items()):
            self.write(change, action)

    def note(self) -> str:
        """Describe what a restart would lose, "" for nothing."""
        changes = "; ".join(self._writes)
        return changes and f"not written yet, and lost by a restart before it is: {changes}"
