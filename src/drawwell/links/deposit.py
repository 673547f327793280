"""A noise source's way to a broker in another process: deposits go one way, wishes and commands the other.

The link comes and goes, the source's health does not. What was conditioned while there was no broker, or too late to be
sent, is overwritten; nothing is kept for later, and nothing is sent twice.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from drawwell.backoff import Backoff
from drawwell.entropy.blocks import FullEntropy, TestedBlock
from drawwell.errors import DrawwellError, LinkUnavailable
from drawwell.links.connect_unix import connect_unix
from drawwell.links.deposit_protocol import DepositProtocol
from drawwell.links.socket_file import check_place
from drawwell.ports import Depositing, Source
from drawwell.reports import SourceIdentity

FIRST_RETRY_S: Final = 0.25
LAST_RETRY_S: Final = 2.0
OPEN_DEADLINE_S: Final = 10.0

log = logging.getLogger("drawwell.source")


class DepositLink:
    """What a source deposits into when its broker is another process (`ports.Depot`).

    Args:
        path: The broker's socket for deposits.
        changed: Called when a broker was found or lost, and when the source has changed.
    """

    def __init__(self, path: str, changed: Callable[[], None] = lambda: None) -> None:
        self.path = path
        self.waiting_because = "it has not been tried yet"
        """Why there is no broker now, "" when there is one."""
        self._changed = changed
        self._wake: Callable[[], None] = lambda: None
        self._protocol: DepositProtocol | None = None
        self._leaving = False

    # ---- what the source sees ------------------------------------------------------------------------------

    @property
    def wanted(self) -> bool:
        """Does a broker want bytes, and read them?"""
        return self._protocol is not None and self._protocol.ready and self._protocol.wanted

    def depot(self, source: Depositing) -> "DepositLink":
        """Take the one source that deposits here; its broker hears of it by its reports."""
        self._wake = source.wake
        return self

    def claim(self, identity: SourceIdentity) -> None:
        """Leave it to the broker, which sees the device in the reports."""

    def release(self) -> None:
        """Leave it to the broker."""

    def wipe(self) -> None:
        """Leave it to the broker: what was deposited is there."""

    def assess(self, block: TestedBlock) -> None:
        """Count a block that passed the health tests."""
        if self._protocol:
            self._protocol.assessed_bits += block.assessed

    def deposit(self, output: FullEntropy) -> None:
        """Send one conditioned output, with others of this turn; without a broker that reads, it is lost."""
        if self._protocol:
            self._protocol.put(output.data)
        output.data[:] = bytes(len(output))

    def divert(self, output: FullEntropy) -> None:
        """Count an output that went to a test instead."""
        if self._protocol:
            self._protocol.spoilt_bytes += len(output)

    # ---- the connection ------------------------------------------------------------------------------------

    async def run(self, source: Source, begin: Callable[[], None]) -> None:
        """Have the source known to a broker, whenever there is one, until cancelled.

        Args:
            source: Who deposits; this is notified of its changes.
            begin: Called at each connection: drops what waits to be conditioned.
        """
        source.when_changed(self.tell)
        backoff = Backoff(FIRST_RETRY_S, LAST_RETRY_S)
        while not self._leaving:
            try:
                await self._live(source, begin)
            except DrawwellError as error:
                if not self.waiting_because:
                    backoff.reset()
                self._lost(error)
            await asyncio.sleep(backoff.next_s())

    def tell(self) -> None:
        """Tell what the source is now."""
        if self._protocol:
            self._protocol.report()
        self._changed()

    async def leave(self, reason: str) -> None:
        """Say the last word; what the source is now stands before it."""
        self._leaving = True
        if self._protocol:
            self._protocol.report()
            self._protocol.leave(reason)
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._protocol.ended.wait()

    async def _live(self, source: Source, begin: Callable[[], None]) -> None:
        protocol = await self._connect(source)
        try:
            async with asyncio.timeout(OPEN_DEADLINE_S):
                await asyncio.shield(protocol.taken)
            begin()
            self._protocol = protocol
            self.waiting_because = ""
            log.info("%s: deposits at %s", source.name, self.path)
            self.tell()
            self._wake()
            await protocol.converse()
        except TimeoutError:
            raise LinkUnavailable("the broker does not answer") from None
        finally:
            self._protocol = None
            protocol.drop()

    async def _connect(self, source: Source) -> DepositProtocol:
        loop = asyncio.get_running_loop()
        try:
            check_place(self.path)
            _, protocol = await loop.create_unix_connection(
                lambda: DepositProtocol(source, self._turned), sock=await connect_unix(self.path)
            )
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise LinkUnavailable(f"no broker takes deposits at {self.path}: {why}") from None
        return protocol

    def _turned(self) -> None:
        if self._protocol:
            self._wake()

    def _lost(self, error: DrawwellError) -> None:
        if str(error) != self.waiting_because and not self._leaving:
            hint = f" {error.hint}" if error.hint else ""
            log.warning("%s; it is tried again and again.%s", error, hint)
            self.waiting_because = str(error)
            self._changed()
