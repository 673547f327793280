"""A workbench with known bytes in its reservoir."""

from drawwell.broker.account import Terms
from drawwell.broker.broker import Rules
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import (
    PermissionRefused,
    Refused,
    StateUnavailable,
)
from drawwell.testing import sick
from drawwell.testing.virtual_time import run_virtually
from drawwell.units import Allowance
from support.workbench import Workbench

FULL, DRBG = DrawClass.FULL, DrawClass.DRBG
BOTH = frozenset(DrawClass)
KNOWN = sick.good(1).read(65_536)


def sourceless(**keywords) -> Workbench:
    """Return a bench without sources, which serves only bytes put into it."""
    keywords.setdefault("rules", Rules("bench", min_sources=0))
    return Workbench(**keywords)


def limited(rate: str | None = None, total: Allowance | None = None, classes=BOTH) -> Terms:
    return Terms(classes, Allowance(int(rate), 1.0) if rate else None, total)


def on_bench(scenario, **keywords) -> Workbench:
    """Run `scenario(bench)` on a bench with known bytes and its writer."""

    async def run() -> Workbench:
        bench = sourceless(**keywords)
        bench.put(KNOWN)
        async with bench.run():
            await scenario(bench)
        return bench

    return run_virtually(run())


async def refusal(drawing) -> str:
    try:
        await drawing
    except (Refused, PermissionRefused, StateUnavailable) as error:
        return type(error).__name__
    return "served"
