"""A token bucket in integers, for consumers' rates and doors' budgets."""

from typing import Final

SECOND_NS: Final = 10**9


class TokenBucket:
    """A bucket that gains tokens over time, up to a burst.

    It counts in fractions of a token, and each nanosecond adds a whole number of them, so
    rounding errors never accumulate. Times are in nanoseconds since any fixed moment.

    Args:
        tokens: The gain per period; at least 1.
        period_ns: The length of a period; at least 1.
        burst: The capacity in fractions of a token, by default the gain of one second.
        now_ns: The current time.
        level: The initial tokens as a fraction, capped at the burst.
    """

    def __init__(
        self,
        tokens: int,
        period_ns: int,
        burst: int | None = None,
        *,
        now_ns: int = 0,
        level: tuple[int, int] = (0, 1),
    ) -> None:
        self._gain = tokens
        self._token = period_ns
        self._burst = self._capacity = tokens * SECOND_NS if burst is None else burst
        self._level = min(self._burst, level[0] * self._token // level[1])
        self._at_ns = now_ns

    def fill_up(self) -> None:
        """Fill the bucket to the burst."""
        self._level = self._burst

    def change(self, tokens: int) -> None:
        """Change the gain per period, starting from the last update."""
        self._gain = tokens

    def level(self, now_ns: int) -> tuple[int, int]:
        """Return the tokens in the bucket as a fraction."""
        self._fill(now_ns)
        return self._level, self._token

    def ready_ns(self, n: int, now_ns: int) -> int:
        """Return when there will be `n` tokens, if the bucket can grow to `n`."""
        self._fill(now_ns)
        missing = max(0, n * self._token - self._level)
        return now_ns + -(-missing // self._gain)

    def save_for(self, n: int) -> None:
        """Let the bucket grow to `n` tokens until they are taken."""
        self._capacity = max(self._capacity, n * self._token)

    def take(self, n: int, now_ns: int) -> bool:
        """Take `n` tokens and return True; if there are fewer, return False."""
        if now_ns != self._at_ns:
            self._fill(now_ns)
        amount = n * self._token
        if amount > self._level:
            return False
        self._level -= amount
        if amount >= self._capacity:
            self._capacity = self._burst
        return True

    def overdraw(self, n: int) -> None:
        """Take `n` tokens even if there are fewer."""
        self._level -= n * self._token

    def _fill(self, now_ns: int) -> None:
        self._level = min(self._capacity, self._level + self._gain * (now_ns - self._at_ns))
        self._at_ns = now_ns
