"""A source's link for deposits to a broker in another process.

Losing the link does not affect the source's health. Bytes that are conditioned while no broker
is connected, or too late to be sent, are overwritten. Bytes are never kept for later or sent
twice.
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
    """A source's depot at a broker in another process (`ports.Depot`).

    Args:
        path: The broker's deposit socket.
        changed: Called when a broker connects or disconnects, and when the source changes.
    """

    def __init__(self, path: str, changed: Callable[[], None] = lambda: None) -> None:
        self.path = path
        self.waiting_because = "not connected yet"
        """Why no broker is connected, or "" if a broker is connected."""
        self._changed = changed
        self._wake: Callable[[], None] = lambda: None
        self._protocol: DepositProtocol | None = None
        self._leaving = False

    # ---- for the source --------------------------------------------------------------------

    @property
    def wanted(self) -> bool:
        """Whether a broker is connected, wants bytes, and reads them."""
        return self._protocol is not None and self._protocol.ready and self._protocol.wanted

    def depot(self, source: Depositing) -> "DepositLink":
        """Attach the only source of this link."""
        self._wake = source.wake
        return self

    def claim(self, identity: SourceIdentity) -> None:
        """Do nothing, because the source's reports include the device."""

    def release(self) -> None:
        """Do nothing, because the broker releases the device."""

    def wipe(self) -> None:
        """Do nothing, because the broker has the deposits."""

    def assess(self, block: TestedBlock) -> None:
        """Count a block that passed the health tests."""
        if self._protocol:
            self._protocol.assessed_bits += block.assessed

    def deposit(self, output: FullEntropy) -> None:
        """Send an output; it is lost if no broker reads it."""
        if self._protocol:
            self._protocol.put(output.data)
        output.data[:] = bytes(len(output))

    def divert(self, output: FullEntropy) -> None:
        """Count an output that was used for a test."""
        if self._protocol:
            self._protocol.spoilt_bytes += len(output)

    # ---- the connection --------------------------------------------------------------------

    async def run(self, source: Source, begin: Callable[[], None]) -> None:
        """Keep the source connected to a broker until cancelled.

        Args:
            source: The depositing source; its changes are reported.
            begin: Called for each connection, to drop samples that wait for conditioning.
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
        """Report the source's current state."""
        if self._protocol:
            self._protocol.report()
        self._changed()

    async def leave(self, reason: str) -> None:
        """Send the last report and a goodbye."""
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
            log.info("%s: now depositing at %s", source.name, self.path)
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
            raise LinkUnavailable(f"no broker accepts deposits at {self.path}: {why}") from None
        return protocol

    def _turned(self) -> None:
        if self._protocol:
            self._wake()

    def _lost(self, error: DrawwellError) -> None:
        if str(error) != self.waiting_because and not self._leaving:
            hint = f" {error.hint}" if error.hint else ""
            log.warning("%s; retrying.%s", error, hint)
            self.waiting_because = str(error)
            self._changed()
