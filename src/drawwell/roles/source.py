"""The source role: runs one noise source from driver to reservoir.

Unplugging, I/O errors, stalls and replugging are expected. Each one causes a specific error, a
pause and new start-up tests. Earlier samples that are not conditioned yet are discarded.
"""

import asyncio
import base64
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from drawwell.backoff import Backoff
from drawwell.entropy.blocks import FullEntropy, NoiseOrigin, RawBlock, TestedBlock, joined
from drawwell.entropy.conditioning import Conditioner
from drawwell.entropy.health import HealthMonitor
from drawwell.errors import (
    DrawwellError,
    IntermittentHealthFailure,
    PermanentHealthFailure,
    SourceError,
    SourceRejected,
    SourceStalled,
    SourceUnavailable,
    UsageError,
)
from drawwell.ports import Depositing, Depot, NoiseSource
from drawwell.reports import Firmware, SourceReport, SourceState, as_json
from drawwell.roles.source_commands import READING, DriverCommand, WatchedDriver, consequence, handout_bytes
from drawwell.roles.source_counters import SourceCounters
from drawwell.service.faults import log_fault

log = logging.getLogger("drawwell.source")
P = ParamSpec("P")
T = TypeVar("T")

READ_BYTES = 4096
SLICE_BYTES = 1024
"""Bytes tested in one iteration of the event loop; the test takes as long as a draw."""
IDLE_PROBE_S, LONGEST_PROBE_S, IDLE_SHARE = 1.0, 5.0, 1 / 5
"""Reads without demand: the least and the greatest pause between them, and a slow source's
share of the time. They detect an unplugged stick. A paused stick is sent a command instead, so
if a guest takes the stick, its node is released."""
FIRST_RETRY_S = 0.25
LAST_RETRY_S = 5.0


