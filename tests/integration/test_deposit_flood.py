"""A source that floods the broker with reports gets only its share."""

import asyncio
import contextlib

from drawwell.broker.remote_sources import RemoteSource
from drawwell.doors.unix import UnixDoor
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import Starved
from drawwell.links.unix import UnixLink
from drawwell.reports import SourceReport
from drawwell.testing.waiting import until
from drawwell.wire.deposit_frames import SourceStatus
from support.deposits import HEALTHY, Liar, Well
from support.serving import serving

REPORTS = 4000
DRAWS = 20


def test_a_flood_of_reports_delays_a_draw_by_a_turn(folder, monkeypatch) -> None:
    """Between two draws the broker handles only a few of thousands of reports."""
    order: list[str] = []
    take = RemoteSource.update

    def update(source: RemoteSource, report: SourceReport) -> None:
        order.append("r")
        take(source, report)

    monkeypatch.setattr(RemoteSource, "update", update)

    async def run() -> None:
        async with Well(folder / "s").open() as well:
            liar = await Liar.at(folder / "s")
            await well.here("liar")
            door = UnixDoor(str(folder / "draw"), well.broker, lambda *_: "web01")
            async with serving(door):
                link = UnixLink(door.path)
                liar.writer.write(SourceStatus(HEALTHY).encode() * REPORTS)
                await until(lambda: len(order) > 1, "the flood has begun")
                for _ in range(DRAWS):
                    order.append("d")
                    with contextlib.suppress(Starved):
                        await link.draw(1, DrawClass.DRBG)
                await link.aclose()
            liar.writer.close()

    asyncio.run(run())
    runs = [len(reports) for reports in "".join(order).split("d")[1:-1]]
    assert max(runs) < 100
    assert sum(runs) > 0
