"""The broker reports the process that feeds the kernel."""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from drawwell.config.load import load
from drawwell.reports import SinkReport
from drawwell.simulator.pty import PtyDevice
from support.station import Site, running


def test_a_feeder_without_a_door_is_in_the_report(folder: Path) -> None:
    """The sink in its report is listed with the broker's; a broken one is not."""
    site = Site(folder)
    path = Path(load(str(site.path)).broker.feed_report)
    sink = asdict(SinkReport("kernel", 3, 1536, 12_288, 1, ""))

    def write(document: dict[str, Any]) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"sink": document}))

    async def story() -> None:
        async with PtyDevice(folder / "stick", rate=0), running(site):
            await site.until_healthy()
            write(sink)
            assert (await site.ask("status"))["sinks"] == [sink]
            write({"nonsense": 1})
            assert (await site.ask("status"))["sinks"] == []

    asyncio.run(story())
