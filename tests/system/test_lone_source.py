"""Source and broker as separate processes, with a simulated stick."""

import asyncio
import json
import signal
from collections import Counter
from pathlib import Path

import pytest

from drawwell.entropy.blocks import DrawClass
from drawwell.errors import DrawwellError
from drawwell.links.unix import UnixLink
from drawwell.testing.waiting import DEADLINE_S, wait_until
from support.daemon import Daemon, StickThread, command

pytestmark = pytest.mark.slow


class Place:
    """A folder with a configuration for both processes."""

    def __init__(self, folder: Path, *, verify: str = "off") -> None:
        self.folder = folder
        self.config = folder / "drawwell.toml"
        self.config.write_text(
            f'[broker]\nname = "well"\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n'
            f'[[source]]\nname = "stick"\npath = "{folder}/stick"\nverify_firmware = "{verify}"\nstall = 2\n'
        )

    def broker(self) -> Daemon:
        return Daemon("broker", "run", config=self.config, log=self.folder / "broker.log")

    def source(self, *arguments: str) -> Daemon:
        return Daemon(
            "source", "run", *(arguments or ("stick",)), config=self.config, log=self.folder / "source.log"
        )

    def status(self) -> dict:
        async def ask() -> dict:
            link = UnixLink(str(self.folder / "run" / "control.sock"))
            try:
                return await link.call("status", {})
            except DrawwellError:
                return {"ready": False, "sources": []}
            finally:
                await link.aclose()

        return asyncio.run(ask())

    def until_ready(self) -> dict:
        return wait_until(
            lambda: (s := self.status())["ready"] and s["reservoir_bytes"] > 65_536 and s, "it serves"
        )

    def until_gone(self) -> str:
        """Wait until the source no longer counts; return the reason."""
        wait_until(lambda: (s := self.status())["sources"] and not s["ready"], "the source is gone")
        (source,) = self.status()["sources"]
        return f"{source['state']}: {source['last_error']}"


def test_from_a_stick_through_two_processes_to_a_draw(folder) -> None:
    """Started in any order they connect, serve and end cleanly."""
    place = Place(folder, verify="require")
    with StickThread(folder / "stick", rate=0), place.source() as source:
        source.wait_for_text("no broker accepts deposits")
        with place.broker() as broker:
            status = place.until_ready()
            assert status["ledger"]["balanced"]
            assert [s["identity"]["name"] for s in status["sources"]] == ["stick"]
            done = command("draw", "32", "--hex", config=place.config)
            assert (done.returncode, len(done.stdout.strip())) == (0, 64)
            asked = command("onerng", "info", "--json", "stick", config=place.config)
            assert (asked.returncode, json.loads(asked.stdout)["version"]) == (0, 3)
            assert source.stop(signal.SIGTERM) == 0
            assert place.until_gone() == "off: the source's process ended: it was stopped"
            refused = command("draw", "1", config=place.config)
            assert refused.returncode == 69
            assert broker.stop(signal.SIGTERM) == 0
    assert sorted(each.name for each in (folder / "run").iterdir()) == []


def test_a_source_killed_is_gone_and_one_that_is_started_again_is_taken_in(folder) -> None:
    """After SIGKILL the broker reports the loss, and accepts the next source."""
    place = Place(folder)
    with StickThread(folder / "stick", rate=0), place.broker():
        with place.source() as source:
            place.until_ready()
            source.kill()
            assert place.until_gone() == "off: the source's process is gone"
        with place.source():
            place.until_ready()


def test_a_broker_killed_is_found_again_and_no_byte_is_served_twice(folder) -> None:
    """Across killed brokers the source stays healthy; no byte repeats."""
    place = Place(folder)
    served: list[bytes] = []

    async def draw() -> None:
        link = UnixLink(str(folder / "run" / "draw.sock"))
        served.extend([(await link.draw(16_384, DrawClass.FULL)).data for _ in range(3)])
        await link.aclose()

    with StickThread(folder / "stick", rate=0), place.source() as source:
        for _ in range(3):
            with place.broker():
                (report,) = place.until_ready()["sources"]
                assert report["health_epoch"] == 1
                asyncio.run(draw())
        assert source.running
        assert source.stop(signal.SIGINT) == 0
    pieces = [data[at : at + 16] for data in served for at in range(0, len(data), 16)]
    assert len(pieces) == len(set(pieces))


