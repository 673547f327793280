"""Only the owner and listed consumers see names."""

import asyncio
import subprocess
from pathlib import Path

from drawwell.entropy.blocks import DrawClass
from drawwell.links.identity import LinkIdentity
from drawwell.simulator.pty import PtyDevice
from support.station import Site, running

MORE = '[http]\nlisten = "{folder}/run/http.sock"\n[health]\nobservers = ["seer"]\n'


def curl(*arguments: str) -> tuple[str, str]:
    """Return status and body of curl's result."""
    done = subprocess.run(
        ["curl", "--silent", "--write-out", "\n%{http_code}", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    body, _, status = done.stdout.rpartition("\n")
    return status, body


def over_tls(site: Site, identity: LinkIdentity, path: str) -> tuple[str, str]:
    files = ("--cacert", identity.ca_path, "--cert", identity.certificate_path, "--key", identity.key_path)
    return curl(*files, f"https://{site.tls}{path}")


def test_observers_and_the_owner_see_names(folder: Path) -> None:
    """A listed consumer over TLS and the owner see names; others do not."""
    site = Site(folder)
    site.write(MORE.format(folder=folder))

    async def story() -> None:
        async with PtyDevice(folder / "stick", rate=0), running(site):
            await site.until_healthy()
            seer, web = await site.enrol("seer"), await site.enrol("web01")
            link = site.link(web)
            await link.draw(32, DrawClass.FULL)
            await link.aclose()
            status, text = await asyncio.to_thread(over_tls, site, seer, "/ui")
            assert "consumer.invite  name=seer" in text
            for path in ("/metrics", "/ui"):
                status, text = await asyncio.to_thread(over_tls, site, seer, path)
                assert (status, "web01" in text) == ("200", True), text
                status, text = await asyncio.to_thread(over_tls, site, web, path)
                assert (status, "observers in [health]" in text) == ("403", True), text
                socket = ("--unix-socket", f"{folder}/run/http.sock", f"http://localhost{path}")
                status, text = await asyncio.to_thread(curl, *socket)
                assert (status, "web01" in text) == ("200", True), text

    asyncio.run(story())
