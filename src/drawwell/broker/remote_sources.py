"""Noise sources in other processes, and their deposits.

A disconnected source is still listed. Its deposits stay in the reservoir, because they
are conditioned and no other process has a copy.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final, Protocol

from drawwell.broker.broker import LocalBroker
from drawwell.broker.supply import Supply
from drawwell.config.broker_side import MAX_SOURCES, SourceSection
from drawwell.config.values import NAME
from drawwell.entropy.blocks import FullEntropy, NoiseOrigin
from drawwell.errors import SourceRejected, SourceUnavailable, UsageError
from drawwell.reports import SourceIdentity, SourceReport, SourceState
from drawwell.units import Bits
from drawwell.wire.deposit_frames import Deposit

log = logging.getLogger("drawwell.source")

_NEVER: Final = "the source's process has not connected yet; start it with 'drawwell source run {0}'"
_GONE_HINT: Final = (
    "Start it with 'drawwell source run {0}', or start its unit, drawwell-source@ or drawwell-named@."
)


class SourceConnection(Protocol):
    """The connection to the source's process."""

    @property
    def restarting(self) -> bool:
        """Whether a restart has been requested but not confirmed yet."""

    def want(self, *, wanted: bool) -> None:
        """Notify the process whether bytes are wanted."""

    def restart(self) -> None:
        """Request that the process discard all bytes read so far and start again."""

    async def command(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Run a verb; raise SourceUnavailable if the process disconnects first."""


class RemoteSource:
    """A source that deposits from another process (`ports.Source`).

    Args:
        identity: The identity to report before the source connects.
        supply: Receives the source's deposits.
        why: Why the source is disconnected, or "" if it has never connected.
    """

    def __init__(self, identity: SourceIdentity, supply: Supply, why: str = "") -> None:
        self._changed: Callable[[], None] = lambda: None
        self._report = _absent(identity, why or _NEVER.format(identity.name))
        self._caller: SourceConnection | None = None
        self._condemned = ""
        self.depot = supply.depot(self)

    def when_changed(self, notify: Callable[[], None]) -> None:
        """Call `notify` on each change (ports.Source)."""
        self._changed = notify

    @property
    def name(self) -> str:
        """The source's name."""
        return self._report.identity.name

    @property
    def present(self) -> bool:
        """Whether the source's process is connected."""
        return self._caller is not None

    @property
    def healthy(self) -> bool:
        """Whether the source's bytes are usable now."""
        caller, report = self._caller, self._report
        return (
            caller is not None
            and not self._condemned
            and not caller.restarting
            and report.state is SourceState.HEALTHY
            and not report.paused
        )

    @property
    def origin(self) -> NoiseOrigin:
        """The origin to record with the source's current bytes."""
        return NoiseOrigin(self._report.identity, self._report.health_epoch)

    @property
    def health_epoch(self) -> int:
        """How many times the source's process has passed the start-up tests."""
        return self._report.health_epoch

    @property
    def supply_bytes_per_s(self) -> float:
        """Full-entropy bytes per second during reading, as last reported."""
        report = self._report
        share = report.conditioned_bits / 8 / report.tested_bytes if report.tested_bytes else 0.0
        return share * report.raw_rate_bytes_per_s

    @property
    def wanted(self) -> bool:
        """Whether the source's process should read now."""
        return self.depot.wanted and not self._condemned

    def report(self) -> SourceReport:
        """Return the source's last report."""
        if not self._condemned:
            return self._report
        return replace(
            self._report, state=SourceState.PERMANENT_FAILURE, paused=False, last_error=self._condemned
        )

    def condemn(self, why: str) -> None:
        """Treat the source as failed until an operator resets it."""
        self._condemned = why
        self.wake()
        log.error("%s: %s", self.name, why)
        self._changed()

    def restart(self) -> None:
        """Restart the source; ignore its deposits until it confirms the restart."""
        self.depot.wipe()
        if self._caller:
            self._caller.restart()
            self._changed()

    async def command(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Run an operator's verb in the source's process."""
        if self._caller is None:
            raise SourceUnavailable(
                f"{self.name}: {self._report.last_error}", hint=_GONE_HINT.format(self.name)
            )
        result = await self._caller.command(verb, args)
        if verb == "reset":
            self._condemned = ""
            self.wake()
            self._changed()
        return result

    def wake(self) -> None:
        """Notify a connected process whether bytes are wanted."""
        if self._caller:
            self._caller.want(wanted=self.wanted)

    def take(self, deposit: Deposit) -> None:
        """Accept a deposit that passed its checks."""
        assert isinstance(deposit.data, bytearray)  # noqa: S101  always so after decoding
        spoilt_bytes, data = deposit.spoilt_bytes, deposit.data
        if not self.healthy:  # bytes from an unhealthy source have no evidence
            spoilt_bytes, data = spoilt_bytes + len(data), bytearray()
        self.depot.take_over(Bits(deposit.assessed_bits), spoilt_bytes, FullEntropy(data))

    def arrive(self, caller: SourceConnection, report: SourceReport) -> None:
        """Mark the source as connected. Raises the same errors as `update`."""
        self._claim(report)
        self._caller = caller
        log.info("%s: the source's process has connected", self.name)
        self.update(report)

    def update(self, report: SourceReport) -> None:
        """Apply the source's report.

        Raises:
            SourceRejected: another source already reads the device.
        """
        self._claim(report)
        before = self._report
        self._report = report
        if report.last_error and report.last_error != before.last_error:
            log.warning("%s: %s", self.name, report.last_error)
        elif report.state is not before.state:
            log.info("%s: %s", self.name, report.state)
        if not self.healthy:
            self.depot.wipe()
        self._changed()

    def _claim(self, report: SourceReport) -> None:
        if report.state is SourceState.OFF:
            self.depot.release()
        else:
            self.depot.claim(report.identity)

    def leave(self, why: str) -> None:
        """Mark the source as disconnected."""
        self._caller = None
        self.depot.release()
        if why != self._report.last_error:
            log.warning("%s: %s", self.name, why)
        self._report = replace(
            self._report, state=SourceState.OFF, paused=False, stalled=False, last_error=why
        )
        self._changed()


class RemoteSources:
    """Accepts sources for one broker as they connect.

    Args:
        broker: The broker to add the sources to.
        supply: Receives the sources' deposits.
        expected: The configured sources, listed as disconnected until they connect.
    """

    def __init__(self, broker: LocalBroker, supply: Supply, expected: tuple[SourceSection, ...] = ()) -> None:
        self._broker = broker
        self._supply = supply
        self._sources: dict[str, RemoteSource] = {}
        self._expected: set[str] = set()
        self.expect(expected)

    def expect(self, expected: Iterable[SourceSection]) -> None:
        """Apply a new configuration; drop disconnected sources that are not in it."""
        sections = {each.name: each for each in expected}
        for name in [name for name in self._expected - sections.keys() if name in self._sources]:
            if not self._sources[name].present:
                self._forget(name)
        for name, section in sections.items():
            if name not in self._broker.sources:
                self._add(SourceIdentity(name, section.driver, section.path))
        self._expected = set(sections)

    def arrive(self, caller: SourceConnection, report: SourceReport) -> RemoteSource:
        """Accept a newly connected source.

        Raises:
            UsageError: the name is invalid or in use, or there are too many sources.
            SourceRejected: another source already reads the device.
        """
        name = report.identity.name
        try:
            NAME.parse(name)
        except ValueError as error:
            raise UsageError(f"invalid source name: {error}", hint="Choose another name.") from None
        source = self._sources.get(name)
        if source is None:
            source = self._add(report.identity)
        elif source.present:
            raise UsageError(
                f"a source named {name} is already connected", hint="Give each source a unique name."
            )
        # the newest source is the last one to be dropped
        self._sources[name] = self._sources.pop(name)
        try:
            source.arrive(caller, report)
        except SourceRejected as error:
            source.leave(str(error))
            raise
        return source

    def _add(self, identity: SourceIdentity) -> RemoteSource:
        if identity.name in self._broker.sources:
            raise UsageError(
                f"this broker itself runs a source named {identity.name}",
                hint="Give each source a unique name.",
            )
        if len(self._broker.sources) >= MAX_SOURCES:
            self._forget_one()
        source = self._sources[identity.name] = RemoteSource(identity, self._supply)
        self._broker.add_source(source)
        return source

    def _forget_one(self) -> None:
        """Drop the oldest disconnected source."""
        for name, source in self._sources.items():
            if not source.present:
                self._forget(name)
                return
        raise UsageError(
            f"too many sources: a receipt has room for {MAX_SOURCES}", hint="Stop one of the sources."
        )

    def _forget(self, name: str) -> None:
        source = self._sources.pop(name)
        del self._broker.sources[name]
        self._supply.remove(source.depot)


def _absent(identity: SourceIdentity, why: str) -> SourceReport:
    return SourceReport(
        identity=identity,
        state=SourceState.OFF,
        paused=False,
        health_epoch=0,
        raw_bytes=0,
        tested_bytes=0,
        discarded_bytes=0,
        assessed_bits=0,
        conditioned_bits=0,
        raw_rate_bytes_per_s=0.0,
        health_failures=0,
        reconnects=0,
        last_error=why,
    )
