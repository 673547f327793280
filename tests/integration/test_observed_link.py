"""A machine without a broker is monitored at its link."""

import asyncio
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from drawwell.config.load import load
from drawwell.roles.link_process import LinkProcess
from drawwell.service.systemd import Manager
from drawwell.testing.waiting import until
from support.daemon import command


def answer(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Host": "localhost"})) as found:
            return found.status, found.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_link_without_its_broker_is_seen(folder: Path) -> None:
    """Metrics, page, probe and plugin name the broker that does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        health = f"127.0.0.1:{free.getsockname()[1]}"
    path = folder / "drawwell.toml"
    path.write_text(
        f'[broker]\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n[health]\nlisten = "{health}"\n'
        f'[[upstream]]\nurl = "unix://{folder}/nowhere.sock"\n'
    )

    async def story() -> tuple[list[tuple[int, str]], subprocess.CompletedProcess[str]]:
        link, stop = LinkProcess(load(str(path)), Manager({})), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(link.run(stop))
            await until(lambda: all(door.ready.is_set() for door in link.doors), "it listens")
            found = [
                await asyncio.to_thread(answer, f"http://{health}/{each}")
                for each in ("metrics", "ui", "readyz")
            ]
            plugin = await asyncio.to_thread(command, "check-health", config=path)
            stop.set()
        return found, plugin

    (metrics, page, probe), plugin = asyncio.run(story())
    assert (metrics[0], page[0], probe[0]) == (200, 200, 503)
    assert f'drawwell_link_ready{{upstream="unix://{folder}/nowhere.sock"}} 0' in metrics[1]
    assert f"<title>link: broker unix://{folder}/nowhere.sock" in page[1]
    assert '<section id="links"' in page[1]
    assert plugin.returncode == 2
    assert f"DRAWWELL CRITICAL - broker unix://{folder}/nowhere.sock" in plugin.stdout
