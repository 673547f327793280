"""The broker's view of sources in separate processes."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from drawwell.broker.broker import Rules
from drawwell.broker.remote_sources import RemoteSources
from drawwell.config.broker_side import MAX_SOURCES, SourceSection
from drawwell.crypto.receipt_form import join_receipt
from drawwell.crypto.receipts import read_receipt
from drawwell.entropy.blocks import DrawClass, DrawRequest
from drawwell.errors import SourceRejected, SourceUnavailable, UsageError
from drawwell.reports import Firmware, SourceIdentity, SourceReport, SourceState
from drawwell.testing.scripted import ScriptedSource
from drawwell.wire.deposit_frames import Deposit, SourceStatus
from support.principals import consumer
from support.workbench import Workbench

HEALTHY = SourceReport(
    SourceIdentity("stick", "onerng", "/dev/stick"), SourceState.HEALTHY, False, 1, 0, 0, 0, 0, 0, 0.0, 0, 0, "",
)  # fmt: skip


def named(name: str) -> SourceReport:
    return replace(HEALTHY, identity=replace(HEALTHY.identity, name=name, path=f"/dev/{name}"))


class Connection:
    """A connection that stores what the broker sends."""

    restarting = False

    def __init__(self) -> None:
        self.sent: list[object] = []

    def want(self, *, wanted: bool) -> None:
        self.sent.append(wanted)

    def restart(self) -> None:
        self.sent.append("restart")

    async def command(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        return {verb: args}


class Bench(Workbench):
    """A workbench without passing time."""

    def clock(self) -> float:
        return 0.0


@pytest.fixture
def bench() -> Bench:
    return Bench(capacity_bytes=4096)


def test_a_configured_source_is_missed_until_it_connects(bench: Bench) -> None:
    """Until its process reports, a source is off, with the command to type."""
    remote = RemoteSources(
        bench.broker, bench.supply, (SourceSection(name="stick", driver="onerng", path="/dev/stick"),)
    )
    source = bench.broker.sources["stick"]
    assert (source.healthy, source.report().state) == (False, SourceState.OFF)
    assert "'drawwell source run stick'" in source.report().last_error

    assert remote.arrive(Connection(), HEALTHY) is source
    assert (source.healthy, source.report()) == (True, HEALTHY)


def test_a_lost_source_stays_in_the_report(bench: Bench) -> None:
    """A source without its process is off, with the reason."""
    source = RemoteSources(bench.broker, bench.supply).arrive(Connection(), HEALTHY)
    source.leave("it was killed")

    report = bench.broker.sources["stick"].report()
    assert (report.state, report.last_error) == (SourceState.OFF, "it was killed")
    assert bench.broker.healthy_sources() == 0


def test_an_error_of_the_source_is_logged_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A new error in a report is logged; a repeated error is not."""
    source = RemoteSources(bench.broker, bench.supply).arrive(Connection(), HEALTHY)
    for _ in range(2):
        source.update(replace(HEALTHY, last_error="no sample in 3 s"))

    assert [each.message for each in caplog.records].count("stick: no sample in 3 s") == 1


def test_commands_and_wants_reach_the_process_that_is_connected(bench: Bench) -> None:
    """The process receives commands, a full reservoir and a restart."""
    remote, connection = RemoteSources(bench.broker, bench.supply), Connection()
    source = remote.arrive(connection, HEALTHY)
    assert source.wanted
    bench.put(bytes(4096))
    source.restart()

    assert connection.sent == [False, "restart"]
    assert asyncio.run(source.command("info", {"a": 1})) == {"info": {"a": 1}}


def test_a_lost_source_takes_no_command(bench: Bench) -> None:
    """A command, a want and a restart are ignored if the process is gone."""
    source = RemoteSources(bench.broker, bench.supply).arrive(Connection(), HEALTHY)
    source.leave("it was killed")
    bench.put(bytes(4096))
    source.restart()

    with pytest.raises(SourceUnavailable, match="stick: it was killed"):
        asyncio.run(source.command("info", {}))


def test_its_rate_is_the_conditioned_share_of_its_raw_rate(bench: Bench) -> None:
    """The full-entropy rate follows from the report and starts with 0."""
    source = RemoteSources(bench.broker, bench.supply).arrive(Connection(), HEALTHY)
    assert source.supply_bytes_per_s == 0

    source.update(replace(HEALTHY, tested_bytes=1000, conditioned_bits=4000, raw_rate_bytes_per_s=300.0))
    assert source.supply_bytes_per_s == 150


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a/b", "invalid source name"),
        ("stick", "is already connected"),
        ("own", "runs a source named own"),
    ],
)
def test_a_name_that_is_bad_or_taken_is_refused(name: str, reason: str) -> None:
    """A name must be valid and differ from all other sources' names."""
    bench = Bench(ScriptedSource("own"), capacity_bytes=4096)
    remote = RemoteSources(bench.broker, bench.supply)
    remote.arrive(Connection(), HEALTHY)

    with pytest.raises(UsageError, match=reason):
        remote.arrive(Connection(), named(name))


