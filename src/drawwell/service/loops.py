"""The event loop: uvloop if installed, otherwise asyncio's own.

Only unprivileged processes use uvloop (law 10): the broker and the links.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from importlib.util import find_spec
from typing import Any, Final

ENVIRONMENT: Final = "DRAWWELL_LOOP"
"""With the value ``asyncio``, this variable selects asyncio's own loop."""


def loop_factory(environ: Mapping[str, str]) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return the loop factory for `run`; None for asyncio's own loop."""
    if environ.get(ENVIRONMENT) == "asyncio" or find_spec("uvloop") is None:
        return None
    import uvloop  # noqa: PLC0415 - imported only here

    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def run(main: Coroutine[Any, Any, None], factory: Callable[[], asyncio.AbstractEventLoop] | None) -> None:
    """Run `main` to completion on a loop made by `factory`."""
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)
