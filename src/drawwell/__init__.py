"""True randomness from hardware its owner trusts, drawn once and with proof.

`draw` returns bytes from where this machine's configuration says, `Random` is a `random.Random`
over it, `aio` has both for asyncio, and `errors` what they raise.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drawwell import aio, errors
    from drawwell.sync import Random, draw

__all__ = ["Random", "__version__", "aio", "draw", "errors"]

__version__ = "0.1.0.dev0"
__build_date__ = 1_735_689_600
"""2025-01-01, in seconds since 1970, raised at releases: no clock that was set shows a time before it."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: the package itself stays quick to import."""
    if name in {"Random", "draw"}:
        return getattr(import_module("drawwell.sync"), name)
    if name in {"aio", "errors"}:
        return import_module(f"drawwell.{name}")
    raise AttributeError(f"module 'drawwell' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
