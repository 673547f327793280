"""The kernel feeder in its own process: credit, trust and reports."""

import asyncio
import contextlib
import json
import os
import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from drawwell.config.load import load
from drawwell.config.model import Config
from drawwell.doors.unix import UnixDoor
from drawwell.entropy.blocks import DrawClass
from drawwell.errors import PermissionRefused
from drawwell.host.kernel import KernelFacts
from drawwell.links.unix import UnixLink
from drawwell.reports import Evidence
from drawwell.roles.kernel_process import EvidenceCheckedUpstream, Feeder, believed, read_report
from drawwell.roles.link_process import LinkProcess
from drawwell.service.systemd import Manager
from drawwell.sinks.kernel import RNDADDENTROPY, KernelSink
from drawwell.testing.virtual_time import run_virtually
from drawwell.testing.waiting import until
from support.daemon import StickThread, command
from support.fake_broker import FakeBroker
from support.serving import serving
from support.station import Site, running

SEEDED = KernelFacts(
    release="6.1", pool_bits=256, entropy_avail_bits=256, write_wakeup_bits=256,
    fips_enabled=False, may_feed=True, container="",
)  # fmt: skip


class Kernel:
    """A kernel that records credit and size of each feed."""

    def __init__(self) -> None:
        self.feeds: list[tuple[int, int]] = []

    def __call__(self, _fd: int, request: int, argument: object) -> int:
        if request == RNDADDENTROPY:
            self.feeds.append(struct.unpack_from("ii", argument))
        return 0

    def sink(self, **settings: object) -> KernelSink:
        return KernelSink(device="/dev/null", ioctl=self, facts=lambda: SEEDED, **settings)


def configured(folder: Path, more: str = "") -> Config:
    path = folder / "consumer.toml"
    path.write_text(
        f'[broker]\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n[kernel]\nfeed = true\n{more}\n'
    )
    return load(str(path))


