"""The daemon's signals: start, stop and reload."""

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

CONSUMER = '[[consumer]]\nname = "app"\nuser = "daemon"\nrate = "{}"\n'


def status(site: Site) -> dict:
    return json.loads(command("status", "--json", config=site.path).stdout or "{}")


def rate_of_app(site: Site) -> str:
    return next(consumer["rate"] for consumer in status(site)["consumers"] if consumer["name"] == "app")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(folder, number) -> None:
    """SIGINT and SIGTERM pause the device, remove sockets and exit 0."""
    site = Site(folder)
    with StickThread(folder / "stick", seed=1, rate=0) as stick:
        with Daemon("broker", config=site.path, log=folder / "log") as daemon:
            daemon.wait_for_text("healthy")
            assert daemon.stop(number) == 0
            assert daemon.output.endswith("drawwell: stopped\n")
        wait_until(lambda: stick.device._device.paused, "the device was paused")
        assert list((folder / "run").iterdir()) == []


def test_a_signal_while_the_device_is_being_opened_ends_it_cleanly(folder) -> None:
    """A daemon that waits for a silent device also exits at once, with 0."""
    site = Site(folder)
    stick = StickThread(folder / "stick", seed=2, rate=0, fault="silent")
    with stick, Daemon("broker", config=site.path, log=folder / "log") as daemon:
        daemon.wait_for_text("Ctrl-C stops")
        assert daemon.stop() == 0


def test_without_its_device_it_runs_shows_why_and_serves_nothing(folder) -> None:
    """Without its stick it runs; status has the cause, a draw exits with 69."""
    site = Site(folder)
    with Daemon("broker", config=site.path, log=folder / "log") as daemon:
        daemon.wait_for_text("does not exist")
        shown = status(site)
        assert (shown["ready"], shown["not_ready_because"]) == (
            False,
            "0 of 1 noise sources are healthy, but min_sources is 1",
        )
        assert shown["sources"][0]["last_error"] == f"{folder}/stick does not exist"
        for draw_class in ("full", "drbg"):
            drawn = command("draw", "32", "--hex", "--class", draw_class, config=site.path)
            assert (drawn.returncode, drawn.stdout) == (69, "")
            assert hinted(drawn)
        with StickThread(folder / "stick", seed=3, rate=0):
            daemon.wait_for_text("healthy")
            wait_until(
                lambda: command("draw", "32", "--hex", config=site.path).returncode == 0, "a draw is served"
            )


def test_hangup_takes_over_a_consumers_rate(folder) -> None:
    """SIGHUP applies new rates at once, without a restart."""
    site = Site(folder, sticks=("stick",), more=CONSUMER.format("1KiB/s"))
    with Daemon("broker", config=site.path, log=folder / "log") as daemon:
        daemon.wait_for_text("Ctrl-C stops")
        wait_until(lambda: status(site), "it answers")
        assert rate_of_app(site) == "1KiB/s"
        site.write(CONSUMER.format("2KiB/s"))
        daemon.send(signal.SIGHUP)
        daemon.wait_for_text("reloaded the configuration")
        assert rate_of_app(site) == "2KiB/s"
        site.write("")
        daemon.send(signal.SIGHUP)
        wait_until(
            lambda: [c["name"] for c in status(site)["consumers"]] == ["local"], "the consumer is gone"
        )


def test_hangup_with_a_broken_file_leaves_everything_as_it_was(folder) -> None:
    """Every fault is logged, and the daemon keeps the old configuration."""
    site = Site(folder, more=CONSUMER.format("1KiB/s"))
    with Daemon("broker", config=site.path, log=folder / "log") as daemon:
        daemon.wait_for_text("Ctrl-C stops")
        wait_until(lambda: status(site), "it answers")
        site.write(CONSUMER.format("fast") + "[tsl]\n")
        daemon.send(signal.SIGHUP)
        daemon.wait_for_text("did you mean [tls]?")
        assert "drawwell: cannot reload the configuration: the configuration has 2 faults" in daemon.output
        assert "drawwell.toml:" in daemon.output
        site.write(CONSUMER.format("1KiB/s"))
        assert rate_of_app(site) == "1KiB/s"
        site.path.unlink()
        count = daemon.output.count("cannot reload")
        daemon.send(signal.SIGHUP)
        wait_until(lambda: daemon.output.count("cannot reload") > count, "a file that is gone is refused")
        assert daemon.running


def test_hangup_names_what_only_a_restart_changes_and_leaves_it(folder, caplog) -> None:
    """A changed table other than [[consumer]] is reported and not applied."""
    site = Site(folder, more="[kernel]\nfeed = true\n")

    async def run() -> None:
        async with running(site) as process:
            assert "kernel" in process.station.broker.accounts
            site.write('[unix]\nmode = "0600"\n' + CONSUMER.format("5B/s"))
            await process.reload()
            assert set(process.station.broker.accounts) == {"kernel", "app", "local"}
            assert process.station.config.unix.mode == 0o666

    asyncio.run(run())
    assert [record.getMessage() for record in caplog.records if "restart" in record.getMessage()] == [
        "restart to apply the changes in [unix]",
        "restart to apply the changes in [kernel]",
    ]


def test_a_port_that_is_taken_is_said_with_the_way_to_find_who_has_it(folder) -> None:
    """For a used TLS port: exit 78, the address and a hint, no socket left."""
    site = Site(folder)
    with socket.create_server((site.address, 55000)):
        run = command("broker", config=site.path)
    assert run.returncode == 78
    assert f"cannot listen on {site.tls}: in use" in run.stderr
    assert "ss -ltnp" in hinted(run)[0]
    assert list((folder / "run").iterdir()) == []


def test_a_socket_with_a_listener_is_not_replaced(folder) -> None:
    """If another broker has its socket, it fails and leaves that socket."""
    site = Site(folder)
    (folder / "run").mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(site.draw_socket)
        other.listen()
        run = command("broker", config=site.path)
        assert run.returncode == 78
        assert "another process listens there" in run.stderr
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(site.draw_socket)


def test_sockets_that_a_dead_broker_left_are_replaced(folder) -> None:
    """After a SIGKILL the next broker replaces the stale sockets."""
    site = Site(folder)
    with Daemon("broker", config=site.path, log=folder / "log") as daemon:
        daemon.wait_for_text("Ctrl-C stops")
        wait_until(lambda: status(site), "it answers")
    assert (folder / "run" / "draw.sock").exists()
    with Daemon("broker", config=site.path, log=folder / "log2"):
        wait_until(lambda: status(site), "the next one answers")


def test_a_configuration_with_nothing_to_do_is_refused(folder) -> None:
    """Without source and sink: exit 78, and the settings that are needed."""
    path = folder / "empty.toml"
    path.write_text(
        f'[broker]\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n[[upstream]]\nurl = "unix:///x"\n'
    )
    run = command("run", config=path)
    assert run.returncode == 78
    assert "[[source]]" in hinted(run)[0]


def test_a_consumer_configured_on_hangup_cannot_be_invited_any_more(folder) -> None:
    """After the reload this name cannot be invited."""
    site = Site(folder)

    async def run() -> None:
        async with running(site) as process:
            site.write(CONSUMER.format("5B/s"))
            await process.reload()
            with pytest.raises(UsageError, match="app is in the configuration"):
                await site.ask("consumer.invite", {"name": "app"})

    asyncio.run(run())
