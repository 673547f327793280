"""Draw bytes and make random choices in asyncio programs."""

import asyncio
from collections.abc import MutableSequence, Sequence
from typing import Final, TypeVar

from drawwell.config.load import load
from drawwell.entropy.blocks import DrawClass, Grant
from drawwell.errors import Refused
from drawwell.ports import Upstream
from drawwell.roles.upstream import choose_upstream, due_identities, renew_all
from drawwell.state.new_files import NewFiles
from drawwell.sync import ClassName, Drawing, Path, check_draw, receipt_paths
from drawwell.wire.limits import MAX_DRAW_BYTES

__all__ = ["Random", "draw"]

T = TypeVar("T")
_FLOAT_BITS: Final = 53
"""Bits of a double's significand (IEEE 754)."""


async def draw(
    n_bytes: int,
    *,
    draw_class: ClassName = "full",
    receipt: Path | None = None,
    via: str | None = None,
    wait_s: float = 0.0,
) -> bytes:
    """Draw random bytes; no other caller ever receives the same bytes.

    Args:
        n_bytes: Number of bytes.
        draw_class: "full" for full-entropy bytes from the hardware, "drbg" for the output of
            this consumer's own generator, which is seeded from the hardware.
        receipt: A new file for the signed receipt. The receipt's key is written to a second
            file, with ".key" appended to the name. One receipt covers up to 64 KiB.
        via: The name of a joined broker, or a URL; None for the configured broker.
        wait_s: How long to keep retrying a refused draw, in seconds for each 64 KiB.

    Raises:
        Refused: a quota, a rate or the reservoir is exhausted; retry after `retry_after_s`.
        NoHealthySource: no source is healthy. There is no fallback.
        LinkUnavailable: no broker answers.
        PermissionRefused: this user may not draw from that broker.
        UsageError: invalid size, class or broker.
        ConfigError, StateUnavailable: the machine's configuration or state is faulty.
        FileExistsError: the receipt's file already exists.
    """
    covered = receipt is not None
    check_draw(n_bytes, draw_class, covered=covered)
    config = load()
    await renew_all(due_identities(config, via))
    upstream = choose_upstream(config, via)
    data = bytearray()
    try:
        with NewFiles(*receipt_paths(receipt)) as files:
            while len(data) < n_bytes:
                piece = min(MAX_DRAW_BYTES, n_bytes - len(data))
                grant = await _patiently(upstream, piece, DrawClass(draw_class), wait_s, receipt=covered)
                if covered:
                    files.write(grant.receipt, grant.receipt_key)
                data += grant.data
            files.keep()
    finally:
        await upstream.aclose()
    return bytes(data)


async def _patiently(
    upstream: Upstream, n_bytes: int, draw_class: DrawClass, wait_s: float, *, receipt: bool
) -> Grant:
    """Draw like `roles.upstream.draw_patiently`, without blocking the loop."""
    now = asyncio.get_running_loop().time
    deadline = now() + wait_s
    while True:
        patience_s = max(0.0, deadline - now())
        try:
            return await upstream.draw(n_bytes, draw_class, receipt=receipt, patience_s=patience_s)
        except Refused as error:
            pause = error.retry_after_s
            if pause is None or now() + pause > deadline:
                raise
            await asyncio.sleep(pause)


class AwaitedRandom(Drawing):
    """Random choices from drawn bits; the arguments are those of `Drawing`."""

    async def randbytes(self, n: int) -> bytes:
        """Return `n` bytes; same errors as `draw`."""
        if n == 0:
            return b""
        return await draw(n, **self._how)

    async def getrandbits(self, k: int) -> int:
        """Return an integer of `k` bits; same errors as `draw`."""
        if k < 0:
            raise ValueError("number of bits must be non-negative")
        data = await self.randbytes((k + 7) // 8)
        return int.from_bytes(data, "big") >> (-k % 8)

    async def random(self) -> float:
        """Return a float in [0, 1); same errors as `draw`."""
        return await self.getrandbits(_FLOAT_BITS) * 2.0**-_FLOAT_BITS

    async def randint(self, a: int, b: int) -> int:
        """Return an integer in [a, b]; same errors as `draw`."""
        return a + await self._below(b - a + 1)

    async def choice(self, seq: Sequence[T]) -> T:
        """Return one element of a non-empty sequence; same errors as `draw`."""
        if not seq:
            raise IndexError("Cannot choose from an empty sequence")
        return seq[await self._below(len(seq))]

    async def shuffle(self, x: MutableSequence[T]) -> None:
        """Shuffle `x` in place; same errors as `draw`."""
        for i in reversed(range(1, len(x))):
            j = await self._below(i + 1)
            x[i], x[j] = x[j], x[i]

    async def sample(self, population: Sequence[T], k: int) -> list[T]:
        """Return `k` elements in random order; same errors as `draw`."""
        if not 0 <= k <= len(population):
            raise ValueError("Sample larger than population or is negative")
        pool = list(population)
        for i in range(k):
            j = i + await self._below(len(pool) - i)
            pool[i], pool[j] = pool[j], pool[i]
        return pool[:k]

    async def _below(self, n: int) -> int:
        """Return a uniform integer in [0, n), by rejection sampling."""
        if n < 1:
            raise ValueError("empty range")
        k = n.bit_length()
        while (number := await self.getrandbits(k)) >= n:
            pass
        return number


Random = AwaitedRandom
