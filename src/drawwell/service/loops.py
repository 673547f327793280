"""The event loop: uvloop where it is installed, else asyncio's own.

Only processes without a privilege use it (law 10): the broker and the links.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from importlib.util import find_spec
from typing import Any, Final

ENVIRONMENT: Final = "DRAWWELL_LOOP"
"""``asyncio`` keeps to asyncio's own loop."""


def loop_factory(environ: Mapping[str, str]) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the loop of `run`; None for asyncio's own."""
    if environ.get(ENVIRONMENT) == "asyncio" or find_spec("uvloop") is None:
        return None
    import uvloop  # noqa: PLC0415 - only here

    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def run(main: Coroutine[Any, Any, None], factory: Callable[[], asyncio.AbstractEventLoop] | None) -> None:
    """Run `main` to its end on a loop that `factory` makes."""
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)
