"""Draw bytes and make random choices without an event loop."""

import os
import random
from typing import Any, Literal, NoReturn, TypedDict

from drawwell.config.load import load
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import UsageError
from drawwell.roles.upstream import choose_blocking, draw_patiently, due_identities, renew_all
from drawwell.state.new_files import NewFiles
from drawwell.wire.limits import MAX_DRAW_BYTES

__all__ = ["Random", "draw"]

ClassName = Literal["full", "drbg"]
Path = str | os.PathLike[str]


def draw(
    n_bytes: int,
    *,
    draw_class: ClassName = "full",
    receipt: Path | None = None,
    via: str | None = None,
    wait_s: float = 0.0,
) -> bytes:
    """Draw random bytes; no other caller ever receives the same bytes.

    Arguments and errors are those of `drawwell.aio.draw`. Because this function blocks, a
    thread with an event loop should await `drawwell.aio.draw` instead.
    """
    covered = receipt is not None
    check_draw(n_bytes, draw_class, covered=covered)
    config = load()
    if due := due_identities(config, via):
        import asyncio  # noqa: PLC0415  not needed for a draw on this machine

        asyncio.run(renew_all(due))
    link = choose_blocking(config, via)
    data = bytearray()
    try:
        with NewFiles(*receipt_paths(receipt)) as files:
            while len(data) < n_bytes:
                piece = min(MAX_DRAW_BYTES, n_bytes - len(data))
                grant = draw_patiently(link, piece, DrawClass(draw_class), wait_s, receipt=covered)
                if covered:
                    files.write(grant.receipt, grant.receipt_key)
                data += grant.data
            files.keep()
    finally:
        link.close()
    return bytes(data)


def check_draw(n_bytes: int, draw_class: str, *, covered: bool) -> None:
    """Check a draw's size and class; `covered`: whether it has a receipt.

    Raises:
        UsageError: invalid size or class.
    """
    if n_bytes < 1:
        raise UsageError(f"cannot draw {n_bytes} bytes", hint="Draw at least one byte.")
    if draw_class not in set(DrawClass):
        raise UsageError(f"unknown class {draw_class!r}", hint="Use 'full' or 'drbg'.")
    if covered and n_bytes > MAX_DRAW_BYTES:
        raise UsageError(f"a receipt covers at most {MAX_DRAW_BYTES} bytes", hint="Draw in several pieces.")


def receipt_paths(receipt: Path | None) -> tuple[str, ...]:
    """Return the paths of a receipt and its key, or an empty tuple."""
    return () if receipt is None else (os.fspath(receipt), f"{os.fspath(receipt)}.key")


class Drawing:
    """The draw options of a generator that never reads ahead.

    Args:
        draw_class: As in `draw`.
        via: As in `draw`.
        wait_s: As in `draw`.
    """

    def __init__(
        self, *, draw_class: ClassName = "full", via: str | None = None, wait_s: float = 0.0
    ) -> None:
        self._how: _How = {"draw_class": draw_class, "via": via, "wait_s": wait_s}
        super().__init__()


class _How(TypedDict):
    draw_class: ClassName
    via: str | None
    wait_s: float


class Random(Drawing, random.Random):
    """A `random.Random` that draws every bit.

    It never reads ahead, so a forked or copied process does not repeat any output. It has no
    state and takes no seed. Every call can raise the errors of `draw`. The arguments are those
    of `Drawing`.
    """

    def randbytes(self, n: int) -> bytes:
        """Return `n` bytes."""
        if n == 0:
            return b""
        return draw(n, **self._how)

    def getrandbits(self, k: int, /) -> int:
        """Return an integer of `k` bits."""
        if k < 0:
            raise ValueError("number of bits must be non-negative")
        return int.from_bytes(self.randbytes((k + 7) // 8), "big") >> (-k % 8)

    def random(self) -> float:
        """Return a float in [0, 1) with 53 random bits (IEEE 754)."""
        return self.getrandbits(53) * 2.0**-53

    def gauss(self, mu: float = 0.0, sigma: float = 1.0) -> float:
        """Return a normally distributed number, without caching a second one."""
        return self.normalvariate(mu, sigma)

    def seed(self, a: Any = None, version: int = 2) -> None:  # noqa: ARG002  the signature of the base class
        """Refuse a seed, because drawn bytes cannot be repeated.

        Raises:
            NotImplementedError: `a` is not None.
        """
        if a is not None:
            raise NotImplementedError("hardware noise has no seed")

    def getstate(self) -> NoReturn:
        """Raise NotImplementedError: there is no state."""
        raise NotImplementedError("hardware noise has no state")

    def setstate(self, state: Any) -> NoReturn:
        """Raise NotImplementedError: there is no state."""
        raise NotImplementedError("hardware noise has no state")
