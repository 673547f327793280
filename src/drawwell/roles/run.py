"""Runs all roles of a configuration in one process, until stopped."""

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
from drawwell.links.identity import LINKS
from drawwell.links.memory import MemoryLink
from drawwell.ports import Sink, Upstream
from drawwell.roles.broker_process import BrokerProcess
from drawwell.roles.certificate_renewal import keep_renewed
from drawwell.roles.consumer import ConsumerRole
from drawwell.roles.directories import make_run_dir
from drawwell.roles.joined_links import JoinedLinks
from drawwell.roles.make_links_and_sinks import make_sink
from drawwell.service import loops
from drawwell.service.status import ServiceStatus
from drawwell.service.systemd import Manager
from drawwell.sinks.kernel import KernelSink, require_privilege
from drawwell.units import format_size

log = logging.getLogger("drawwell")


class RunProcess:
    """One process's roles: a broker if it has sources, a consumer per sink.

    Args:
        config: The configuration.
        load: Reads the configuration again after SIGHUP.
        consumers: Also run the sinks; False if the process only serves.
        apart: Open no sources, because each one runs in its own process and sends deposits.
        manager: The service manager.
        note: A further note for the status; "" for none.

    Raises:
        PermissionRefused: feeding the kernel requires CAP_SYS_ADMIN; nothing was drawn.
        ConfigError: there is nothing to run.
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
        self._joined: list[JoinedLinks] = []
        self._links_are_stale = asyncio.Event()
        self._reload_asked = asyncio.Event()
        self._not_reloaded = ""
        self.generations = Generations(self._restart, manager.opened("copies") if manager else ())
        if config.serves or apart:
            make_run_dir(config.broker.run_dir)  # a guest's FIFO is created here before any door opens
        sinks = self._make_sinks(config) if consumers else []
        self.station = (
            BrokerProcess(config, manager, apart=apart, sinks=sinks, notes=self._notes)
            if config.serves or apart
            else None
        )
        self._consumers = self._make_consumers(config, sinks)
        if not self.station and not self._consumers:
            raise ConfigError(
                "nothing to run: the configuration has no source and no sink",
                hint="Add a [[source]], or [kernel] feed = true with an [[upstream]]; see 'drawwell config sample'.",
            )

        self._tending = ServiceStatus(
            manager or Manager({}), ready=self._ready, status=self._status_line, alive=self._alive
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set or a role fails; close devices, then the state.

        Raises:
            DrawwellError: the first failure of a role.
        """
        try:
            async with asyncio.TaskGroup() as group:
                served = group.create_task(self.station.run()) if self.station else None
                tasks = [group.create_task(consumer.run()) for consumer in self._consumers]
                tasks.append(group.create_task(keep_renewed(self._identities(), self._follow)))
                tasks.append(group.create_task(self.generations.listen()))
                tasks.append(group.create_task(self._close_stale_links()))
                tasks.append(group.create_task(self._reload_when_asked()))
                tasks.append(group.create_task(self._tending.run()))
                await stop.wait()
                self._tending.stopping()
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                if served:
                    served.cancel()
        except* DrawwellError as errors:
            raise _first(errors) from None

    def reload_soon(self) -> None:
        """Schedule a reload of the configuration."""
        self._reload_asked.set()

    async def _reload_when_asked(self) -> None:
        while True:
            await self._reload_asked.wait()
            self._reload_asked.clear()
            await self.reload()

    async def reload(self) -> None:
        """Reload and apply the configuration; on an error, nothing changes.

        Draws continue in the meantime, even if a signer is slow.
        """
        self._tending.reloading()
        self._not_reloaded = ""
        try:
            config = self._load()
            if self.station:
                await self.station.reload(config)
        except DrawwellError as error:
            faults = error.faults if isinstance(error, ConfigError) else ()
            log.error("cannot reload the configuration: %s", error)
            for fault in faults:
                log.error("%s", fault)
            self._not_reloaded = f"the configuration was not reloaded: {'; '.join(faults) or error}"
        self._tending.ready_again()

    async def _ready(self) -> None:
        if self.station:
            await self.station.ready()

    def _status_line(self) -> str:
        """Return the state in one line."""
        status_line = (
            [self.station.status_line(), self.station.fault()]
            if self.station
            else map(_sink_status, self._consumers)
        )
        return "; ".join(filter(None, (*status_line, self._not_reloaded)))

    def _alive(self) -> bool:
        return self.station is None or self.station.alive

    def _restart(self) -> None:
        if self.station:
            self.station.restart()
        self._links_are_stale.set()

    async def _close_stale_links(self) -> None:
        """End sessions that a copy of this machine may share; they reopen on use."""
        while True:
            await self._links_are_stale.wait()
            self._links_are_stale.clear()
            for joined in self._joined:
                await joined.upstream.aclose()

    def _copies(self) -> str:
        copies = self.generations.copies
        return (
            f"this machine was copied or restored (count: {copies}); dropped the reservoir and generators"
            if copies
            else ""
        )

    def _notes(self) -> tuple[str, ...]:
        return self._copies(), self._not_reloaded, self._note

    def _make_sinks(self, config: Config) -> list[Sink]:
        """Make the configured sinks, followed by the kernel's."""
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
            return credit(station.broker.evidence if station else None, config.kernel.credit)

        return KernelSink(
            credit=earned,
            interval_s=config.kernel.interval,
            chunk_bytes=config.kernel.amount,
        )

    def _identities(self) -> list[tuple[Upstream, str]]:
        """Return the links that this process renews, without duplicates."""
        if not self._consumers or not self._config.upstreams:
            return []
        return JoinedLinks(self._config.upstreams, _links_dir(self._config)).identities()

    def _follow(self) -> None:
        for joined in self._joined:
            joined.refresh()

    def _upstream(self, config: Config, name: str) -> Upstream:
        """Return the configured brokers, or the broker in this process."""
        if config.draws_elsewhere:
            self._joined.append(JoinedLinks(config.upstreams, _links_dir(config), config.links.mix))
            return self._joined[-1].upstream
        if self.station is None:
            raise ConfigError("nothing to draw from", hint="Add a [[source]] or an [[upstream]].")
        return MemoryLink(self.station.broker, name)


def _sink_status(consumer: ConsumerRole) -> str:
    """Return a sink's state in one line."""
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
    """Run in the foreground: stop on SIGINT and SIGTERM, reload on SIGHUP.

    `factory` creates the loop (`service/loops.py`).

    Raises:
        DrawwellError: as for `RunProcess.run`.
    """

    async def live() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, process.reload_soon)
        loop.call_soon(started)
        await process.run(stop)

    loops.run(live(), factory)
