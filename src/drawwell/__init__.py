"""True randomness from hardware that its owner trusts, drawn only once.

`draw` returns bytes from this machine's configured sources or brokers. `Random` is a
`random.Random` that draws every bit. `aio` has both for asyncio. `errors` has the exceptions.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drawwell import aio, errors
    from drawwell.sync import Random, draw

__all__ = ["Random", "__version__", "aio", "draw", "errors"]

__version__ = "0.1.0.dev0"
__build_date__ = 1_735_689_600
"""2025-01-01 in seconds since 1970, updated at each release. A correct clock is later."""


def __getattr__(name: str) -> Any:
    """Import a public name on first use, to keep importing the package fast."""
    if name in {"Random", "draw"}:
        return getattr(import_module("drawwell.sync"), name)
    if name in {"aio", "errors"}:
        return import_module(f"drawwell.{name}")
    raise AttributeError(f"module 'drawwell' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