def test_a_broker_that_stands_still_stops_the_source_and_both_go_on(folder) -> None:
    """The source queues nothing while the broker is stopped."""
    place = Place(folder)
    with StickThread(folder / "stick", rate=0) as stick, place.source() as source, place.broker() as broker:
        place.until_ready()
        asyncio.run(_drain(str(folder / "run" / "draw.sock")))
        broker.send(signal.SIGSTOP)
        # the source reads until the buffers are full, then a block every second
        same = Counter()

        def rests() -> bool:
            same[stick.device.sent_bytes] += 1
            return same[stick.device.sent_bytes] > 30

        wait_until(rests, "it rests")
        resident = _resident_kib(source.pid)
        assert source.running
        broker.send(signal.SIGCONT)
        place.until_ready()
        assert _resident_kib(source.pid) < resident + 8192


async def _drain(path: str) -> None:
    link = UnixLink(path)
    for _ in range(4):
        await link.draw(65_536, DrawClass.FULL, patience_s=DEADLINE_S)
    await link.aclose()


def _resident_kib(pid: int) -> int:
    (line,) = (
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")
    )
    return int(line.split()[1])


def test_a_source_whose_stick_is_pulled_ends_by_name(folder) -> None:
    """Unplugged, it exits with 69 and the cause; it cannot start without one."""
    place = Place(folder)
    with place.broker():
        with StickThread(folder / "stick", rate=0) as stick, place.source() as source:
            place.until_ready()
            stick.do("unplug")
            assert source.ended() == 69
        assert "unplugged" in source.output or "not there" in source.output
        why = place.until_gone()
        assert why.startswith("off: the source's process ended: ")
        with place.source() as source:
            assert source.ended() == 69


def test_a_silent_stick_does_not_end_its_source(folder) -> None:
    """A stall is reported, and the same process recovers."""
    place = Place(folder)
    with StickThread(folder / "stick", rate=0) as stick, place.broker(), place.source() as source:
        place.until_ready()
        stick.do("set_fault", "silent")
        wait_until(lambda: not place.status()["ready"], "it is found out")
        assert source.running
        stick.do("set_fault", "none")
        (report,) = place.until_ready()["sources"]
        assert report["health_epoch"] >= 2
        assert source.running


def test_a_stick_with_bad_firmware_ends_its_source_for_good(folder) -> None:
    """The source exits with 65, which no unit restarts; the broker has why."""
    place = Place(folder, verify="require")
    with StickThread(folder / "stick", rate=0, fault="bad-firmware"), place.broker() as broker:
        broker.wait_for_text("starting with")
        with place.source() as source:
            assert source.ended() == 65
        wait_until(lambda: "firmware" in broker.output.partition("starting with")[2], "the broker reports it")
        assert "firmware" in place.until_gone()


def test_a_device_that_is_not_configured_is_named_by_its_node(folder) -> None:
    """--device accepts a node, which gives the source its name."""
    place = Place(folder)
    place.config.write_text(place.config.read_text().partition("[[source]]")[0])
    with StickThread(folder / "one", rate=0), StickThread(folder / "two", rate=0), place.broker():
        with (
            Daemon(
                "source", "run", "--device", str(folder / "one"), config=place.config, log=folder / "one.log"
            ),
            Daemon(
                "source", "run", "--device", str(folder / "two"), config=place.config, log=folder / "two.log"
            ),
        ):
            names = wait_until(
                lambda: (
                    [s["identity"]["name"] for s in place.status()["sources"] if s["state"] == "healthy"][1:2]
                    and sorted(s["identity"]["name"] for s in place.status()["sources"])
                ),
                "both are healthy",
            )
        assert names == ["onerng-one", "onerng-two"]


def test_the_process_that_holds_the_device_maps_no_cryptography(folder) -> None:
    """The running source loads none of the broker's libraries (law 10)."""
    place = Place(folder)
    with StickThread(folder / "stick", rate=0), place.broker() as broker, place.source() as source:
        place.until_ready()
        maps = {each: Path(f"/proc/{each.pid}/maps").read_text() for each in (broker, source)}
        assert "cryptography" in maps[broker]
        assert "cryptography" not in maps[source]
        assert not any("site-packages" in line for line in maps[source].splitlines())
        assert "libssl" not in maps[source]
