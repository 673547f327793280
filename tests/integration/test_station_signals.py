"""The daemon as its operator handles it: started, told to stop, told to read its configuration again."""

import asyncio
import json
import signal
import socket

import pytest

from drawwell.errors import UsageError
from drawwell.testing.waiting import wait_until
from support.daemon import Daemon, StickThread, command, hinted
from support.station import Site, running

pytestmark = pytest.mark.slow

CONSUMER = '[[consumer]]\nname = "app"\nuser = "nobody"\nrate = "{}"\n'


def status(site: Site) -> dict:
    return json.loads(command("status", "--json", config=site.path).stdout or "{}")


def rate_of_app(site: Site) -> str:
    return next(consumer["rate"] for consumer in status(site)["consumers"] if consumer["name"] == "app")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(folder, number) -> None:
    """SIGINT and SIGTERM: the device is paused, the sockets are gone, the exit code is 0."""
    site = Site(folder)
    with StickThread(folder / "stick", seed=1, rate=0) as stick:
        with Daemon("broker", config=site.path, log=folder / "log") as daemon:
            daemon.until_it_says("healthy")
            assert daemon.stop(number) == 0
            assert daemon.words.endswith("drawwell: stopped\n")
        wait_until(lambda: stick.device._device.paused, "the device was told to pause")
        assert list((folder / "run").iterdir()) == []


def test_a_signal_while_the_device_is_being_opened_ends_it_cleanly(folder) -> None:
    """A daemon that waits for a silent device still ends at once, with 0."""
    site = Site(folder)
    stick = StickThread(folder / "stick", seed=2, rate=0, fault="silent")
    with stick, Daemon("broker", config=site.path, log=folder / "log") as daemon:
        daemon.until_it_says("Ctrl-C stops")
        assert daemon.stop() == 0


def test_without_its_device_it_runs_says_why_and_serves_nothing(folder) -> None:
    """A broker whose stick is not there runs; status names the cause, a draw exits 69, and a plug-in mends it."""
    site = Site(folder)
    with Daemon("broker", config=site.path, log=folder / "log") as daemon:
        daemon.until_it_says("is not there")
        shown = status(site)
        assert (shown["ready"], shown["not_ready_because"]) == (
            False,
            "0 of 1 noise sources healthy, 1 needed",
        )
        assert shown["sources"][0]["last_error"] == f"{folder}/stick is not there"
        for draw_class in ("full", "drbg"):
            drawn = command("draw", "32", "--hex", "--class", draw_class, config=site.path)
            assert (drawn.returncode, drawn.stdout) == (69, "")
            assert hinted(drawn)
        with StickThread(folder / "stick", seed=3, rate=0):
            daemon.until_it_says("healthy")
            wait_until(
                lambda: command("draw", "32", "--hex", config=site.path).returncode == 0, "a draw is served"
            )


def test_hangup_takes_over_a_consumers_rate(folder) -> None:
    """SIGHUP reads the file again, and new rates of consumers apply at once, without a restart."""
    site = Site(folder, sticks=("stick",), more=CONSUMER.format("1KiB/s"))
    with Daemon("broker", config=site.path, log=folder / "log") as daemon:
        daemon.until_it_says("Ctrl-C stops")
        wait_until(lambda: status(site), "it answers")
        assert rate_of_app(site) == "1KiB/s"
        site.write(CONSUMER.format("2KiB/s"))
        daemon.send(signal.SIGHUP)
        daemon.until_it_says("configuration read again")
        assert rate_of_app(site) == "2KiB/s"
        site.write("")
        daemon.send(signal.SIGHUP)
        wait_until(
            lambda: [c["name"] for c in status(site)["consumers"]] == ["local"], "the consumer is gone"
        )


