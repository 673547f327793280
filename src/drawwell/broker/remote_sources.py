"""Noise sources in processes of their own, as their broker has them: who is there, who is gone, and what comes in.

A source that is gone stays in the picture, and says so. What it deposited lies in the reservoir: it was conditioned
and belongs to nobody else.
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

_NEVER: Final = "no process of this source has come yet; 'drawwell source run {0}' starts it"
_GONE_HINT: Final = (
    "Start it again: 'drawwell source run {0}', or its unit, drawwell-source@ or drawwell-named@."
)


class SourceConnection(Protocol):
    """The way to the source's process."""

    @property
    def anew(self) -> bool:
        """Was it told to begin anew, and has not answered?"""

    def want(self, *, wanted: bool) -> None:
        """Say that bytes are wanted, or not."""

    def restart(self) -> None:
        """Have it use nothing that it has read so far."""

    async def command(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Have a verb carried out; raises SourceUnavailable when the process goes before it answers."""


class RemoteSource:
    """One source that deposits from a process of its own (`ports.Source`).

    Args:
        identity: As far as it is known before it came.
        supply: What it deposits into.
        why: Why it is not there; "" for one that has never come.
    """

    def __init__(self, identity: SourceIdentity, supply: Supply, why: str = "") -> None:
        self._changed: Callable[[], None] = lambda: None
        self._report = _absent(identity, why or _NEVER.format(identity.name))
        self._caller: SourceConnection | None = None
        self._condemned = ""
        self.depot = supply.depot(self)

    def when_changed(self, notify: Callable[[], None]) -> None:
        """Call `notify` at each change (ports.Source)."""
        self._changed = notify

    @property
    def name(self) -> str:
        """Its name, which it came with."""
        return self._report.identity.name

    @property
    def present(self) -> bool:
        """Is its process there?"""
        return self._caller is not None

    @property
    def healthy(self) -> bool:
        """May its bytes be counted on now?"""
        caller, report = self._caller, self._report
        return (
            caller is not None
            and not self._condemned
            and not caller.anew
            and report.state is SourceState.HEALTHY
            and not report.paused
        )

    @property
    def origin(self) -> NoiseOrigin:
        """What is recorded with the bytes that it gives now."""
        return NoiseOrigin(self._report.identity, self._report.health_epoch)

    @property
    def health_epoch(self) -> int:
        """How often its process has passed the start-up tests."""
        return self._report.health_epoch

    @property
    def supply_bytes_per_s(self) -> float:
        """Full-entropy bytes a second while it is being read, by its own account."""
        report = self._report
        share = report.conditioned_bits / 8 / report.tested_bytes if report.tested_bytes else 0.0
        return share * report.raw_rate_bytes_per_s

    @property
    def wanted(self) -> bool:
        """Should its process read now?"""
        return self.depot.wanted and not self._condemned

    def report(self) -> SourceReport:
        """The source as it said last, or how it is gone."""
        if not self._condemned:
            return self._report
        return replace(
            self._report, state=SourceState.PERMANENT_FAILURE, paused=False, last_error=self._condemned
        )

    def condemn(self, why: str) -> None:
        """Fail for good, until an operator's reset; its process may come and go meanwhile."""
        self._condemned = why
        self.wake()
        log.error("%s: %s", self.name, why)
        self._changed()

    def restart(self) -> None:
        """Have it begin anew; it counts for nothing until it says that it did."""
        self.depot.wipe()
        if self._caller:
            self._caller.restart()
            self._changed()

    async def command(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Have its process carry out an operator's verb."""
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
        """Tell its process, when it is there, whether bytes are wanted."""
        if self._caller:
            self._caller.want(wanted=self.wanted)

    def take(self, deposit: Deposit) -> None:
        """Take over a deposit, which was judged."""
        assert isinstance(deposit.data, bytearray)  # noqa: S101  decoded: or else it is a bug of ours
        spoilt_bytes, data = deposit.spoilt_bytes, deposit.data
        if not self.healthy:  # what it gives while it is not counted on is vouched for by nothing
            spoilt_bytes, data = spoilt_bytes + len(data), bytearray()
        self.depot.take_over(Bits(deposit.assessed_bits), spoilt_bytes, FullEntropy(data))

    def arrive(self, caller: SourceConnection, report: SourceReport) -> None:
        """Have it present; raises as `update`."""
        self._claim(report)
        self._caller = caller
        log.info("%s: its process has come", self.name)
        self.update(report)

    def update(self, report: SourceReport) -> None:
        """Take its word for what it is now.

        Raises:
            SourceRejected: another source reads that device.
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
        """Have it gone."""
        self._caller = None
        self.depot.release()
        if why != self._report.last_error:
            log.warning("%s: %s", self.name, why)
        self._report = replace(
            self._report, state=SourceState.OFF, paused=False, stalled=False, last_error=why
        )
        self._changed()


class RemoteSources:
    """Takes sources in as they come, for one broker.

    Args:
        broker: Counts on them.
        supply: What they deposit into.
        expected: The sources of the configuration: each is missed until it comes.
    """

    def __init__(self, broker: LocalBroker, supply: Supply, expected: tuple[SourceSection, ...] = ()) -> None:
        self._broker = broker
        self._supply = supply
        self._sources: dict[str, RemoteSource] = {}
        self._expected: set[str] = set()
        self.expect(expected)

    def expect(self, expected: Iterable[SourceSection]) -> None:
        """Take over the sources of a new configuration; an absent one that is not in it goes."""
        sections = {each.name: each for each in expected}
        for name in [name for name in self._expected - sections.keys() if name in self._sources]:
            if not self._sources[name].present:
                self._forget(name)
        for name, section in sections.items():
            if name not in self._broker.sources:
                self._add(SourceIdentity(name, section.driver, section.path))
        self._expected = set(sections)

    def arrive(self, caller: SourceConnection, report: SourceReport) -> RemoteSource:
        """Take in a source.

        Raises:
            UsageError: one of that name is here, or it is no name, or there is no room.
            SourceRejected: another source reads its device.
        """
        name = report.identity.name
        try:
            NAME.parse(name)
        except ValueError as error:
            raise UsageError(f"no source is called so: {error}", hint="Give it another name.") from None
        source = self._sources.get(name)
        if source is None:
            source = self._add(report.identity)
        elif source.present:
            raise UsageError(
                f"a source named {name} deposits here already", hint="Give each source a name of its own."
            )
        # the last one to come is the last to be forgotten
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
                f"this broker runs a source named {identity.name} itself",
                hint="Give each source a name of its own.",
            )
        if len(self._broker.sources) >= MAX_SOURCES:
            self._forget_one()
        source = self._sources[identity.name] = RemoteSource(identity, self._supply)
        self._broker.add_source(source)
        return source

    def _forget_one(self) -> None:
        """Make room, for which the one goes that was gone first."""
        for name, source in self._sources.items():
            if not source.present:
                self._forget(name)
                return
        raise UsageError(
            f"a receipt names every source, and has room for {MAX_SOURCES}", hint="Have fewer sources."
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