class SourceRole:
    """Runs one noise source for a depot.

    Args:
        driver: The source's driver.
        monitor: The source's health tests; their state survives every reconnect (law 11).
        depot: Returns the depot for conditioned bytes.
        clock: Seconds; never goes back.
        ends: Returns whether a failure ends `run`; by default, no failure does.
    """

    def __init__(
        self,
        driver: NoiseSource,
        monitor: HealthMonitor,
        depot: Callable[[Depositing], Depot],
        clock: Callable[[], float],
        *,
        ends: Callable[[DrawwellError], bool] = lambda _error: False,
    ) -> None:
        self._driver = WatchedDriver(driver)
        self._log = logging.LoggerAdapter(log, {"source": driver.identity.name})
        self._monitor = monitor
        self._clock = clock
        self._ends = ends
        self._conditioner = Conditioner()
        self._count = SourceCounters()
        self._commands: asyncio.Queue[DriverCommand] = asyncio.Queue()
        self._wake = asyncio.Event()
        self._paused = self._open = self._stalled = False
        self._last_error = ""
        self._divert: bytearray | None = None
        self._restarts, self._took_s = 0, 0.0
        self._changed: Callable[[], None] = lambda: None
        self._depot = depot(self)

    def when_changed(self, notify: Callable[[], None]) -> None:
        """Set the function to call on each change; see ports.Source."""
        self._changed = notify

    @property
    def name(self) -> str:
        """The source's name in the configuration."""
        return self._driver.identity.name

    @property
    def healthy(self) -> bool:
        """Whether the source's bytes are usable now."""
        return self._monitor.state is SourceState.HEALTHY and not self._paused

    @property
    def alive(self) -> bool:
        """Whether the driver's calls end in bounded time, as required."""
        return self._driver.alive

    @property
    def origin(self) -> NoiseOrigin:
        """The origin that is recorded with bytes from now on."""
        return NoiseOrigin(self._driver.identity, self._monitor.epoch)

    def wake(self) -> None:
        """Notify the source that the depot's demand has changed."""
        self._wake.set()

    def condemn(self, why: str) -> None:
        """Fail permanently, until an operator resets the source."""
        self._monitor.condemn(why)
        self._wake.set()
        self._changed()

    @property
    def health_epoch(self) -> int:
        """The number of times that the source has passed its start-up tests."""
        return self._monitor.epoch

    @property
    def supply_bytes_per_s(self) -> float:
        """Full-entropy bytes per second of reading; 0 until measured."""
        return self._count.supply_bytes_per_s

    def report(self) -> SourceReport:
        """Return the source's current report."""
        count = self._count
        return SourceReport(
            identity=self._driver.identity,
            state=self._monitor.state,
            paused=self._paused,
            health_epoch=self._monitor.epoch,
            raw_bytes=count.raw_bytes,
            tested_bytes=count.tested_bytes,
            discarded_bytes=count.discarded_bytes,
            assessed_bits=count.assessed_bits,
            conditioned_bits=count.conditioned_bits,
            raw_rate_bytes_per_s=count.raw_bytes_per_s,
            health_failures=self._monitor.failures,
            reconnects=count.reconnects,
            last_error=self._last_error,
            tests=self._monitor.reports(),
            stalled=self._stalled,
            startup_bytes=self._monitor.startup_bytes,
            drift=self._monitor.most_common.report(),
            startup_left_s=self._monitor.startup_left_s(self._clock()),
        )

    def restart(self) -> None:
        """Discard all samples, which a copy may share; repeat the start-up tests."""
        self._restarts += 1
        self.drop_pending()
        if self._open and self._monitor.state is not SourceState.PERMANENT_FAILURE:
            self._move(self._monitor.start)
        self._wake.set()
        self._changed()

    async def command(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """Run a verb between two reads.

        Raises:
            SourceUnavailable: the source is not open.
            UsageError: the source has no such verb.
        """
        command = DriverCommand(verb, args, asyncio.get_running_loop().create_future())
        self._commands.put_nowait(command)
        self._wake.set()
        return await command.done

    def drop_pending(self) -> None:
        """Drop samples and outputs that have not reached the reservoir."""
        self._conditioner.discard()
        self._depot.wipe()

    async def run(self) -> None:
        """Run the source until cancelled.

        Raises:
            SourceError: a failure that ends the source.
        """
        backoff, read_bytes = Backoff(FIRST_RETRY_S, LAST_RETRY_S), 0
        try:
            while True:
                try:
                    await self._live()
                except SourceUnavailable as error:
                    if self._count.raw_bytes > read_bytes:  # opening a silent device is not a success
                        backoff.reset()
                        read_bytes = self._count.raw_bytes
                    await self._failed(error)
                    await self._wait(backoff.next_s())
                except (SourceRejected, PermanentHealthFailure) as error:
                    await self._failed(error)
                    await self._wait_for_reset()
        finally:
            await self._driver.aclose()

    def _move(self, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the monitor; report a new state at once: draws depend on it."""
        before = self._monitor.state
        try:
            return act(*args, **kwargs)
        finally:
            if self._monitor.state is not before:
                self._changed()

    async def _live(self) -> None:
        """Open and run the source until an error ends it."""
        self._open = False
        await self._driver.open()
        self._open = True
        self._depot.claim(self._driver.identity)
        self._last_error = ""
        self._move(self._monitor.start)
        self._log.info("%s: open, starting start-up tests%s", self._label, self._firmware_verdict)
        while True:
            await self._serve_commands()
            if self._paused or not (self._depot.wanted or self._monitor.state is not SourceState.HEALTHY):
                await self._wait(min(max(IDLE_PROBE_S, self._took_s / IDLE_SHARE), LONGEST_PROBE_S))
                if self._paused:
                    await self._driver.command("info", {})  # raises if the device is gone
                if self._paused or not self._commands.empty():
                    continue
            await self._read_block()

    async def _read_block(self) -> None:
        begun = self._clock()
        await asyncio.sleep(0)  # a driver that has bytes never waits, so yield to other tasks
        restarts = self._restarts
        raw = await self._driver.read(READ_BYTES)
        self._took_s = self._clock() - begun
        self._stalled = False
        self._count.raw_bytes += len(raw)
        tested = joined([])
        try:
            tested = joined(await self._test(raw, restarts))
        except IntermittentHealthFailure as error:
            self.drop_pending()
            self._note(error)
        finally:
            self._count.discarded_bytes += len(raw) - len(tested)
        if tested:
            self._count.note(tested)
            self._depot.assess(tested)
            self._deposit(self._conditioner.feed(tested))
            self._count.reading_s += self._clock() - begun

    async def _test(self, raw: RawBlock, restarts: int) -> list[TestedBlock]:
        """Test a block in slices; return the slices if the whole block passed."""
        passed = []
        for start in range(0, len(raw), SLICE_BYTES):
            if start:
                await asyncio.sleep(0)
            if restarts != self._restarts:  # the block may be from before the restart
                return []
            before, drifted = self._monitor.state, self._monitor.most_common.alarms
            tested = self._move(
                self._monitor.feed, RawBlock(raw.data[start : start + SLICE_BYTES]), self._clock()
            )
            if self._monitor.state is not before:
                self._log.info("%s: %s", self._label, self._monitor.state)
            if self._monitor.most_common.alarms > drifted:
                self._log.warning("%s: a value occurs more often than min_entropy allows", self._label)
            if tested is not None:
                passed.append(tested)
        return passed

    async def _failed(self, error: DrawwellError) -> None:
        """Close the source (OFF); discard what is not in the reservoir."""
        self._conditioner.discard()
        self._depot.release()
        self._move(self._monitor.stop)
        self._count.reconnects += self._open
        self._paused = False  # the device is gone; it is not paused when reopened
        self._stalled = isinstance(error, SourceStalled)
        await self._driver.aclose()
        self._note(error)
        while not self._commands.empty():
            self._commands.get_nowait().refuse(SourceUnavailable(str(error), hint=error.hint))
        if self._ends(error):
            raise error

    def _note(self, error: DrawwellError) -> None:
        if str(error) != self._last_error:
            self._log.warning(
                "%s: %s; %s", self._label, error, consequence(error, self.name, ends=self._ends(error))
            )
        self._last_error = str(error)
        self._changed()

    @property
    def _label(self) -> str:
        return f"{self.name} (simulated)" if self._driver.identity.simulated else self.name

    @property
    def _firmware_verdict(self) -> str:
        firmware, detail = self._driver.identity.firmware, self._driver.identity.firmware_detail
        return "" if firmware is Firmware.NOT_APPLICABLE else f"; firmware: {firmware} ({detail})"

    async def _wait(self, timeout_s: float | None) -> None:
        """Sleep until woken, but at most for `timeout_s`."""
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()

    async def _wait_for_reset(self) -> None:
        while True:
            await self._wait(None)
            while not self._commands.empty():
                command = self._commands.get_nowait()
                if command.verb == "reset":
                    self._move(self._monitor.reset)
                    command.answer({"reset": self.name})
                    return
                command.refuse(SourceUnavailable(self._last_error, hint=_RESET_HINT.format(self.name)))

    async def _serve_commands(self) -> None:
        while not self._commands.empty():
            command = self._commands.get_nowait()
            if command.done.done():  # the caller was cancelled
                continue
            try:
                command.answer(await self._carry_out(command.verb, command.args))
            except SourceUnavailable as error:
                command.refuse(SourceUnavailable(str(error), hint=error.hint))
                raise
            except DrawwellError as error:
                command.refuse(error)
            except Exception as error:  # noqa: BLE001 - the source must continue
                log_fault(f"{self.name}: the verb {command.verb!r}", error)
                command.refuse(SourceError(f"{self.name}: a bug in drawwell", hint="See the broker's log."))

    async def _carry_out(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        if verb == "reset":
            self._move(self._monitor.reset)
            self._move(self._monitor.start)
            return {"reset": self.name}
        if self._paused and verb in READING:
            raise UsageError(f"{self.name} is paused", hint="Run 'drawwell onerng resume' first.")
        if verb == "test":
            return await self._test_on_demand()
        if verb == "capture":
            return await self._capture(args)
        if verb == "sample":
            return await self._sample(args)
        result = await self._driver.command(verb, args)
        if verb in {"pause", "resume"}:
            self._paused = verb == "pause"
            self._changed()
        return result

    async def _test_on_demand(self) -> dict[str, Any]:
        """Run the start-up tests on request (SP 800-90B 4.2)."""
        self.drop_pending()
        self._move(self._monitor.start)
        while self._monitor.state is SourceState.STARTING:
            await self._read_block()
        return as_json(self.report())

    async def _capture(self, args: dict[str, Any]) -> dict[str, Any]:
        """Return raw samples for assessment; they are used for nothing else."""
        wanted = handout_bytes(args)
        samples = bytearray()
        while len(samples) < wanted:
            samples += (await self._driver.read(wanted - len(samples))).data
        self._count.discarded_bytes += len(samples)
        identity = self._driver.identity
        return {
            "data": base64.b64encode(samples).decode(), "noise": identity.noise, "simulated": identity.simulated,
        }  # fmt: skip

    async def _sample(self, args: dict[str, Any]) -> dict[str, Any]:
        """Return conditioned bytes for tests; the ledger counts them as discarded."""
        wanted = handout_bytes(args)
        sample = bytearray()
        self._divert = sample
        try:
            while len(sample) < wanted:
                await self._read_block()
        finally:
            self._divert = None
        return {"data": base64.b64encode(sample[:wanted]).decode()}

    def _deposit(self, output: FullEntropy) -> None:
        if not output:
            return
        self._count.conditioned_bits += 8 * len(output)
        if self._divert is None:
            self._depot.deposit(output)
        else:
            self._divert += output.data
            self._depot.divert(output)


_RESET_HINT = "Find the cause, then run 'drawwell source reset {0}'."