def test_hangup_with_a_broken_file_leaves_everything_as_it_was(folder) -> None:
    """Every fault of the new file is said with its line, and the daemon goes on with the old one."""
    site = Site(folder, more=CONSUMER.format("1KiB/s"))
    with Daemon("broker", config=site.path, log=folder / "log") as daemon:
        daemon.until_it_says("Ctrl-C stops")
        wait_until(lambda: status(site), "it answers")
        site.write(CONSUMER.format("fast") + "[tsl]\n")
        daemon.send(signal.SIGHUP)
        daemon.until_it_says("did you mean [tls]?")
        assert "drawwell: not reloaded: there are 2 faults in the configuration" in daemon.words
        assert "drawwell.toml:" in daemon.words
        site.write(CONSUMER.format("1KiB/s"))
        assert rate_of_app(site) == "1KiB/s"
        site.path.unlink()
        said = daemon.words.count("not reloaded")
        daemon.send(signal.SIGHUP)
        wait_until(lambda: daemon.words.count("not reloaded") > said, "a file that is gone is refused")
        assert daemon.running


def test_hangup_says_what_only_a_restart_changes_and_leaves_it(folder, caplog) -> None:
    """A changed table other than [[consumer]] is named, and what runs keeps its old terms: the kernel's feed too."""
    site = Site(folder, more="[kernel]\nfeed = true\n")

    async def run() -> None:
        async with running(site) as process:
            assert "kernel" in process.station.broker.accounts
            site.write('[unix]\nmode = "0600"\n' + CONSUMER.format("5B/s"))
            process.reload()
            assert set(process.station.broker.accounts) == {"kernel", "app", "local"}
            assert process.station.config.unix.mode == 0o666

    asyncio.run(run())
    assert [record.getMessage() for record in caplog.records if "restart" in record.getMessage()] == [
        "a restart is needed for the changes in [unix]",
        "a restart is needed for the changes in [kernel]",
    ]


def test_a_port_that_is_taken_is_said_with_the_way_to_find_who_has_it(folder) -> None:
    """Another listener on the TLS port: exit 78, the address, a hint, and no socket left behind."""
    site = Site(folder)
    with socket.create_server((site.address, 55000)):
        run = command("broker", config=site.path)
    assert run.returncode == 78
    assert f"cannot listen on {site.tls}: in use" in run.stderr
    assert "ss -ltnp" in hinted(run)[0]
    assert list((folder / "run").iterdir()) == []


def test_a_socket_that_somebody_answers_on_is_not_taken_away(folder) -> None:
    """A broker with a state of its own but another's socket path is refused, and the other one's socket stays."""
    site = Site(folder)
    (folder / "run").mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(site.draw_socket)
        other.listen()
        run = command("broker", config=site.path)
        assert run.returncode == 78
        assert "another process answers there" in run.stderr
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(site.draw_socket)


def test_sockets_that_a_dead_broker_left_are_replaced(folder) -> None:
    """After a SIGKILL the next broker takes over the paths of the sockets that were left."""
    site = Site(folder)
    with Daemon("broker", config=site.path, log=folder / "log") as daemon:
        daemon.until_it_says("Ctrl-C stops")
        wait_until(lambda: status(site), "it answers")
    assert (folder / "run" / "draw.sock").exists()
    with Daemon("broker", config=site.path, log=folder / "log2"):
        wait_until(lambda: status(site), "the next one answers")


def test_a_configuration_with_nothing_to_do_is_refused(folder) -> None:
    """Without a source and without a sink there is nothing to run: exit 78 and what to write."""
    path = folder / "empty.toml"
    path.write_text(
        f'[broker]\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n[[upstream]]\nurl = "unix:///x"\n'
    )
    run = command("run", config=path)
    assert run.returncode == 78
    assert "[[source]]" in hinted(run)[0]


def test_a_consumer_configured_on_hangup_cannot_be_invited_any_more(folder) -> None:
    """After the reload the name belongs to the configuration, for the operator's invitations too."""
    site = Site(folder)

    async def run() -> None:
        async with running(site) as process:
            site.write(CONSUMER.format("5B/s"))
            process.reload()
            with pytest.raises(UsageError, match="app is in the configuration"):
                await site.ask("consumer.invite", {"name": "app"})

    asyncio.run(run())
