"""A token bucket in whole numbers: consumers' rates, doors' budgets."""

from typing import Final

SECOND_NS: Final = 10**9


class TokenBucket:
    """Gains tokens with time, up to a burst.

    It counts in parts of a token so small that every nanosecond adds a whole number, so that
    nothing drifts. Times are in nanoseconds since any moment.

    Args:
        tokens: Its gain in each period; at least 1.
        period_ns: The period; at least 1.
        burst: The most that is saved, in parts of a token; by default what one second brings.
        now_ns: The time now.
        level: What is in it, in tokens, as a fraction; at most the burst is taken over.
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
        """Fill it to the burst."""
        self._level = self._burst

    def change(self, tokens: int) -> None:
        """Gain `tokens` in each period, from the last look on."""
        self._gain = tokens

    def level(self, now_ns: int) -> tuple[int, int]:
        """Return the tokens in it, as a fraction."""
        self._fill(now_ns)
        return self._level, self._token

    def ready_ns(self, n: int, now_ns: int) -> int:
        """Return when `n` tokens are in it, if it may grow to `n`."""
        self._fill(now_ns)
        missing = max(0, n * self._token - self._level)
        return now_ns + -(-missing // self._gain)

    def save_for(self, n: int) -> None:
        """Let it grow to `n` tokens, until they are taken."""
        self._capacity = max(self._capacity, n * self._token)

    def take(self, n: int, now_ns: int) -> bool:
        """Take `n` tokens and return True, or none of them if it holds fewer."""
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
        """Take `n` tokens, whether it holds them or not."""
        self._level -= n * self._token

    def _fill(self, now_ns: int) -> None:
        self._level = min(self._capacity, self._level + self._gain * (now_ns - self._at_ns))
        self._at_ns = now_ns