def test_the_source_that_left_first_makes_room(bench: Bench) -> None:
    """At the limit a new source replaces the one that was lost first."""
    remote = RemoteSources(bench.broker, bench.supply)
    sources = [remote.arrive(Connection(), named(f"s{number}")) for number in range(MAX_SOURCES)]
    with pytest.raises(UsageError, match="has room for"):
        remote.arrive(Connection(), named("new"))

    sources[1].leave("gone")
    sources[0].leave("gone")
    remote.arrive(Connection(), named("new"))
    assert "new" in bench.broker.sources
    assert bench.broker.sources.keys() & {"s0", "s1"} == {"s1"}


def test_a_condemned_source_fails_until_its_reset(bench: Bench) -> None:
    """Only an operator's reset clears a condemned source, not its own reports."""
    source = RemoteSources(bench.broker, bench.supply).arrive(Connection(), HEALTHY)
    source.condemn("it repeats another source")
    source.update(HEALTHY)
    report = source.report()
    assert (source.healthy, source.wanted) == (False, False)
    assert (report.state, report.last_error) == (SourceState.PERMANENT_FAILURE, "it repeats another source")

    asyncio.run(source.command("reset", {}))
    assert (source.healthy, source.report()) == (True, HEALTHY)


def test_a_receipt_names_the_least_vouched_for_life_of_a_source(bench: Bench) -> None:
    """Bytes stay marked as simulated when a device takes over the name."""
    remote = RemoteSources(bench.broker, bench.supply)
    simulated = replace(HEALTHY, identity=replace(HEALTHY.identity, simulated=True))
    source = remote.arrive(Connection(), simulated)
    source.take(Deposit(2 * 576, 0, bytearray(128)))
    source.leave("it was stopped")
    remote.arrive(Connection(), replace(HEALTHY, health_epoch=2)).take(Deposit(2 * 576, 0, bytearray(128)))

    grant = bench.broker.try_draw(consumer("web01"), DrawRequest(100, DrawClass.FULL, receipt=True))
    assert grant
    assert [each.simulated for each in read_receipt(join_receipt(grant.unsigned, bytes(64))).sources] == [
        True
    ]


@pytest.mark.parametrize("char", ['"', "f"])
def test_no_source_can_make_receipts_too_long(bench: Bench, char: str) -> None:
    """There is room for all sources with texts of maximum length."""
    remote = RemoteSources(bench.broker, bench.supply)
    for number in range(MAX_SOURCES):
        identity = SourceIdentity(
            f"{number:02}".rjust(63, "n"), char * 16, f"/dev/{number}", firmware=Firmware.VERIFIED,
            firmware_detail=char * 255, noise=char * 64,
        )  # fmt: skip
        report = replace(HEALTHY, identity=identity, health_epoch=2**63 - 1)
        sent = SourceStatus.decode(SourceStatus(report).encode()[4:]).report
        remote.arrive(Connection(), sent).take(Deposit(576, 0, bytearray(64)))

    request = DrawRequest(64 * MAX_SOURCES - 48, DrawClass.FULL, receipt=True)
    grant = bench.broker.try_draw(consumer("web01"), request)
    assert grant
    assert len(read_receipt(join_receipt(grant.unsigned, bytes(64))).sources) == MAX_SOURCES


@pytest.mark.parametrize("simulated", [False, True])
def test_what_a_source_gives_while_it_is_not_counted_on_is_lost(bench: Bench, simulated: bool) -> None:
    """The bytes of a paused source are discarded, even if it reports healthy."""
    identity = replace(HEALTHY.identity, simulated=simulated)
    source = RemoteSources(bench.broker, bench.supply).arrive(
        Connection(), replace(HEALTHY, identity=identity, paused=True)
    )
    source.take(Deposit(3 * 576, 64, bytearray(128)))
    assert (len(bench.supply.reservoir), bench.supply.report().discarded_bits) == (0, 8 * 192)


def test_one_device_is_one_source(bench: Bench) -> None:
    """A second source for a device is rejected until the first is off."""
    remote = RemoteSources(bench.broker, bench.supply)
    first = remote.arrive(Connection(), HEALTHY)
    twin = replace(HEALTHY, identity=replace(HEALTHY.identity, name="twin"))
    with pytest.raises(SourceRejected, match="source stick already reads"):
        remote.arrive(Connection(), twin)
    assert bench.broker.sources["twin"].report().state is SourceState.OFF

    first.update(replace(HEALTHY, state=SourceState.OFF))
    assert remote.arrive(Connection(), twin).healthy


def test_bytes_of_one_device_are_never_combined_with_each_other() -> None:
    """If a source changes its device, its waiting output is discarded."""
    bench = Bench(rules=Rules("bench", min_sources=2))
    remote = RemoteSources(bench.broker, bench.supply)
    first = remote.arrive(Connection(), HEALTHY)
    first.take(Deposit(576, 0, bytearray(b"1" * 64)))
    first.update(replace(HEALTHY, identity=replace(HEALTHY.identity, path="/dev/other")))
    twin = remote.arrive(Connection(), replace(HEALTHY, identity=replace(HEALTHY.identity, name="twin")))
    twin.take(Deposit(576, 0, bytearray(b"2" * 64)))
    assert len(bench.supply.reservoir) == 0
    first.take(Deposit(576, 0, bytearray(b"3" * 64)))
    assert len(bench.supply.reservoir) == 64
