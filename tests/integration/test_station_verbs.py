"""The control verbs of a running broker."""

import asyncio
from pathlib import Path

from drawwell.errors import DrawwellError
from drawwell.verbs import CONTROL_VERBS
from support.station import Site, running


def test_every_verb_has_a_handler(folder: Path) -> None:
    """A broker with all its parts objects to an unknown argument only."""

    async def objection(site: Site, verb: str) -> str:
        try:
            return str(await site.ask(verb, {"unknown": 1}))
        except DrawwellError as error:
            return str(error)

    async def run() -> dict[str, str]:
        site = Site(folder)
        async with running(site):
            return {verb: await objection(site, verb) for verb in CONTROL_VERBS}

    assert asyncio.run(run()) == {verb: f"{verb} takes no 'unknown'" for verb in CONTROL_VERBS}
