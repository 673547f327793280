"""Readiness of a broker that is cut off from its store."""

import asyncio
import contextlib

import pytest

from drawwell.cli import main
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import StateUnavailable
from drawwell.links.unix import UnixLink
from drawwell.simulator.pty import PtyDevice
from support.fleet import FleetSites
from support.station import running

pytestmark = pytest.mark.slow


@pytest.fixture
def site(folder, fleet_database):
    (site,) = FleetSites(folder, fleet_database, ("a",)).sites
    site.path.write_text(f'{site.path.read_text()}[health]\nlisten = "{site.address}:9155"\n')
    return site


async def readyz(site) -> str:
    """Return the answer of /readyz."""
    reader, writer = await asyncio.open_connection(site.address, 9155)
    writer.write(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")
    answer = (await reader.read()).decode()
    writer.close()
    return answer


def test_a_broker_that_is_cut_off_is_not_ready(site, capsys) -> None:
    """Probes, fleet and Nagios report this once the fleet's consumers fail.

    The consumers of this machine are served.
    """

    async def run() -> None:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(PtyDevice(site.folder / "stick", rate=0))
            process = await stack.enter_async_context(running(site))
            await site.until_healthy(share=0.1)
            link, local = site.link(await site.enrol("web01")), UnixLink(site.draw_socket)
            await link.draw(8, DrawClass.DRBG)
            assert "200" in (await readyz(site)).splitlines()[0]
            feed = process.station._fleet._feed
            grace_s, feed._grace_s = feed._grace_s, -1.0
            with pytest.raises(StateUnavailable, match="no answer from the fleet's store"):
                await link.draw(8, DrawClass.DRBG)
            answer = await readyz(site)
            assert "503" in answer.splitlines()[0]
            assert "no answer from the fleet's store" in answer
            assert not (await link.call("status", {}))["ready"]
            assert process.station._row().report["ready"] is False
            code = await asyncio.to_thread(main, ["-c", str(site.path), "check-health"])
            assert (code, "no answer" in capsys.readouterr().out) == (2, True)
            assert (await local.draw(8, DrawClass.DRBG)).data
            feed._grace_s = grace_s
            assert "200" in (await readyz(site)).splitlines()[0]
            for each in (link, local):
                await each.aclose()

    asyncio.run(run())
