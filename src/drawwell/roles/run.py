"""All roles that a configuration names, in one process, until they are told to stop."""

import asyncio
import logging
import os
import random
import signal
from collections.abc import Callable

from drawwell.broker.identities import KERNEL
from drawwell.config.defaults import LOCAL
from drawwell.config.model import Config
from drawwell.entropy.blocks import DrawClass
from drawwell.entropy.credit import credit
from drawwell.errors import ConfigError, DrawwellError
from drawwell.host.generation import Generations
from drawwell.links.failover import Failover
from drawwell.links.identity import LINKS
from drawwell.links.memory import MemoryLink
from drawwell.ports import Sink, Upstream
from drawwell.reports import Evidence
from drawwell.roles.broker_process import BrokerProcess
from drawwell.roles.certificate_renewal import keep_renewed
from drawwell.roles.consumer import ConsumerRole
from drawwell.roles.directories import make_run_dir
from drawwell.roles.make_links_and_sinks import identity_directory, make_sink, make_upstream
from drawwell.service import loops
from drawwell.service.status import ServiceStatus
from drawwell.service.systemd import Manager
from drawwell.sinks.kernel import KernelSink, require_privilege
from drawwell.units import format_size

log = logging.getLogger("drawwell")


class RunProcess:
    """One process's roles: a broker where there are sources, a consumer for each sink.

    Args:
        config: What the operator wants.
        load: Reads the configuration again, for SIGHUP.
        consumers: Also run the sinks; False for a process that only serves.
        apart: Open no source: each runs in a process of its own, and deposits.
        manager: Who started this process.
        note: What else the status should hold; "" for nothing.

    Raises:
        PermissionRefused: the kernel is to be fed and CAP_SYS_ADMIN is missing; nothing was drawn.
        ConfigError: nothing to do.
    """

    def __init__(
        self,
        config: Config,
        load: Callable[[], Config],
        *,
        consumers: bool = True,
        apart: bool = False,
        manager: Manager | None = None,
        note: str = "",
    ) -> None:
        if consumers and config.kernel.feed:
            require_privilege()
        self._load = load
        self._note = note
        self._config = config
        self._links: list[Upstream] = []
        self._links_are_stale = asyncio.Event()
        self._not_reloaded = ""
        self.generations = Generations(self._restart, manager.opened("copies") if manager else ())
        if config.serves or apart:
            make_run_dir(config.broker.run_dir)  # a guest's FIFO is made in it, before any door opens
        sinks = self._make_sinks(config) if consumers else []
        self.station = (
            BrokerProcess(config, manager, apart=apart, sinks=sinks, notes=self._notes)
            if config.serves or apart
            else None
        )
        self._consumers = self._make_consumers(config, sinks)
        if not self.station and not self._consumers:
            raise ConfigError(
                "nothing to run: no source, and nothing to pour into",
                hint="Add a [[source]], or [kernel] feed = true with an [[upstream]]; see 'drawwell config sample'.",
            )

        self._tending = ServiceStatus(
            manager or Manager({}), ready=self._ready, status=self._words, alive=self._alive
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set or a role fails; consumers go first, devices and state last.

        Raises:
            DrawwellError: the first failure of a role.
        """
        try:
            async with asyncio.TaskGroup() as group:
                served = group.create_task(self.station.run()) if self.station else None
                poured = [group.create_task(consumer.run()) for consumer in self._consumers]
                poured.append(group.create_task(keep_renewed(self._identities())))
                poured.append(group.create_task(self.generations.listen()))
                poured.append(group.create_task(self._close_stale_links()))
                poured.append(group.create_task(self._tending.run()))
                await stop.wait()
                self._tending.stopping()
                for task in poured:
                    task.cancel()
                await asyncio.wait(poured)
                if served:
                    served.cancel()
        except* DrawwellError as errors:
            raise _first(errors) from None

    def reload(self) -> None:
        """Read the configuration again and take over what can change; faults leave everything as it was."""
        self._tending.reloading()
        self._not_reloaded = ""
        try:
            config = self._load()
            if self.station:
                self.station.reload(config)
        except DrawwellError as error:
            faults = error.faults if isinstance(error, ConfigError) else ()
            log.error("not reloaded: %s", error)
            for fault in faults:
                log.error("%s", fault)
            self._not_reloaded = f"the configuration was not read again: {'; '.join(faults) or error}"
        self._tending.ready_again()

    async def _ready(self) -> None:
        if self.station:
            await self.station.ready()

    def _words(self) -> str:
        """Say in a line how it does."""
        words = (
            [self.station.words(), self.station.fault()] if self.station else map(_poured, self._consumers)
        )
        return "; ".join(filter(None, (*words, self._not_reloaded)))

    def _alive(self) -> bool:
        return self.station is None or self.station.alive

    def _restart(self) -> None:
        if self.station:
            self.station.restart()
        self._links_are_stale.set()

    async def _close_stale_links(self) -> None:
        """End the sessions that a copy of this machine has, too; they open again by themselves."""
        while True:
            await self._links_are_stale.wait()
            self._links_are_stale.clear()
            for link in self._links:
                await link.aclose()

    def _copies(self) -> str:
        copies = self.generations.copies
        return (
            f"this machine was copied or restored, times: {copies}; reservoir and generators were dropped"
            if copies
            else ""
        )

    def _notes(self) -> tuple[str, ...]:
        return self._copies(), self._not_reloaded, self._note

    def _make_sinks(self, config: Config) -> list[Sink]:
        """Make the sinks of the configuration, and the kernel's after them."""
        sinks = [make_sink(section) for section in config.sinks]
        return [*sinks, self._kernel_sink(config)] if config.kernel.feed else sinks

    def _make_consumers(self, config: Config, sinks: list[Sink]) -> list[ConsumerRole]:
        draws = [(LOCAL, DrawClass(section.draw_class)) for section in config.sinks]
        draws.append((KERNEL, DrawClass.FULL))
        return [
            ConsumerRole(self._upstream(config, name), sink, draw_class, jitter=random.random)
            for (name, draw_class), sink in zip(draws, sinks, strict=False)
        ]

    def _kernel_sink(self, config: Config) -> KernelSink:
        def earned() -> float:
            station = None if config.draws_elsewhere else self.station
            return credit(station.broker.evidence if station else Evidence.UNVOUCHED, config.kernel.credit)

        return KernelSink(
            credit=earned,
            interval_s=config.kernel.interval,
            chunk_bytes=config.kernel.amount,
        )

    def _identities(self) -> list[tuple[Upstream, str]]:
        """The links whose certificates this process keeps renewed: each once, whatever the number of sinks."""
        if not self._consumers:
            return []
        links_dir = _links_dir(self._config)
        return [
            (make_upstream(section, links_dir), identity_directory(section, links_dir))
            for section in self._config.upstreams
            if section.joined
        ]

    def _upstream(self, config: Config, name: str) -> Upstream:
        """Return the brokers that the configuration names, or the one in this process."""
        if config.draws_elsewhere:
            links = [make_upstream(section, _links_dir(config)) for section in config.upstreams]
            self._links += links
            return Failover(links, jitter=random.random, mix=config.links.mix)
        if self.station is None:
            raise ConfigError("nothing to draw from", hint="Add a [[source]] or an [[upstream]].")
        return MemoryLink(self.station.broker, name)


def _poured(consumer: ConsumerRole) -> str:
    """Say how a sink does."""
    report = consumer.report
    fed = f"{report.name}: {format_size(report.delivered_bytes)} delivered"
    return f"{fed}, {consumer.last_error}" if consumer.last_error else fed


def _links_dir(config: Config) -> str:
    return os.path.join(config.broker.state_dir, LINKS)


def _first(errors: BaseExceptionGroup[DrawwellError]) -> DrawwellError:
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def run_until_signal(
    process: RunProcess,
    started: Callable[[], None],
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """Run in the foreground: SIGINT and SIGTERM stop, SIGHUP reloads.

    `factory` makes the loop (`service/loops.py`).

    Raises:
        DrawwellError: as `RunProcess.run`.
    """

    async def live() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, process.reload)
        loop.call_soon(started)
        await process.run(stop)

    loops.run(live(), factory)