@contextlib.asynccontextmanager
async def lives(run: Callable[[asyncio.Event], object]) -> AsyncIterator[None]:
    """Run a role during the block."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(run(stop))
        try:
            yield
        finally:
            stop.set()


def deliveries(config: Config) -> int:
    """Return how many times the feeder reports having fed the kernel."""
    report = read_report(config.broker.feed_report)
    return report["sink"]["deliveries"] if report else 0


async def fed_once(config: Config) -> tuple[int, int]:
    """Feed a kernel once; return credit and size, in bits and bytes."""
    kernel = Kernel()
    async with lives(Feeder(config, Manager({}), kernel.sink).run):
        await until(lambda: kernel.feeds, "the kernel was fed")
    return kernel.feeds[0]


@pytest.mark.parametrize(
    ("answer", "credit"),
    [
        ({"evidence": "noise device"}, 256),
        ({"evidence": "unvouched"}, 0),
        ({"evidence": "no noise"}, 0),
        ({}, 0),
        ({"evidence": True}, 0),
        ({"genuine": True}, 0),
    ],
)
def test_only_what_the_broker_vouches_for_is_credited(folder: Path, answer: dict, credit: int) -> None:
    """The pool gets 256 bits of credit only if all sources are real hardware."""
    config = configured(folder)
    (folder / "run").mkdir()
    broker = FakeBroker()
    broker.results["status"] = answer

    async def run() -> tuple[int, int]:
        async with serving(UnixDoor(config.unix.path, broker, lambda *_: "kernel")):
            return await fed_once(config)

    assert asyncio.run(run()) == (credit, 64)


class Restarted(UnixLink):
    """A link to a broker that ends between draw and evidence."""

    async def call(self, verb: str, args: dict) -> dict:
        await self.aclose()
        return await super().call(verb, args)


def test_a_broker_that_was_started_again_vouches_for_nothing_that_came_before(folder: Path) -> None:
    """Evidence from one session earns no credit for a draw in another."""
    broker = FakeBroker()
    broker.results["status"] = {"evidence": "noise device"}
    path = str(folder / "draw.sock")

    async def run() -> list[Evidence]:
        vouched = []
        async with serving(UnixDoor(path, broker, lambda *_: "kernel")):
            for link in (UnixLink(path), Restarted(path)):
                upstream = EvidenceCheckedUpstream(link)
                await upstream.draw(64, DrawClass.FULL)
                vouched.append(upstream.evidence)
                await upstream.aclose()
        return vouched

    assert asyncio.run(run()) == [Evidence.DEVICE, Evidence.NO_NOISE]


@pytest.mark.parametrize(("setting", "credit"), [("", 0), ("credit = 2.0", 128)])
def test_what_came_over_a_link_is_credited_by_the_operators_word_alone(
    folder: Path, setting: str, credit: int
) -> None:
    """Bytes from a link earn no credit unless `[kernel] credit` is set."""
    config = configured(folder, f'{setting}\n[[upstream]]\nurl = "unix:///nowhere.sock"')
    (folder / "run").mkdir()
    broker = FakeBroker()
    broker.results["status"] = {"evidence": "noise device"}

    async def run() -> tuple[int, int]:
        async with serving(UnixDoor(config.broker.link_socket, broker, lambda *_: "kernel")):
            return await fed_once(config)

    assert asyncio.run(run()) == (credit, 64)


def test_a_broker_that_is_being_started_is_waited_for(folder: Path) -> None:
    """A systemd socket may not answer for half a minute."""
    config = configured(folder)
    (folder / "run").mkdir()

    async def run() -> dict | None:
        async with lives(Feeder(config, Manager({}), Kernel().sink).run):
            await asyncio.sleep(30)
            return read_report(config.broker.feed_report)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(config.unix.path)
        listener.listen()
        report = run_virtually(run())
        peer, _ = listener.accept()
        with peer:
            assert peer.recv(5)
    assert report is not None
    assert report["last_error"] == ""


def test_a_socket_of_another_user_is_not_trusted(folder: Path) -> None:
    """The listener must be root, this user or a drawwell user."""
    broker = FakeBroker()

    async def run() -> None:
        async with serving(UnixDoor(str(folder / "draw.sock"), broker, lambda *_: "kernel")):
            link = UnixLink(str(folder / "draw.sock"), believed=believed(()) - {os.geteuid()})
            with pytest.raises(PermissionRefused, match=f"user ID {os.geteuid()}, which is not trusted"):
                await link.call("status", {})
            await link.aclose()

    asyncio.run(run())
    assert broker.calls == []


def test_its_report_is_a_file_that_all_users_can_read(folder: Path) -> None:
    """Status and `kernel wait` read the report; it is removed at the end."""
    config = configured(folder)
    (folder / "run").mkdir()
    broker = FakeBroker()
    broker.results["status"] = {"evidence": "noise device"}
    kernel = Kernel()
    path = config.broker.feed_report

    async def run() -> tuple[dict, dict]:
        async with (
            serving(UnixDoor(config.unix.path, broker, lambda *_: "kernel")),
            lives(Feeder(config, Manager({}), kernel.sink).run),
        ):
            waited = await asyncio.to_thread(
                command, "kernel", "wait", "--json", config=folder / "consumer.toml"
            )
            report = read_report(path)
            assert report is not None
            return json.loads(waited.stdout), report

    waited, report = asyncio.run(run())
    assert waited["sink"] == report["sink"]
    assert (report["sink"]["delivered_bytes"], report["sink"]["credited_bits"]) == (64, 256)
    assert not os.path.exists(path)
    late = command("kernel", "wait", "--timeout", "10ms", config=folder / "consumer.toml")
    assert late.returncode == 75


def test_what_is_no_report_is_no_report(folder: Path) -> None:
    """A file not written by a feeder is ignored."""
    for text in ("", "[]", "{}", '{"sink": 1}', "\0"):
        (folder / "feed.json").write_text(text)
        assert read_report(str(folder / "feed.json")) is None


@pytest.mark.slow
def test_a_simulated_stick_earns_no_credit_over_the_socket(folder: Path) -> None:
    """A local broker with a simulated source earns no credit."""
    site = Site(folder)

    async def run() -> tuple[int, int]:
        async with running(site):
            await site.until_healthy()
            return await fed_once(load(str(site.path)))

    with StickThread(folder / "stick", seed=1, rate=0):
        assert asyncio.run(run()) == (0, 64)


@pytest.mark.parametrize(("setting", "credit"), [("", 0), ("[kernel]\ncredit = 2.0", 128)])
@pytest.mark.parametrize("driver", ["exec", "chardev"])
def test_a_program_and_a_fifo_earn_what_is_written_and_nothing_else(
    folder: Path, driver: str, setting: str, credit: int
) -> None:
    """Links can pass on simulated, replayed or network bytes unmarked."""
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    settings = {"exec": 'command = ["cat", "/dev/urandom"]', "chardev": f'path = "{fifo}"'}[driver]
    site = Site(
        folder, sticks=(), more=f'[[source]]\ndriver = "{driver}"\n{settings}\nmin_entropy = 6.0\n{setting}'
    )

    async def run() -> tuple[int, int]:
        async with running(site):
            await site.until_healthy(1, share=0.01)
            return await fed_once(load(str(site.path)))

    with contextlib.ExitStack() as stack:
        if driver == "chardev":
            end = os.open(fifo, os.O_RDWR)
            stack.callback(os.close, end)
            writer = stack.enter_context(subprocess.Popen(["cat", "/dev/urandom"], stdout=end))
            stack.callback(writer.kill)
        assert asyncio.run(run()) == (credit, 64)


@pytest.mark.slow
def test_the_link_passes_bytes_on_and_reports_its_state(folder: Path) -> None:
    """The link feeds the kernel from a remote broker and reports its state."""
    site = Site(folder)

    async def run() -> tuple[tuple[int, int], dict]:
        async with running(site):
            await site.until_healthy()
            identity = await site.enrol("web01")
            here = folder / "here"
            here.mkdir()
            upstream = f'[[upstream]]\nurl = "tls://{site.tls}"\nidentity = "{identity.directory}"'
            config = configured(here, upstream)
            link = LinkProcess(config, Manager({}))
            async with lives(link.run):
                await until(link.door.ready.is_set, "the link listens")
                kernel = Kernel()
                async with lives(Feeder(config, Manager({}), kernel.sink).run):
                    await until(lambda: deliveries(config), "the kernel was fed")
                    shown = await asyncio.to_thread(
                        command, "status", "--json", config=here / "consumer.toml"
                    )
                    assert "linked to tls://" in link.relay.describe()
                    return kernel.feeds[0], json.loads(shown.stdout)

    with StickThread(folder / "stick", seed=1, rate=0):
        fed, status = asyncio.run(run())
    assert fed == (0, 64)
    assert (status["ready"], status["draws"], status["drawn_bytes"]) == (True, 1, 64)
    assert status["upstreams"][0]["url"] == f"tls://{site.tls}"
    assert 6 * 86400 < status["upstreams"][0]["certificate_left_s"] <= 7 * 86400
    assert status["kernel"]["sink"]["delivered_bytes"] == 64


def test_a_link_whose_broker_is_gone_reports_it_and_draws_nothing(folder: Path) -> None:
    """If the remote broker is down, status reports this and draws fail."""
    config = configured(folder, f'[[upstream]]\nurl = "unix://{folder}/nowhere.sock"')
    link = LinkProcess(config, Manager({}))

    async def run() -> dict:
        async with lives(link.run):
            await until(link.door.ready.is_set, "the link listens")
            shown = await asyncio.to_thread(command, "status", "--json", config=folder / "consumer.toml")
            return json.loads(shown.stdout)

    status = asyncio.run(run())
    assert (status["ready"], status["draws"]) == (False, 0)
    assert "nowhere.sock" in status["not_ready_because"]
