"""Draw bytes and make random choices without an event loop."""

import os
import random
from typing import Any, Literal, NoReturn, Self

from drawwell.config.load import load
from drawwell.entropy.blocks import DrawClass, DrawOptions, Grant
from drawwell.errors import UsageError
from drawwell.roles.upstream import choose_blocking, draw_patiently, due_identities, renew_all
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
    """Draw bytes, each once and for this caller alone.

    Arguments and errors are those of `drawwell.aio.draw`.

    In a thread with an event loop it would block that: await `drawwell.aio.draw` there.
    """
    check_draw(n_bytes, draw_class, covered=receipt is not None)
    config = load()
    if due := due_identities(config, via):
        import asyncio  # noqa: PLC0415  a draw on this machine needs none

        asyncio.run(renew_all(due))
    link = choose_blocking(config, via)
    data = bytearray()
    try:
        with ReceiptFiles(receipt) as files:
            while len(data) < n_bytes:
                piece = min(MAX_DRAW_BYTES, n_bytes - len(data))
                grant = draw_patiently(link, piece, DrawClass(draw_class), wait_s, **files.options)
                files.write(grant)
                data += grant.data
    finally:
        link.close()
    return bytes(data)


def check_draw(n_bytes: int, draw_class: str, *, covered: bool) -> None:
    """Check what is asked for; `covered` by a receipt or not.

    Raises:
        UsageError: no such size or class.
    """
    if n_bytes < 1:
        raise UsageError(f"{n_bytes} is not a number of bytes", hint="Draw one or more.")
    if draw_class not in set(DrawClass):
        raise UsageError(f"no class is called {draw_class!r}", hint="Classes are 'full' and 'drbg'.")
    if covered and n_bytes > MAX_DRAW_BYTES:
        raise UsageError(f"a receipt covers {MAX_DRAW_BYTES} bytes", hint="Draw in several pieces.")


class ReceiptFiles:
    """A receipt and its key in new files, mode 0600: both or neither.

    Args:
        path: The receipt's file; None if no receipt is wanted.
    """

    def __init__(self, path: Path | None) -> None:
        self.options: DrawOptions = {"receipt": path is not None}
        name = "" if path is None else os.fspath(path)
        self._paths = (name, f"{name}.key") if name else ()
        self._made: list[str] = []
        self._fds: list[int] = []

    def __enter__(self) -> Self:
        try:
            for path in self._paths:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                self._fds.append(os.open(path, flags, 0o600))
                self._made.append(path)
        except OSError:
            self.__exit__()
            raise
        return self

    def write(self, grant: Grant) -> None:
        """Write what came with a grant, and keep the files."""
        for fd, data in zip(self._fds, (grant.receipt, grant.receipt_key), strict=False):
            with os.fdopen(os.dup(fd), "wb") as file:
                file.write(data)
        self._made.clear()

    def __exit__(self, *_: object) -> None:
        for fd in self._fds:
            os.close(fd)
        for path in self._made:
            os.unlink(path)


class Random(random.Random):
    """A `random.Random` of which every bit is drawn.

    Nothing is read ahead, so that a forked or copied process repeats nothing. It has no state
    and takes no seed. Every call may raise what `draw` raises.

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
        super().__init__()

    def randbytes(self, n: int) -> bytes:
        """Return `n` bytes."""
        if n == 0:
            return b""
        return draw(n, draw_class=self._draw_class, via=self._via, wait_s=self._wait_s)

    def getrandbits(self, k: int, /) -> int:
        """Return a whole number of `k` bits."""
        if k < 0:
            raise ValueError("number of bits must be non-negative")
        return int.from_bytes(self.randbytes((k + 7) // 8), "big") >> (-k % 8)

    def random(self) -> float:
        """Return a number from 0 to 1, without 1, of 53 bits (IEEE 754)."""
        return self.getrandbits(53) * 2.0**-53

    def gauss(self, mu: float = 0.0, sigma: float = 1.0) -> float:
        """Return a normally distributed number; no second one is kept."""
        return self.normalvariate(mu, sigma)

    def seed(self, a: Any = None, version: int = 2) -> None:  # noqa: ARG002  the signature of the base class
        """Refuse a seed: what was drawn cannot be repeated.

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
