"""The control verbs of a running broker."""

import asyncio
from pathlib import Path

from drawwell.errors import DrawwellError
from drawwell.verbs import CONTROL_VERBS
from support.station import Site, running


def test_every_verb_has_a_handler(folder: Path) -> None:
    """For any verb, a complete broker refuses only the unknown argument."""

    async def objection(site: Site, verb: str) -> str:
        try:
            return str(await site.ask(verb, {"unknown": 1}))
        except DrawwellError as error:
            return str(error)

    async def run() -> dict[str, str]:
        site = Site(folder)
        async with running(site):
            return {verb: await objection(site, verb) for verb in CONTROL_VERBS}

    assert asyncio.run(run()) == {verb: f"{verb}: unknown argument 'unknown'" for verb in CONTROL_VERBS}
