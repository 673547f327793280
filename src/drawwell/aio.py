"""Draw bytes and make random choices in asyncio programs."""

import asyncio
from collections.abc import MutableSequence, Sequence
from typing import Final, TypeVar

from drawwell.config.load import load
from drawwell.entropy.blocks import DrawClass, DrawOptions, Grant
from drawwell.errors import Refused
from drawwell.ports import Upstream
from drawwell.roles.upstream import choose_upstream, due_identities, renew_all
from drawwell.sync import ClassName, Path, ReceiptFiles, check_draw
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
    """Draw bytes, each once and for this caller alone.

    Args:
        n_bytes: How many.
        draw_class: "full" for full entropy from the hardware, "drbg" for this consumer's own
            generator, seeded from it.
        receipt: A new file for the signed receipt; its key goes to that name with ".key". One
            receipt covers up to 64 KiB.
        via: A joined broker by name, or a URL; None for the one that the configuration names.
        wait_s: Seconds to keep retrying a refused draw, for each 64 KiB.

    Raises:
        Refused: quota, rate or reservoir; `retry_after_s` is when to come back.
        NoHealthySource: no healthy source; nothing takes its place.
        LinkUnavailable: no broker answers.
        PermissionRefused: this user may not draw there.
        UsageError: no such size, class or broker.
        ConfigError, StateUnavailable: the machine's configuration or state has a fault.
        FileExistsError: the receipt's file is there already.
    """
    check_draw(n_bytes, draw_class, covered=receipt is not None)
    config = load()
    await renew_all(due_identities(config, via))
    upstream = choose_upstream(config, via)
    data = bytearray()
    try:
        with ReceiptFiles(receipt) as files:
            while len(data) < n_bytes:
                piece = min(MAX_DRAW_BYTES, n_bytes - len(data))
                grant = await _patiently(upstream, piece, DrawClass(draw_class), wait_s, files.options)
                files.write(grant)
                data += grant.data
    finally:
        await upstream.aclose()
    return bytes(data)


async def _patiently(
    upstream: Upstream, n_bytes: int, draw_class: DrawClass, wait_s: float, options: DrawOptions
) -> Grant:
    """Do the same as `roles.upstream.draw_patiently`, awaited."""
    now = asyncio.get_running_loop().time
    deadline = now() + wait_s
    while True:
        options["patience_s"] = max(0.0, deadline - now())
        try:
            return await upstream.draw(n_bytes, draw_class, **options)
        except Refused as error:
            pause = error.retry_after_s
            if pause is None or now() + pause > deadline:
                raise
            await asyncio.sleep(pause)


class AwaitedRandom:
    """Random choices of which every bit is drawn; nothing is read ahead.

    Args:
        draw_class: As in `draw`.
        via: As in `draw`.
        wait_s: As in `draw`.
    """

    def __init__(
        self, *, draw_class: ClassName = "full", via: str | None = None, wait_s: float = 0.0
    ) -> None:
        self._draw_class: ClassName = draw_class
        self._via = via
        self._wait_s = wait_s

    async def randbytes(self, n: int) -> bytes:
        """Return `n` bytes; raises as `draw`."""
        if n == 0:
            return b""
        return await draw(n, draw_class=self._draw_class, via=self._via, wait_s=self._wait_s)

    async def getrandbits(self, k: int) -> int:
        """Return a whole number of `k` bits; raises as `draw`."""
        if k < 0:
            raise ValueError("number of bits must be non-negative")
        data = await self.randbytes((k + 7) // 8)
        return int.from_bytes(data, "big") >> (-k % 8)

    async def random(self) -> float:
        """Return a number from 0 to 1, without 1; raises as `draw`."""
        return await self.getrandbits(_FLOAT_BITS) * 2.0**-_FLOAT_BITS

    async def randint(self, a: int, b: int) -> int:
        """Return a whole number from `a` to `b`, both included; raises as `draw`."""
        return a + await self._below(b - a + 1)

    async def choice(self, seq: Sequence[T]) -> T:
        """Return one element of a sequence that is not empty; raises as `draw`."""
        if not seq:
            raise IndexError("Cannot choose from an empty sequence")
        return seq[await self._below(len(seq))]

    async def shuffle(self, x: MutableSequence[T]) -> None:
        """Shuffle `x` in place; raises as `draw`."""
        for i in reversed(range(1, len(x))):
            j = await self._below(i + 1)
            x[i], x[j] = x[j], x[i]

    async def sample(self, population: Sequence[T], k: int) -> list[T]:
        """Return `k` elements, in the order drawn; raises as `draw`."""
        if not 0 <= k <= len(population):
            raise ValueError("Sample larger than population or is negative")
        pool = list(population)
        for i in range(k):
            j = i + await self._below(len(pool) - i)
            pool[i], pool[j] = pool[j], pool[i]
        return pool[:k]

    async def _below(self, n: int) -> int:
        """Return a whole number below `n`, by rejection: all are as likely."""
        if n < 1:
            raise ValueError("empty range")
        k = n.bit_length()
        while (number := await self.getrandbits(k)) >= n:
            pass
        return number


Random = AwaitedRandom
